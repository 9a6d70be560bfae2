"""Whatever happens is one line and an exit code of the table; 1 means a violated rule alone."""

import asyncio
import errno
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from robustmix.cli.app import run
from robustmix.errors import EXIT_CODES, LONGEST, UsageError, explained, out_of_memory
from tests.comparison.reports import base, damaged, saved


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


class Moody(BaseException):
    """What a foreign library may raise past every ``except Exception``."""


def raising(error: BaseException) -> Callable[[str], None]:
    def broken(text: str) -> None:
        raise error

    return broken


UNEXPECTED = [
    ZeroDivisionError("division by zero"),
    RecursionError("maximum recursion depth exceeded"),
    KeyError("x\x1b[2J\nGATE PASSED"),
    RuntimeError("y" * 10**6),
    UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates not allowed"),
    OSError("no number, no name"),
    Unprintable(),
    Moody("gone"),
    SystemExit(0),
    SystemExit(1),
    asyncio.CancelledError(),
]


@pytest.mark.parametrize("error", UNEXPECTED, ids=lambda error: type(error).__name__)
def test_the_unexpected_is_70(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("robustmix.cli.console.result", raising(error))
    assert run(["version"]) == 70
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error[E-INTERNAL]: {type(error).__name__}")
    assert "--debug" in line
    assert line.isprintable()
    assert len(line) < 2 * LONGEST
    for place in (["--debug", "version"], ["version", "--debug"]):
        with pytest.raises(type(error)):
            run(place)
    assert run(["version", "--", "--debug"]) in (2, 70)  # an argument, not the option


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 18 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_memory_that_ran_out_names_the_batch_size(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert out_of_memory(error)
    monkeypatch.setattr("robustmix.cli.console.result", raising(error))
    assert run(["version"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error[E-MEMORY]: ")
    assert "--batch-size" in line


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "r.json"), 3, "E-FILE"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 5000), 3, "E-FILE"),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "E-WRITE"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "r.json"), 4, "E-WRITE"),
        (OSError(errno.EROFS, "Read-only file system", "r.json"), 4, "E-WRITE"),
        (UsageError("no"), 2, "E-USAGE"),
        (RuntimeError("shapes differ; memory format"), 70, "E-INTERNAL"),
    ],
)
def test_what_the_user_can_mend_is_told_as_such(error: BaseException, code: int, name: str) -> None:
    told = explained(error)
    assert (told.exit_code, told.code) == (code, name)
    assert len(told.line()) < 3 * LONGEST


def test_the_table_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code}: {meaning.replace('`', '')}" in words


# closed pipes and full disks, in process: the verdict is that of the check


class Failing(io.StringIO):
    """A stream whose every write ends in one error."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("reports")
    saved(base(), place / "good")
    saved(damaged(), place / "bad")
    return place


@pytest.mark.parametrize(
    ("number", "report", "code"),
    [
        (errno.EPIPE, "good", 0),
        (errno.EPIPE, "bad", 1),
        (errno.ECONNRESET, "bad", 1),
        (errno.ENOSPC, "good", 4),
        (errno.ENOSPC, "bad", 4),
        (errno.EIO, "bad", 4),
    ],
)
def test_a_verdict_is_reached_whoever_reads_it(
    number: int,
    report: str,
    code: int,
    reports: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    command = ["check", str(reports / report), "--baseline", str(reports / "good")]
    monkeypatch.setattr(sys, "stdout", Failing(number))
    assert run(command) == code
    assert type(sys.stdout) is Failing
    err = capsys.readouterr().err
    assert ("error[E-WRITE]: cannot write to stdout: " in err) == (code == 4)
    monkeypatch.setattr(sys, "stderr", Failing(errno.EPIPE))
    assert run(command) == code


def test_what_a_locale_has_no_sign_for_is_written_as_an_escape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert run(["list", "suites"]) == 0
    sys.stdout.flush()
    assert raw.getvalue().isascii()
    assert b"clean" in raw.getvalue()


# in processes of their own: what is left when Python ends


SCRIPT = Path(sys.executable).with_name("robustmix")
PROGRAMS = [
    pytest.param([sys.executable, "-m", "robustmix"], id="module"),
    pytest.param(
        [str(SCRIPT)],
        id="script",
        marks=pytest.mark.skipif(not SCRIPT.exists(), reason="robustmix is not installed here"),
    ),
]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(
    ("where", "code", "said"),
    [
        ("| true", 0, ""),  # what reads the pipe is gone before it is written to
        ("2>&1 | true", 0, ""),
        ("> /dev/full", 4, "error[E-WRITE]: cannot write to stdout: No space left on device"),
        (">&-", 4, "error[E-WRITE]: cannot write to stdout: Bad file descriptor"),
    ],
)
def test_the_end_of_a_process(program: list[str], where: str, code: int, said: str) -> None:
    if shutil.which("bash") is None or not Path("/dev/full").exists():
        pytest.skip("no bash or /dev/full here")
    script = f'"$@" {where}; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *program, "version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == (1 if said else 0)


BROKEN = """
import sys
from robustmix.cli import console, main
def broken(text):
    raise LookupError("a fault of ours")
console.result = broken
sys.argv = ["robustmix", *sys.argv[1:]]
main()
"""
NOT_INSTALLED = "import sys; sys.modules['typer'] = None; from robustmix.cli import main; main()"


@pytest.mark.parametrize(
    ("code", "arguments", "last"),
    [
        (BROKEN, ["version"], "error[E-INTERNAL]: LookupError: a fault of ours; "),
        (BROKEN, ["version", "--debug"], "error[E-INTERNAL]: LookupError: a fault of ours; "),
        (BROKEN, ["list", "arch", "--debug"], "error[E-UNKNOWN-LIST]: "),
        (NOT_INSTALLED, ["version"], "error[E-INTERNAL]: ModuleNotFoundError: "),
    ],
)
def test_tracebacks_are_shown_on_request_and_never_exit_1(
    code: str, arguments: list[str], last: str
) -> None:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert done.returncode == (2 if "list" in arguments else 70)
    *before, line = done.stderr.splitlines()
    assert line.startswith(last)
    assert ("Traceback (most recent call last):" in before) == ("--debug" in arguments)
    assert bool(before) == ("--debug" in arguments)


def test_a_plugin_that_ends_the_program_does_not_pass_for_success(tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(0)\n")
    done = subprocess.run(
        [sys.executable, "-m", "robustmix", "version", "--import", str(tmp_path / "leaves.py")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("error[E-PLUGIN]: ")
