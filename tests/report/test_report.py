import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustmix.cli import console
from robustmix.cli.app import run
from robustmix.errors import IncompatibleError, IntakeError
from robustmix.evaluation.evaluate import evaluate
from robustmix.metrics.metric import Metric
from robustmix.pages.overview_figure import draw_reports
from robustmix.report.export import report_csv, report_markdown
from robustmix.report.report import Report
from robustmix.report.samples import Samples
from robustmix.report.schema import ReportModel, Shown, SuitePart, VerdictPart, Warn
from robustmix.report.terminal import (
    Summary,
    comparison_table,
    error_lines,
    headline,
    summary_rows,
    warning_lines,
)
from robustmix.report.text import sparkline
from tests.evaluation.tiny import tiny_images, tiny_model


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate(
        tiny_model(),
        tiny_images(),
        ["clean", "calibration", "corruption", "fgsm", "occlusion"],
        name="tiny",
        corruptions="gaussian_noise,brightness",
        severity="1,4",
        eps="8/255,2/255",
        masking="off",
        ratios="1/4,1/2",
        trials=3,
    )


def test_save_and_load_give_the_same(tmp_path: Path, report: Report) -> None:
    path = report.save(tmp_path)
    loaded = Report.load(path)
    assert loaded.to_json() == report.to_json() == path.read_text(encoding="utf-8")
    assert loaded.samples is not None
    assert report.samples is not None
    assert loaded.samples.sample_ids == report.samples.sample_ids
    for suite, table in report.samples.tables.items():
        other = loaded.samples.tables[suite]
        assert other.conditions == table.conditions
        for name, column in table.columns.items():
            assert np.array_equal(column, other.columns[name])
            assert column.dtype == other.columns[name].dtype


def test_equal_samples_give_equal_files(tmp_path: Path, report: Report) -> None:
    assert report.samples is not None
    report.samples.save(tmp_path / "a.npz")
    report.samples.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_the_file_is_plain_json_without_local_paths(report: Report) -> None:
    def refuse(text: str) -> None:
        raise AssertionError(f"{text} in the report")

    value = json.loads(report.to_json(), parse_constant=refuse)
    assert list(value) == sorted(value)
    assert str(Path.cwd()) not in report.to_json()
    assert str(Path.home()) + "/" not in report.to_json()


def test_every_number_carries_n_and_an_interval_or_a_reason(report: Report) -> None:
    frame = report.to_frame()
    assert (frame["n"] > 0).all()
    bare = frame[frame["ci_low"].isna() & frame["reason"].isna()]
    assert bare.empty, bare
    assert set(frame["suite"]) == set(report.content.suites)
    inside = frame[frame["unit"] == "fraction"].dropna(subset=["ci_low"])
    # Percentile intervals of biased measures (ECE, a minimum over classes) may miss the estimate.
    inside = inside[~inside["ci_method"].str.startswith("bootstrap")]
    assert (inside["ci_low"] <= inside["value"]).all()
    assert (inside["value"] <= inside["ci_high"]).all()


def test_the_sample_frame_has_one_row_a_sample_condition_and_trial(report: Report) -> None:
    assert report.samples is not None
    frame = report.samples.to_frame()
    assert len(frame) == report.samples.rows
    keys = ["sample_id", "suite", "condition", "trial"]
    assert not frame.duplicated(keys).any()
    clean = frame[frame["suite"] == "clean"]
    assert clean["correct"].astype(bool).mean() == report.metric("clean.top1").value
    noise = frame[frame["condition"] == "gaussian_noise/4"]
    want = report.to_frame().query("condition == 'gaussian_noise/4' and metric == 'acc'")["value"]
    assert noise["correct"].astype(bool).mean() == pytest.approx(float(want.iloc[0]))


def damaged(value: dict[str, Any], how: str) -> Any:
    if how == "not ours":
        return {"kind": "something else"}
    if how == "newer":
        return value | {"schema_version": "3.0"}
    if how == "nameless":
        return {key: value[key] for key in value if key != "schema_version"}
    if how == "nan":
        value["suites"]["clean"]["metrics"]["top1"]["value"] = "NaN"
    if how == "no n":
        del value["suites"]["clean"]["metrics"]["top1"]["n"]
    if how == "kindless":
        del value["suites"]["clean"]["kind"]
    if how == "curve without numbers":
        value["suites"]["fgsm"]["curves"][0]["at"][1] = "nowhere"
    if how == "short curve":
        del value["suites"]["fgsm"]["curves"][0]["x"][1]
    if how == "ragged table":
        table = {"name": "a", "caption": "", "columns": ["a", "b"], "rows": [[1, 2], [3]]}
        value["suites"]["clean"]["tables"] = [table]
    return value


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("not ours", IntakeError, "not a robustmix report"),
        ("newer", IncompatibleError, "schema version 3.0, this program reads 1.x and 2.x"),
        ("nameless", IncompatibleError, "schema version none"),
        ("nan", IntakeError, "breaks the schema at suites.clean"),
        ("no n", IntakeError, "breaks the schema at suites.clean"),
        ("kindless", IntakeError, "breaks the schema at suites.clean.kind"),
        ("curve without numbers", IntakeError, "at suites.fgsm: .*a curve has places"),
        ("short curve", IntakeError, "at suites.fgsm: .*a curve has places"),
        ("ragged table", IntakeError, "at suites.clean.tables.0: .*as many values in each row"),
    ],
)
def test_damaged_reports_are_refused_in_one_line(
    tmp_path: Path, report: Report, how: str, error: type[Exception], message: str
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(damaged(json.loads(report.to_json()), how)))
    with pytest.raises(error, match=message):
        Report.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\ufeff\u0000"])
