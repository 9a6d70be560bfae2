import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from robustmix.cli.app import run
from robustmix.comparison.merge import merge_reports
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.report.export import COLUMNS, report_csv, report_markdown
from robustmix.report.migrate import migrate
from robustmix.report.report import Report
from tests.comparison.reports import base, report_of, saved, sibling
from tests.evaluation.tiny import tiny_images, tiny_model
from tests.report.latex_reader import rows_in_latex

SUITES: list[Any] = [
    "clean",
    "calibration",
    Corruption(corruptions="gaussian_noise,brightness", severity=(1, 4)),
    Occlusion(trials=2),
]


def shard(i: int, of: int, suites: list[Any] = SUITES) -> Report:
    """Return the report of every ``of``-th image, as if the rest were elsewhere."""
    data = tiny_images()
    report = evaluate(tiny_model(), data.subset(list(range(i, len(data), of))), suites)
    return changed(report, n_total=len(data))


def changed(report: Report, **dataset: Any) -> Report:
    content = report.content.model_copy(deep=True)
    content.dataset = content.dataset.model_copy(update=dataset)
    return Report(content, report.samples)


def said_of_pixels(report: Report) -> dict[str, str | None]:
    return {"pixels_sha256": report.content.dataset.pixels_sha256}


def test_shards_become_what_one_run_gives() -> None:
    whole = evaluate(tiny_model(), tiny_images(), SUITES)
    merged = merge_reports([shard(i, 3) for i in (2, 0, 1)])
    assert merged.content.dataset.pixels_sha256 is None  # each shard has seen its own
    assert changed(merged, **said_of_pixels(whole)).content.dataset == whole.content.dataset
    assert merged.content.protocol == whole.content.protocol
    assert merged.samples is not None
    assert whole.samples is not None
    assert merged.samples.sample_ids == whole.samples.sample_ids
    for suite, part in whole.content.suites.items():
        again = merged.content.suites[suite]
        for name, metric in part.metrics.items():
            if "_scaled" not in name:
                assert again.metrics[name] == metric, f"{suite}.{name}"
    assert "nll_mean_scaled_selected2_subset" not in merged.content.suites["corruption"].metrics
    assert recompute(merged) == []


def test_a_missing_or_doubled_shard_is_refused() -> None:
    shards = [shard(i, 3, ["clean"]) for i in range(3)]
    with pytest.raises(IncompatibleError, match="hold 69 of 103 samples: one is missing"):
        merge_reports(shards[:2])
    with pytest.raises(IncompatibleError, match="35 samples are in more than one shard"):
        merge_reports([*shards, shards[0]])
    with pytest.raises(UsageError, match="two reports or more"):
        merge_reports(shards[:1])


def test_suites_that_ran_apart_are_joined() -> None:
    one = report_of(suites=("clean", SUITES[2]), name="one")
    other = report_of(suites=("clean", "calibration", "fgsm"), name="other")
    merged = merge_reports([one, other])
    assert set(merged.content.suites) >= {"clean", "calibration", "corruption", "fgsm"}
    assert merged.metric("fgsm.robust_acc") == other.metric("fgsm.robust_acc")
    assert recompute(merged) == []
    with pytest.raises(IncompatibleError, match=r"suite \w+ is in more than one report"):
        merge_reports([merged, other])


def test_reports_of_other_models_or_data_are_refused() -> None:
    one = report_of(suites=("clean",), name="clean only")
    with pytest.raises(IncompatibleError, match="the models of clean only and sibling differ"):
        merge_reports([one, sibling()])
    with pytest.raises(IncompatibleError, match="the splits of"):
        merge_reports([one, changed(base(), split="train")])
    with pytest.raises(IntakeError, match="without its per-sample record"):
        merge_reports([one, Report(base().content)])


def test_merging_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [
        str(saved(report_of(suites=suites, name=suites[-1]), tmp_path / suites[-1]))
        for suites in (("clean",), ("clean", "fgsm"))
    ]
    out = tmp_path / "merged"
    assert run(["report", "merge", *paths, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out / 'report.json'}\n"
    assert run(["report", "validate", str(out)]) == 0
    assert run(["report", "merge", *paths, "--out", str(out)]) == 2


def test_markdown_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = report_markdown(base())
    assert text.startswith("<!-- robustmix report -->\n### base\n")
    value = base().metric("clean.top1").value
    assert value is not None
    assert f"| clean | top1 | {100 * value:.2f} % | [" in text
    assert re.findall("&#|None", text) == []
    rows = list(csv.DictReader(io.StringIO(report_csv(base()))))
    frame = base().to_frame()
    assert len(rows) == len(frame)
    assert list(rows[0]) == list(COLUMNS)
    stated = {(r["suite"], r["condition"], r["metric"]): r["value"] for r in rows}
    assert float(stated["clean", "", "top1"]) == value
    path = saved(base(), tmp_path)
    assert run(["report", "md", str(path)]) == 0
    assert capsys.readouterr().out == text
    assert run(["report", "latex", str(path)]) == 0
    _, *shown = rows_in_latex(capsys.readouterr().out)
    assert ["clean", "top1", rf"{100 * value:.2f} \%"] in [row[:3] for row in shown]
    assert run(["report", "csv", str(path), "--out", str(tmp_path / "x.csv")]) == 0
    written = (tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()
    assert sorted(written) == sorted(report_csv(base()).splitlines())  # a file sorts its keys


def test_migration_keeps_the_present_version(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(base(), tmp_path)
    text = path.read_text(encoding="utf-8")
    value = json.loads(text) | {"schema_version": "2.7", "of_the_future": 1}
    newer = tmp_path / "newer.json"
    newer.write_text(json.dumps(value))
    assert run(["report", "migrate", str(newer), "--out", str(tmp_path / "out.json")]) == 0
    assert (tmp_path / "out.json").read_text(encoding="utf-8") == text
    for version in ("3.0", "0.1"):
        newer.write_text(json.dumps(value | {"schema_version": version}))
        with pytest.raises(IncompatibleError, match=rf"schema version {version}, this program"):
            migrate(newer, tmp_path / "none.json")
    newer.write_text(json.dumps({**value, "suites": 3}))
    with pytest.raises(IntakeError, match="breaks the schema at suites"):
        migrate(newer, tmp_path / "none.json")
    assert not (tmp_path / "none.json").exists()
