import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustmix.cli import console
from robustmix.errors import IncompatibleError, IntakeError
from robustmix.evaluation.evaluate import evaluate
from robustmix.metrics.metric import Metric
from robustmix.pages.overview_figure import draw_reports
from robustmix.report.report import Report
from robustmix.report.samples import Samples
from robustmix.report.schema import ReportModel, Warn
from robustmix.report.terminal import (
    comparison_table,
    error_lines,
    headline,
    sparkline,
    summary_table,
    warning_lines,
)
from tests.evaluation.test_engine import QUICK
from tests.evaluation.tiny import tiny_images, tiny_model


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate(tiny_model(), tiny_images(), QUICK, name="tiny")


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
        return value | {"schema_version": "2.0"}
    if how == "nan":
        value["suites"]["clean"]["metrics"]["top1"]["value"] = "NaN"
    if how == "no n":
        del value["suites"]["clean"]["metrics"]["top1"]["n"]
    if how == "unknown suite":
        value["suites"]["clean"]["kind"] = "magic"
    return value


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("not ours", IntakeError, "not a robustmix report"),
        ("newer", IncompatibleError, "schema version 2.0"),
        ("nan", IntakeError, "breaks the schema at suites.clean"),
        ("no n", IntakeError, "breaks the schema at suites.clean"),
        ("unknown suite", IntakeError, "breaks the schema at suites.clean"),
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
    assert Report.load(tmp_path / "a").samples is None


def test_newer_minor_fields_are_ignored(tmp_path: Path, report: Report) -> None:
    value = json.loads(report.to_json()) | {"schema_version": "1.9", "new_field": 1}
    (tmp_path / "report.json").write_text(json.dumps(value))
    assert Report.load(tmp_path).metric("clean.top1") == report.metric("clean.top1")


def test_the_schema_names_every_suite() -> None:
    text = json.dumps(ReportModel.model_json_schema())
    for part in ("CleanPart", "CalibrationPart", "CorruptionPart", "AttackPart", "OcclusionPart"):
        assert part in text


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
    lines = rendered(summary_table(report))
    assert max(map(len, lines)) <= 100
    value = report.metric("clean.top1").value
    assert value is not None
    assert any("top1" in line and f"{100 * value:.2f} %" in line for line in lines)
    both = rendered(comparison_table([report, report]))
    assert max(map(len, both)) <= 100
    assert any(line.count(f"{100 * value:.2f} %") == 2 for line in both)
    for name, part in report.content.suites.items():
        assert headline(name, part)


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
    console.table_result(summary_table(strange))
    for line in (*warning_lines(strange), *error_lines(strange)):
        console.say(line)
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "\x1b[2J" not in text
        assert "\u202e" not in text
    assert "[red]name[/red]" in shown.out