def test_what_is_no_json_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(IntakeError):
        Report.load(path)
    with pytest.raises(IntakeError, match="no report at"):
        Report.load(tmp_path / "nowhere.json")


def test_a_foreign_sample_file_is_refused(tmp_path: Path, report: Report) -> None:
    report.save(tmp_path)
    (tmp_path / "samples.npz").write_bytes(b"something else")
    with pytest.raises(IntakeError, match=r"not the file that report\.json was made from"):
        Report.load(tmp_path)
    with pytest.raises(IntakeError, match="not a readable sample file"):
        Samples.load(tmp_path / "samples.npz")
    (tmp_path / "samples.npz").unlink()
    assert Report.load(tmp_path).samples is None


def test_a_sample_path_that_leaves_the_folder_is_not_followed(
    tmp_path: Path, report: Report
) -> None:
    report.save(tmp_path / "a")
    value = json.loads((tmp_path / "a" / "report.json").read_text())
    value["artifacts"][0]["path"] = "../secret.npz"
    (tmp_path / "secret.npz").write_bytes((tmp_path / "a" / "samples.npz").read_bytes())
    (tmp_path / "a" / "report.json").write_text(json.dumps(value))
    with pytest.raises(IntakeError, match=r"samples\.npz lies beside .*does not name it"):
        Report.load(tmp_path / "a")
    (tmp_path / "a" / "samples.npz").unlink()
    assert Report.load(tmp_path / "a").samples is None


def test_newer_minor_fields_are_ignored(tmp_path: Path, report: Report) -> None:
    value = json.loads(report.to_json()) | {"schema_version": "2.9", "new_field": 1}
    value["suites"]["clean"]["new_field"] = {"a": 1}
    (tmp_path / "report.json").write_text(json.dumps(value))
    assert Report.load(tmp_path).metric("clean.top1") == report.metric("clean.top1")


def test_one_number_is_found_by_its_path(report: Report) -> None:
    part = report.content.suites["corruption"]
    name = part.conditions[0].name
    assert report.metric(f"corruption.acc[{name}]") == part.conditions[0].metrics["acc"]
    assert report.metric("fgsm.robust_acc[0]").value == report.metric("clean.top1").value
    for wrong in ("clean.top2", "clean.acc[fog/3]", f"corruption.top1[{name}]", "clean", "magic.a"):
        with pytest.raises(KeyError):
            report.metric(wrong)


def test_the_schema_is_printed_and_names_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == ReportModel.model_json_schema()
    properties = schema["$defs"]["SuitePart"]["properties"]
    assert {"kind", "metrics", "conditions", "curves", "verdicts", "shown"} <= set(properties)


@pytest.mark.parametrize(
    "fields",
    [
        {"value": float("nan")},
        {"value": None},
        {"value": 0.5},
        {"value": 0.5, "ci": (0.6, 0.4), "ci_method": "x"},
        {"value": 0.5, "ci": (0.4, 0.6)},
    ],
)
def test_an_incomplete_metric_cannot_be_made(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"metric|interval"):
        Metric(unit="fraction", direction="higher", n=3, **fields)


def rendered(table: object, width: int = 100) -> list[str]:
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_tables_fit_100_columns_and_hold_the_headlines(report: Report) -> None:
    lines = rendered(Summary(report))
    assert max(map(len, lines)) <= 100
    value = report.metric("clean.top1").value
    assert value is not None
    assert any("top1" in line and f"{100 * value:.2f} %" in line for line in lines)
    for part in report.content.suites.values():
        assert headline(part)
    other = Report(report.content.model_copy(deep=True))
    del other.content.suites["fgsm"]
    both = rendered(comparison_table([report, other]))
    assert max(map(len, both)) <= 100
    assert any(line.count(f"{100 * value:.2f} %") == 2 and "top1 ↑" in line for line in both)
    (attacked,) = (line.split() for line in both if "robust_acc ↑" in line)
    assert attacked[-1] == "-"


