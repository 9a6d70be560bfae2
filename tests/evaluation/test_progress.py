import io

import pytest
from rich.console import Console

from robustmix.errors import UsageError
from robustmix.evaluation.progress import Bar, PlainLines, Silence, open_progress
from robustmix.progress import progress_kind


def test_plain_lines_tell_the_suite_and_then_every_half_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=40)
    lines = PlainLines(console)
    lines.start("corruption", 1000)
    for _ in range(4):
        now[0] += 12
        lines.advance("corruption", "fog-3", 100)
    lines.start("calibration", 0)
    lines.close()
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "corruption: 1000 images",
        "corruption fog-3: 30 %, 8 images/s, 84 s left",
        "calibration: from the clean predictions",
    ]


def test_auto_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    terminal = Console(file=io.StringIO(), force_terminal=True)
    bar = open_progress("auto", terminal)
    assert isinstance(bar, Bar)
    bar.start("clean", 10)
    bar.advance("clean", "clean", 10)
    bar.close()
    assert "clean" in terminal.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(open_progress("auto", Console(file=io.StringIO())), PlainLines)
    monkeypatch.setenv("CI", "true")
    assert isinstance(open_progress("auto", terminal), PlainLines)
    assert isinstance(open_progress("none", terminal), Silence)


def test_unknown_kinds_are_refused() -> None:
    assert progress_kind("plain") == "plain"
    with pytest.raises(UsageError, match="did you mean 'plain'"):
        progress_kind("plian")
