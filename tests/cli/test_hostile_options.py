"""Odd option strings and small hostile files: one clean line, a code of the table, within bounds.

Generated: every option of every suite, and the options of the other commands that take text, with
every odd string; every reader of a small file, with every odd file.
"""

import json
import os
import resource
import signal
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from robustmix.cli.app import run
from robustmix.errors import EXIT_CODES
from robustmix.evaluation.plan import every_option
from tests.training.runs import small_train

ODD = {
    "nothing": "",
    "blank": " ",
    "minus": "-",
    "nan": "nan",
    "infinity": "inf",
    "overflow": "1e999",
    "negative": "-1",
    "huge": "99999999999999999999",
    "digits": "9" * 5000,
    "letters": "a" * 10**6,
    "no fraction": "1/0",
    "many": "1-99999999",
    "fine steps": "0:1:1e-9",
    "brackets": "[" * 20_000,
    "dots": "a." * 50_000,
    "escape": "\x1b[2J\x1b[31mGATE PASSED\r\n",
    "reversed": "\u202egnp.tcejer",
    "not UTF-8": "\udcff\ud800",
    "NUL": "a\0b",
    "device": "/dev/zero",
    "no home": "~nobody-of-this-name/x",
    "format": "%s%n{0.__class__}",
}

EVERY = pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])


def odd(place: int, every: bool) -> list[str]:
    """Give every odd string, or a third of them, another one from place to place."""
    return list(ODD.values())[0 if every else place % 3 :: 1 if every else 3]


SECONDS = 5.0
"""Of the processor, that an odd string may cost; the clock of a busy machine says nothing."""

MEGABYTES = 300


class _TooLong(BaseException):
    pass


def _stop(number: int, frame: object) -> NoReturn:
    raise _TooLong


@pytest.fixture(autouse=True)
def bounds() -> Iterator[None]:
    """End what hangs: a pipe that is waited for takes no time of the processor."""
    before = signal.signal(signal.SIGALRM, _stop)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustmix.evaluation.forecast.forecast.__kwdefaults__", {"seconds": 0.0})
    monkeypatch.setattr("robustmix.doctor.machine.PROBE_ARCH", "resnet8")
    monkeypatch.setattr("robustmix.doctor.machine.probe_speed.__kwdefaults__", {"seconds": 0.01})