@pytest.mark.parametrize("width", [100, 90, 80, 70, 60])
def test_no_digit_and_no_note_is_cut_off_in_a_narrow_terminal(report: Report, width: int) -> None:
    content = report.content.model_copy(deep=True)
    judged = VerdictPart(title="masking", verdict="not_assessable", reason="few", n=7)
    judged_part = content.suites["fgsm"].model_copy(update={"verdicts": [judged]})
    content.suites["fgsm"] = judged_part
    content.suites["fgsm@a-protocol-of-a-long-name"] = judged_part
    content.protocol.presets = ["quick", "a-protocol-of-a-long-name"]
    lines = rendered(Summary(Report(content)), width)
    assert max(map(len, lines)) <= width
    text, said = "\n".join(lines), " ".join("\n".join(lines).split())
    assert "…" not in text
    assert "(protocol quick, a-protocol-of-a-long-name)" in said
    # Radius and verdict of every attack are there, each word of them whole.
    assert said.count("8/255") == said.count("assessable") == 2
    for key, part in content.suites.items():
        for _, value, interval, _, note in summary_rows(part):
            assert value in text
            assert interval in text
            # Below the table a note is whole; in it, it is broken between words.
            assert f"{key}: {note}" in said or all(word in said for word in note.split())


def test_numbers_of_conditions_are_indented_by_their_last_name(report: Report) -> None:
    part = report.content.suites["corruption"]
    labels = [label for label, _ in headline(part)]
    groups = [c.name.partition(":")[2] for c in part.conditions if c.name.startswith("groups:")]
    assert labels[-len(groups) :] == [f"  {group}" for group in groups]
    part = part.model_copy(update={"shown": Shown(headline=["acc[fog/9]", "nothing"])})
    assert headline(part) == []  # a stranger's file may name what it does not have


def test_every_suite_has_a_row_whether_it_has_numbers_or_not(report: Report) -> None:
    judged = VerdictPart(title="masking", verdict="not_assessable", reason="too few", n=7)
    content = report.content.model_copy(deep=True)
    content.suites = {
        "judge": SuitePart(kind="judge", status="ok", verdicts=[judged]),
        "mute": SuitePart(kind="mute", status="ok", shown=Shown(note="did its work")),
        "late": SuitePart(kind="late", status="partial", reason="interrupted"),
        "fgsm": content.suites["fgsm"].model_copy(update={"verdicts": [judged, judged]}),
    }
    rows = {key: summary_rows(part)[0] for key, part in content.suites.items()}
    assert rows["judge"] == ("not assessable", "-", "-", "7", "too few")
    assert rows["mute"] == ("ok", "-", "-", "-", "did its work")
    assert rows["late"] == ("partial", "-", "-", "-", "interrupted")
    twice = "masking: not assessable, masking: not assessable"
    assert rows["fgsm"][-1] == f"linf, eps 8/255, {twice}"
    assert {note for *_, note in summary_rows(content.suites["fgsm"])[1:]} == {""}
    shown = Report(content)
    text = report_markdown(shown)
    assert "| judge | not assessable | - | - | 7 | too few |" in text
    assert "| mute | ok | - | - | - | did its work |" in text
    assert "| late | partial | - | - | - | interrupted |" in text
    assert "judge,,verdict,,,,7,,,,too few,not assessable" in report_csv(shown).splitlines()
    assert "fgsm,,verdict" not in report_csv(shown)


def test_suites_are_shown_in_the_order_they_ran(report: Report) -> None:
    content = report.content.model_copy(deep=True)
    content.run.config["suites"] = ["fgsm", "clean", "gone"]
    first = list(content.ordered_suites())
    assert first[:2] == ["fgsm", "clean"]
    assert first[2:] == sorted(set(content.suites) - {"fgsm", "clean"})
    content.run.config = {}
    assert list(content.ordered_suites()) == sorted(content.suites)


def test_sparkline_ends() -> None:
    assert sparkline([0, 1]) == "▁█"


def test_the_picture_is_drawn_atomically(tmp_path: Path, report: Report) -> None:
    path = tmp_path / "picture.png"
    draw_reports([report, report], path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_a_strangers_text_does_not_steer_the_terminal(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "\x1b[2J[red]name[/red]\n\u202eeman"
    content = report.content.model_copy(deep=True)
    content.run.name = evil
    content.warnings.append(Warn(code="W-X", message=evil))
    content.suites["fgsm"].status = "failed"
    content.suites["fgsm"].reason = evil
    strange = Report(content)
    console.table_result(Summary(strange))
    for line in (*warning_lines(strange), *error_lines(strange)):
        console.say(line)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "\x1b[2J" not in text
        assert "\u202e" not in text
    assert "[red]name[/red]" in shown.out
