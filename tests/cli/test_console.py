"""No name out of a stranger's file moves the cursor or passes for a line of ours."""

import json
import re
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from robustmix.cli import console
from robustmix.cli.app import run
from robustmix.errors import LONGEST, IntakeError, UsageError, unknown_name

STRANGE = "x\x1b[2J\x9b31m\u202e\r\x07y"


def clean(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_tables_and_talk_show_no_control_character(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(STRANGE, "other", title=STRANGE)
    table.add_row(STRANGE, Text(STRANGE))
    table.add_row("[bold]kept[/bold]", "as it is")
    console.table_result(table)
    console.say(table)
    console.say(STRANGE)
    console.say(Text(STRANGE))
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert clean(text)
        assert "[bold]kept[/bold]" in text
        assert "x?[2J?31m" in text


def test_a_terminal_gets_its_colours_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    console.say(Text(STRANGE, style="bold red"))
    shown = capsys.readouterr().err
    colours = re.compile(r"\x1b\[[\d;]*m")
    assert colours.search(shown)
    assert clean(colours.sub("", shown))


def test_results_keep_the_meaning_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    console.result(json.dumps({"name": STRANGE + "\udcff"}, ensure_ascii=False))
    console.write_results((Path("-"), lambda: json.dumps([STRANGE], ensure_ascii=False) + "\n"))
    first, second = capsys.readouterr().out.splitlines()
    assert clean(first + second)
    assert json.loads(first) == {"name": STRANGE + "\udcff"}
    assert json.loads(second) == [STRANGE]


def test_error_lines_are_one_line_clean_and_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = unknown_name("arch", "a" * 10**6, ["resnet18", "vit"]).line()
    assert len(long) < 300
    assert long.endswith("choose from resnet18, vit")
    quoted = IntakeError(f"{STRANGE} is no report\nerror[E-NONE]: ok", "look at " + "b" * 10**6)
    assert clean(quoted.line())
    assert "\n" not in quoted.line()
    assert len(quoted.line()) < 2 * LONGEST
    assert "; look at b" in quoted.line()  # what to do is not cut off by a long message
    assert UsageError("short", "mend it").line() == "error[E-USAGE]: short; mend it"
    console.error("error[E-X]: " + STRANGE + "z" * 10**6)
    shown = capsys.readouterr().err
    assert clean(shown)
    assert len(shown) < 2 * console.LONGEST_LINE


@pytest.mark.parametrize(
    "words",
    [[STRANGE], ["list", STRANGE], ["list", "archs", f"--{STRANGE}"], ["train", STRANGE * 10_000]],
)
def test_what_was_typed_comes_back_clean_and_short(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) in (2, 3)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert clean(shown.err)
    assert shown.err.count("\n") == 1
    assert len(shown.err) < 2 * console.LONGEST_LINE


def test_who_waits_is_told_so_often_and_not_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("robustmix.cli.console.time.monotonic", lambda: now[0])
    waiting = console.Waiting()
    for done, now[0] in enumerate((9.0, 10.0, 19.0, 21.0, 40.0), start=1):
        waiting("means", done, 5)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "resampling means: 2 of 5\nresampling means: 4 of 5\n"