@pytest.fixture(scope="module")
def last(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_train(tmp_path_factory.mktemp("run"), epochs=1).last


def held(line: list[str], capsys: pytest.CaptureFixture[str], *, codes: tuple[int, ...]) -> int:
    """Run a command line, hold it to the bounds, and return its exit code."""
    what = " ".join(word[:40] for word in line)
    capsys.readouterr()
    begun = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    code = run(line)
    shown = capsys.readouterr()
    assert code in codes, f"{what}: {code} {shown.err[:500]}"
    assert code in EXIT_CODES
    assert time.process_time() - begun < SECONDS, what
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MEGABYTES * 1024, what
    for text in (shown.out, shown.err):
        assert all(part.isprintable() for part in text.replace("\t", " ").split("\n")), what
    assert "Traceback" not in shown.err
    if code:
        assert len(shown.err) < 10_000, what
        assert "error[E-" in shown.err, what
        assert "E-INTERNAL" not in shown.err
    return code


REFUSED = (2, 3)
TAKEN = (0, 2, 3, 4, 5)


# the options of suites: first without a model, which what is taken then lacks (3)


def flags() -> list[str]:
    options = {one.flag: one for known in every_option().values() for one in known.values()}
    return sorted(flag for flag, one in options.items() if not one.is_switch)


@EVERY
@pytest.mark.parametrize("flag", flags())
def test_suite_options(
    flag: str, every: bool, last: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = flag[2:].replace("-", "_")
    suites = [suite for suite, known in every_option().items() if name in known]
    for text in odd(flags().index(flag), every):
        line = ["eval", str(tmp_path / "none.pth"), "--suite", suites[0], f"{flag}={text}"]
        if held(line, capsys, codes=REFUSED) == 3:
            line[1] = str(last)
            held([*line, "--dry-run", "--limit", "4"], capsys, codes=TAKEN)


# the options of commands


def lines(last: Path, out: Path) -> dict[str, list[str]]:
    """Give the command lines that end in an odd string, by what they show."""
    evaluate = ["eval", str(last), "--suite", "clean", "--dry-run"]
    train = ["train", "digits-resnet8-vanilla", "--epochs", "1", "--limit-train", "8"]
    train += ["--set", "limit_val=4", "--progress", "none", "--dry-run"]
    corrupt = ["corrupt", "generate", "--dataset", "digits", "--corruptions", "fog", "--limit", "2"]
    corrupt += ["--out", str(out)]
    preview = ["corrupt", "preview", "--corruptions", "fog", "--out", str(out / "p.png")]
    methods = ["methods", "preview", "--pairs", "2", "--out", str(out / "m.png")]
    return {
        "list": ["list"],
        "methods info": ["methods", "info"],
        "train recipe": ["train"],
        **{f"train {o}": [*train, o] for o in ("--set", "--seed", "--device", "--dataset")},
        **{f"train {o}": [*train, o] for o in ("--arch", "--method", "--lr", "--batch-size")},
        **{f"train {o}": [*train, o] for o in ("--limit-train", "--precision", "--data-dir")},
        "train --set lr": [*train, "--set", "lr="],
        "train --set method.alpha": [*train, "--method", "mixup", "--set", "method.alpha="],
        **{f"eval {o}": [*evaluate, o] for o in ("--suite", "--protocol", "--dataset", "--limit")},
        **{f"eval {o}": [*evaluate, o] for o in ("--device", "--batch-size", "--seed", "--mean")},
        **{f"eval {o}": [*evaluate, o] for o in ("--std", "--class-map", "--data-dir", "--arch")},
        **{f"eval {o}": [*evaluate, o] for o in ("--num-classes", "--img-size", "--head")},
        "eval model": ["eval"],
        "doctor --check": ["doctor", "--check"],
        "doctor --device": ["doctor", "--check", "intervals", "--device"],
        **{f"corrupt generate {o}": [*corrupt, o] for o in ("--limit", "--profile", "--frost-dir")},
        **{f"corrupt generate {o}": [*corrupt, o] for o in ("--dataset", "--corruptions")},
        "corrupt generate --out": [*corrupt[:-1]],
        "corrupt verify": ["corrupt", "verify"],
        **{f"corrupt preview {o}": [*preview, o] for o in ("--index", "--seed", "--dataset")},
        "corrupt preview --out": [*preview[:-1]],
        "corrupt preview": [*preview],
        "methods preview --lam": [*methods, "--lam"],
        "calibrate": ["calibrate"],
        "compare": ["compare", "nowhere"],
        "check --metric": ["check", "nowhere", "--metric"],
        "check --rules": ["check", "nowhere", "--rules"],
        "report show": ["report", "show"],
    }


NAMES = sorted(lines(Path(), Path()))


@EVERY
@pytest.mark.parametrize("name", NAMES)
def test_options_of_commands(
    name: str,
    every: bool,
    last: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    known = set(tmp_path.rglob("*"))
    for text in odd(NAMES.index(name), every):
        line = lines(last, tmp_path / "out")[name]
        joined = [*line[:-1], line[-1] + text] if line[-1].endswith("=") else [*line, text]
        held(joined, capsys, codes=TAKEN)
    # The folder for results, what is named there, and nothing beside.
    made = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} - known
    assert all("GATE" not in part or "--out" in name for part in made)


def test_there_are_enough() -> None:
    assert sum(len(odd(place, False)) for place in range(len(flags()) + len(NAMES))) > 400
    assert {text for place in range(3) for text in odd(place, False)} == set(ODD.values())


# small files


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bomb(path: Path) -> None:
    """Write a PNG of a few bytes that says it has 10^10 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    body = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def npy(text: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        header = text.encode("latin1").ljust(118) + b"\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)

    return write


def array(value: Any) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with open(path, "wb") as file:
            np.save(file, np.array(value), allow_pickle=True)

    return write


FILES: dict[str, Callable[[Path], object]] = {
    "absent": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(4096)),
    "pipe": fifo,
    "folder": Path.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "loop": lambda path: path.symlink_to(path),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00a = 1"),
    "deep TOML": lambda path: path.write_text("a = " + "[" * 50_000),
    "deep JSON": lambda path: path.write_text("[" * 100_000 + "]" * 100_000),
    "dotted": lambda path: path.write_text("a" + ".a" * 50_000 + " = 1"),
    "digits": lambda path: path.write_text("a = " + "1" * 5000),
    "number": lambda path: path.write_text("7"),
    "null": lambda path: path.write_text("null"),
    "list": lambda path: path.write_text('[1, {"params": 3}]'),
    "commas": lambda path: path.write_text("," * 100_000),
    "quote": lambda path: path.write_text('"' + "a" * 10**6),
    "rows": lambda path: path.write_text("999999999999,\x1b[2J\n" * 100),
    "EPS": lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
    "bomb": bomb,
    "npy cut": lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\xff"),
    "npy negative": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-5, 32, 32, 3)}"),
    "npy huge": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (10**18,)}"),
    "npy vast": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000000,)}"),
    "npy code": npy("__import__('os').system('touch executed')"),
    "npy nested": npy("{'descr': " + "(" * 90),
    "npy times": array(["2020-01-01"] * 10),
    "npy objects": array([{"a": 1}, None]),
    "npy struct": array(np.zeros(10, dtype=[("a", "u1"), ("b", "M8[s]")])),
}


def readers(last: Path, file: Path) -> dict[str, list[str]]:
    """Give the command lines that read the file."""
    return {
        "recipe": ["train", str(file), "--dry-run"],
        "rules": ["check", str(last.parent), "--rules", str(file)],
        "class map": ["eval", str(last), "--dry-run", "--limit", "4", "--class-map", str(file)],
        "report": ["report", "show", str(file)],
        "baseline": ["check", str(file), "--baseline", str(file)],
        "model": ["eval", str(file), "--dry-run"],
        "picture": ["corrupt", "preview", str(file), "--out", str(last.with_name("p.png"))],
        "corrupted set": ["corrupt", "verify", str(file.parent), "--data-dir", str(last.parent)],
        "frost pictures": [
            *("corrupt", "generate", "--dataset", "digits", "--limit", "2", "--corruptions"),
            *("frost", "--out", str(file.parent / "set"), "--frost-dir", str(file.parent)),
        ],
        "teacher": [
            *("train", "--dataset", "digits", "--arch", "resnet8", "--method", "supermix"),
            *("--dry-run", "--teacher", str(file)),
        ],
    }


SUFFIXES = {
    "recipe": "r.toml",
    "rules": "r.toml",
    "class map": "map.csv",
    "report": "report.json",
    "baseline": "report.json",
    "model": "m.pth",
    "picture": "p.jpg",
    "corrupted set": "labels.npy",
    "frost pictures": "frost1.png",
    "teacher": "t.pth",
}


@pytest.mark.parametrize(
    "reader",
    [pytest.param(name, marks=[pytest.mark.slow] * (name == "teacher")) for name in SUFFIXES],
)
def test_small_files(
    reader: str,
    last: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, make in FILES.items():
        if (reader, name) == ("recipe", "empty"):
            continue  # a recipe that changes nothing
        folder = tmp_path / name
        folder.mkdir()
        file = folder / SUFFIXES[reader]
        make(file)
        held(readers(last, file)[reader], capsys, codes=(2, 3))
    assert not (tmp_path / "executed").exists()


RECORDS: dict[str, list[Any]] = {
    "params": [3, None, [], {}, {"n": -1}, {"n": 10**30}, {"n": "5"}, {"height": 0}],
    "files": [3, None, [1], {"fog": 3}, {"fog": {}}, {"fog": {"bytes": "x", "sha256": 1}}],
}


def test_records_of_corrupted_sets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["corrupt", "generate", "--dataset", "digits", "--limit", "2", "--corruptions", "fog"]
    line += ["--out", str(tmp_path)]
    assert run(line) == 0
    path = tmp_path / "robustmix-corruptions.json"
    good = json.loads(path.read_text())
    texts = [bytes(10).decode(), "[" * 10**5, "7", "null", '{"params": {}}', "9" * 5000]
    for key, values in RECORDS.items():
        for value in values:
            changed = good[key] | value if isinstance(value, dict) and value else value
            texts.append(json.dumps({**good, key: changed}))
    for text in texts:
        path.write_text(text)
        held(line, capsys, codes=(3,))
        held(["corrupt", "verify", str(tmp_path)], capsys, codes=(3,))
    assert run([*line, "--force"]) == 0
    assert json.loads(path.read_text()) == good
