"""Reports of strangers: damaged, forged or malicious files end in one line, never in a pass.

The candidate of these tests is worse than its baseline and fails the gate. No change to its files
may turn that into a pass, crash the program, or get markup or escape sequences into its output.
"""

import contextlib
import hashlib
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from robustmix.cli.app import run
from robustmix.comparison.check import check
from robustmix.comparison.compare import compare
from robustmix.comparison.github import annotations
from robustmix.comparison.junit import junit_xml
from robustmix.comparison.markdown import check_markdown, comparison_markdown
from robustmix.comparison.measure import Options
from robustmix.comparison.tables import (
    check_notes,
    check_table,
    comparison_notes,
    comparison_tables,
)
from robustmix.errors import RobustmixError
from robustmix.pages.sheets import sheets_of
from robustmix.report.export import report_csv, report_markdown
from robustmix.report.report import Report
from robustmix.report.sheet import render_sheet
from robustmix.report.terminal import summary_table, warning_lines
from tests.comparison.reports import base, damaged, rows_of, said, saved, with_glare, with_verdict

QUICK = Options(replicates=100, function_replicates=100)
SCRIPT = '<script>alert("x")</script>'
JUNK: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from([
        None, True, False, 0, -1, 1, 1.0, 0.5, 2**63, 10**400, 1e308, -1e308, 5e-324, "", "0.99",
        "NaN", SCRIPT, "../../etc/passwd", "/dev/zero", "a\x1b[2Jb", "\u202egnp.exe", "\ud800",
        "\x00", "x" * 5000, [], {}, [[[[]]]], {"value": 1.0}, ["clean"], "ok", "success", "higher",
        "lower", "fraction", "images",
    ]),
    st.text(max_size=8),
    st.floats(allow_nan=True, allow_infinity=True),
)  # fmt: skip

DEPTH = 6


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every node of a JSON value."""
    keys: Any = ()
    if isinstance(value, dict):
        keys = value.keys()
    elif isinstance(value, list):
        keys = range(min(3, len(value)))
    return [at, *(place for key in keys for place in places(value[key], (*at, key)))]


class Originals:
    """The two reports on disk, and the JSON of both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.good, self.bad = folder / "good", folder / "bad"
        # With what the columns of a foreign suite and a verdict's words add to a report.
        saved(with_verdict(with_glare(base(), rows_of(1)), said("clean", "pass")), self.good)
        worse = with_glare(damaged(), rows_of(1, loss=0.3))
        saved(with_verdict(worse, said("masked", "fail")), self.bad)
        self.text = (self.bad / "report.json").read_text(encoding="utf-8")
        self.value, self.better = (
            json.loads((side / "report.json").read_text(encoding="utf-8"))
            for side in (self.bad, self.good)
        )
        # By depth: nodes near the root decide most, deep ones are numbers by the hundred.
        found = places(self.value)
        self.places = {
            depth: [p for p in found if len(p) == depth] for depth in range(1, DEPTH + 1)
        }

    def copy(self, name: str = "changed") -> Path:
        target = self.folder / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.bad, target)
        return target


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    return Originals(tmp_path_factory.mktemp("strangers"))


def node(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def mutated(originals: Originals, draw: st.DataObject) -> str:
    """Return the text of a report in which one to three things were changed."""
    value = json.loads(json.dumps(originals.value))
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.sampled_from(originals.places[draw.draw(st.integers(1, DEPTH))]))
        how = draw.draw(st.sampled_from(["junk", "delete", "rename", "better"]))
        try:
            parent, key = node(value, place[:-1]), place[-1]
            if how == "junk":
                parent[key] = draw.draw(JUNK)
            elif how == "delete":
                del parent[key]
            elif how == "rename" and isinstance(parent, dict):
                parent[SCRIPT] = parent.pop(key)
            elif how == "better":
                parent[key] = node(originals.better, place)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    text = json.dumps(value)
    damage = draw.draw(st.sampled_from(["none"] * 8 + ["truncate", "nan", "flip"]))
    if damage == "truncate":
        return text[: draw.draw(st.integers(0, len(text)))]
    if damage == "nan":
        return text.replace("0.", draw.draw(st.sampled_from(["NaN,0.", "-Infinity", "1e99999"])), 1)
    if damage == "flip":
        at = draw.draw(st.integers(0, len(text) - 1))
        return text[:at] + draw.draw(st.characters()) + text[at + 1 :]
    return text


def harmless(text: str) -> None:
    assert not re.search(r"(?<!\\)<script", text)
    assert "\x1b" not in text
    assert "\u202e" not in text
    text.encode("utf-8")


