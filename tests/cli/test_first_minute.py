"""What a newcomer meets first: lists, examples, how much is said, and whose help an error names."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

import robustmix
from robustmix.cli import console
from robustmix.cli.app import app, run
from robustmix.cli.arguments import split_arguments
from robustmix.cli.examples import EXAMPLES
from robustmix.cli.listing import ALL, KINDS
from robustmix.cli.suite_options import split_words
from robustmix.errors import UsageError
from robustmix.report.schema import Warn

COMMANDS = get_command(app)


def commands(
    command: object = COMMANDS, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, object]]:
    """Yield every command with its words."""
    inside = getattr(command, "commands", None)
    if inside is None:
        yield " ".join(path), command
        return
    for name, one in inside.items():
        yield from commands(one, (*path, name))


FOUND = dict(commands())


def test_every_command_has_examples_and_none_is_of_another() -> None:
    assert set(EXAMPLES) == set(FOUND)


@pytest.mark.parametrize("name", FOUND)
def test_examples_are_at_the_end_of_the_help_and_can_be_typed(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*name.split(), "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for line in EXAMPLES[name]:
        assert line in told
        program, *words = shlex.split(line)
        assert program == "robustmix"
        assert words[: len(name.split())] == name.split()
        rest = words[len(name.split()) :]
        command = FOUND[name]
        context = command.make_context(name, list(rest))  # type: ignore[attr-defined]
        if name == "eval":  # its parser leaves options of suites to us
            suites = [one for text in context.params["suite"] or [] for one in text.split(",")]
            own = [flag for option in command.params for flag in option.opts]  # type: ignore[attr-defined]
            given, _ = split_words(context.params["words"], suites, own)
            assert len(given) == 1


# Lists


def test_list_alone_lists_the_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--json"]) == 0
    told = {one["name"]: one["what"] for one in json.loads(capsys.readouterr().out)}
    assert set(told) == set(ALL)
    assert told["corruptions"].startswith("19: gaussian_noise, shot_noise, ")
    assert run(["list"]) == 0
    shown = capsys.readouterr()
    assert all(f" {kind} " in shown.out for kind in ALL)
    assert shown.err == "robustmix list KIND tells them\n"


@pytest.mark.parametrize("kind", ALL)
def test_every_list_is_there_as_json(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", kind, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    if kind in KINDS:
        assert {one["name"]: one["what"] for one in told} == dict(KINDS[kind]())
    else:
        assert {"cifar100-resnet18-adautomix"} < {one["name"] for one in told}


@pytest.mark.parametrize("group", ["data", "methods", "recipes", "study"])
def test_lists_of_groups_too(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([group, "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) > 5


# Errors


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["check"], "robustmix check"),
        (["data", "info"], "robustmix data info"),
        (["data", "lst"], "robustmix data"),
        (["evall"], "robustmix"),
        (["report", "show", "x", "--nope"], "robustmix report show"),
    ],
)
def test_usage_errors_name_the_help_of_the_command(
    words: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 2
    line = capsys.readouterr().err
    assert line.startswith("error[E-USAGE]: ")
    assert line.endswith(f"; see {command} --help\n")
    assert run([*command.split()[1:], "--help"]) == 0


# How much is said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with seven warnings."""
    place = tmp_path_factory.mktemp("loudness") / "report"
    report = robustmix.evaluate(
        "robustmix:resnet8", "digits", ["clean"], limit=20, num_classes=10,
        mean=(0.5,) * 3, std=(0.25,) * 3, device="cpu",
    )  # fmt: skip
    warnings = [Warn(code=f"W-{i}", message=f"number {i}") for i in range(7)]
    report.content = report.content.model_copy(update={"warnings": warnings})
    report.save(place)
    return place


def shown(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    assert run(words) == 0
    told = capsys.readouterr()
    return told.out, told.err


def test_quiet_says_nothing_but_the_result(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = shown(["report", "show", str(folder)], capsys)
    assert usual[1].count("warning[") == 5
    assert "and 2 more warnings" in usual[1]
    for words in (
        ["-q", "report", "show", str(folder)],
        ["report", "show", str(folder), "--quiet"],
    ):
        assert shown(words, capsys) == (usual[0], "")


def test_quiet_still_tells_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-q", "report", "show", "nowhere"]) == 3
    assert capsys.readouterr().err.startswith("error[")


def test_verbose_tells_every_warning_versions_and_times(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = shown(["report", "show", str(folder)], capsys)
    out, err = shown(["report", "show", str(folder), "-v"], capsys)
    assert out == usual[0]
    assert err.startswith(f"robustmix {robustmix.__version__}, Python {sys.version_info[0]}.")
    assert err.count("warning[") == 7
    assert err.endswith("took <1 s\n")


def test_they_stand_anywhere_but_behind_two_dashes() -> None:
    assert split_arguments(["list", "-q", "suites"]) == (["list", "suites"], [], -1)
    assert split_arguments(["list", "--", "-q"]) == (["list", "--", "-q"], [], 0)
    with pytest.raises(UsageError, match="quiet and verbose exclude each other"):
        split_arguments(["-q", "list", "--verbose"])


def test_what_is_said_is_no_part_of_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the folder is named by what is typed
    words = ["eval", "robustmix:resnet8", "--num-classes", "10", "--norm-preset", "none"]
    words += ["--dataset", "digits", "--suite", "clean", "--limit", "20", "--device", "cpu"]
    first = shown(words, capsys)
    assert "clean" in first[1]
    assert shown([*words, "--resume", "-q"], capsys) == (first[0], "")


def test_who_sits_before_a_terminal_is_told_before_torch_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    code = """
import sys
from robustmix.cli import console
from robustmix.cli.app import run
told = []
console.say = lambda line: told.append((line, "torch" in sys.modules))
assert run(sys.argv[1:]) == 3
assert told[0] == (f"evaluating {sys.argv[2]} ...", False), told
"""
    words = ["eval", "nowhere.pth"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_elsewhere_nobody_is_told_that_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console.starting("evaluating")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    console.starting("evaluating")
    assert "evaluating ..." in capsys.readouterr().err


def test_completion_can_be_installed() -> None:
    names = {flag for option in COMMANDS.params for flag in option.opts}
    assert {"--install-completion", "--show-completion", "--version", "--quiet"} <= names
    assert isinstance(app, typer.Typer)