def shown(*what: Any) -> str:
    console = Console(file=io.StringIO(), width=100)
    for one in what:
        console.print(one, markup=False, highlight=False)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def judge(candidate: Path, baseline: Path) -> int:
    """Check, render everything, and return the exit code."""
    try:
        document = check(candidate, baseline, options=QUICK)
    except RobustmixError as error:
        line = error.line()
        assert "\x1b" not in line
        line.encode("utf-8")
        return error.exit_code
    harmless(check_markdown(document))
    terminal = shown(check_table(document), *check_notes(document), *annotations(document))
    assert "\x1b" not in terminal
    for text in (terminal, junit_xml(document), document.to_json()):
        text.encode("utf-8")
    return document.exit_code


def look(path: Path, other: Path) -> None:
    """Do all else that can be done with a report."""
    try:
        document = compare(other, path, options=QUICK)
        harmless(comparison_markdown(document))
        assert "\x1b" not in shown(*comparison_tables(document), *comparison_notes(document))
    except RobustmixError as error:
        error.line().encode("utf-8")
    try:
        report = Report.load(path, samples=False)
    except RobustmixError as error:
        error.line().encode("utf-8")
        return
    harmless(report_markdown(report))
    with contextlib.suppress(RobustmixError):  # a table of another form than ours
        for sheet in sheets_of([report]).values():
            harmless(render_sheet(sheet, "md"))
            render_sheet(sheet, "latex").encode("ascii")  # whatever is in it is escaped
    report_csv(report).encode("utf-8")


COUNT = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@COUNT
@given(draw=st.data())
def test_no_change_to_a_failing_report_makes_it_pass(
    originals: Originals, draw: st.DataObject
) -> None:
    folder = originals.copy()
    text = mutated(originals, draw)
    (folder / "report.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    assert judge(folder, originals.good) in (1, 2, 3, 4, 5)
    look(folder, originals.good)


@settings(COUNT, max_examples=20)
@given(draw=st.data())
def test_a_changed_baseline_never_crashes(originals: Originals, draw: st.DataObject) -> None:
    folder = originals.copy("baseline")
    text = mutated(originals, draw)
    (folder / "report.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    assert judge(originals.good, folder) in (0, 1, 2, 3, 4, 5)


@settings(COUNT, max_examples=20)
@given(draw=st.data())
def test_changed_rows_never_pass(originals: Originals, draw: st.DataObject) -> None:
    folder = originals.copy()
    rows = bytearray((folder / "samples.npz").read_bytes())
    how = draw.draw(st.sampled_from(["flip", "truncate", "swap", "garbage"]))
    if how == "flip":
        for _ in range(draw.draw(st.integers(1, 20))):
            rows[draw.draw(st.integers(0, len(rows) - 1))] ^= draw.draw(st.integers(1, 255))
    elif how == "truncate":
        rows = rows[: draw.draw(st.integers(0, len(rows) - 1))]
    elif how == "swap":
        rows = bytearray((originals.good / "samples.npz").read_bytes())
    else:
        rows = bytearray(draw.draw(st.binary(max_size=200)))
    (folder / "samples.npz").write_bytes(rows)
    same = bytes(rows) == (originals.bad / "samples.npz").read_bytes()
    assert judge(folder, originals.good) == (1 if same else 3)
    # Even with a checksum to match.
    value = json.loads(originals.text)
    value["artifacts"][0]["sha256"] = hashlib.sha256(bytes(rows)).hexdigest()
    (folder / "report.json").write_text(json.dumps(value), encoding="utf-8")
    assert judge(folder, originals.good) in (1, 3, 4, 5)


NAMES = ["", ".", "..", "/", "a\x00b", "x" * 300, "../good/samples.npz", "report.json"]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_record_elsewhere_is_not_opened(originals: Originals, name: str) -> None:
    folder = originals.copy()
    value = json.loads(originals.text)
    value["artifacts"][0]["path"] = name
    (folder / "report.json").write_text(json.dumps(value), encoding="utf-8")
    assert judge(folder, originals.good) in (3, 4) if name != "../good/samples.npz" else True


def test_the_command_line_says_it_in_one_line(
    originals: Originals, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = originals.copy()
    for text in ("", "{", '{"kind": "robustmix.report"}', originals.text[:-40], "[" * 99_999):
        (folder / "report.json").write_text(text, encoding="utf-8")
        assert run(["check", str(folder), "--baseline", str(originals.good)]) in (3, 5)
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("error[")
        assert captured.err.count("\n") == 1


def test_evil_names_in_the_summary(originals: Originals) -> None:
    value = json.loads(originals.text)
    value["run"]["name"] = "a\x1b[2J\ud800" + SCRIPT
    value["warnings"] = [{"code": "W\x1b", "message": SCRIPT + "\r\n\x1b]0;x\x07"}]
    report = Report(type(base().content).model_validate(value))
    harmless(report_markdown(report))
    assert summary_table(report).row_count > 0
    assert len(warning_lines(report)) == 1
