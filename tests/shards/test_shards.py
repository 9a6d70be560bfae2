"""Shards of an evaluation, joined, are to the last number and row what a single run gives."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from robustmix import evaluate
from robustmix.attacks import ATTACKS
from robustmix.cli.app import run
from robustmix.comparison.check import check
from robustmix.comparison.compare import compare
from robustmix.comparison.merge import merge_reports
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.evaluation.evaluation import Evaluation
from robustmix.evaluation.forecast import forecast
from robustmix.evaluation.prepare import prepare
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.shard import parse_shard
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.shuffle import Shuffle
from robustmix.report.report import Report
from robustmix.report.samples import Added, Table
from robustmix.types import Model
from tests.evaluation.attacks import attack
from tests.evaluation.tiny import tiny_images, tiny_model
from tests.shift.made import cifar10_1, cifar10_2, cifar_like, cifar_model

SUITES: list[Any] = [
    "clean",
    "calibration",
    Corruption(corruptions="gaussian_noise,brightness", severity=(1, 4)),
    "fgsm",
    "pgd",
    Occlusion(trials=2, mask_scope="batch:7"),
    Shuffle(trials=2),
]

SHORT: dict[str, Any] = {"steps": 3, "masking_samples": 20}

OF_A_RUN = ("id", "started", "finished", "wall_s", "name", "resumed_units")


def shards(count: int, of: Callable[[str], Report]) -> list[Report]:
    """Give the shards, the last first."""
    return [of(f"{i}/{count}") for i in range(count, 0, -1)]


def tiny(shard: str | None = None, **kwargs: Any) -> Report:
    return evaluate(tiny_model(), tiny_images(), SUITES, shard=shard, **SHORT, **kwargs)


def without_times(report: Report) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(report.to_json())
    content["run"] = {k: v for k, v in content["run"].items() if k not in OF_A_RUN}
    assert content["run"]["config"].pop("shards", 2) > 1
    content["run"]["argv"] = content["timing"] = None
    for part in content["suites"].values():
        part["timing"] = None
    return content


def assert_same(merged: Report, whole: Report) -> None:
    """Compare everything but ids and times, and the rows bit for bit."""
    assert without_times(merged) == without_times(whole)
    ours, theirs = merged.samples, whole.samples
    assert ours is not None
    assert theirs is not None
    assert (ours.sample_ids, ours.labels.tolist()) == (theirs.sample_ids, theirs.labels.tolist())
    assert list(ours.tables) == list(theirs.tables)
    for key, table in theirs.tables.items():
        assert_same_rows(ours.tables[key], table)


def assert_same_rows(ours: Table, theirs: Table) -> None:
    assert ours.conditions == theirs.conditions
    assert list(ours.columns) == list(theirs.columns)
    for name, column in theirs.columns.items():
        assert ours.columns[name].dtype == column.dtype
        np.testing.assert_array_equal(ours.columns[name], column)
    assert (ours.positions is None) == (theirs.positions is None)
    if theirs.positions is not None:
        np.testing.assert_array_equal(ours.positions, theirs.positions)
    assert named(ours.added) == named(theirs.added)


def named(added: Added | None) -> Any:
    return None if added is None else (added.sample_ids, added.labels.tolist())


@pytest.fixture(scope="module")
def whole() -> Report:
    return tiny()


@pytest.fixture(scope="module")
def three() -> list[Report]:
    return shards(3, tiny)


def test_all_numbers_and_rows_are_those_of_one_run(whole: Report, three: list[Report]) -> None:
    merged = merge_reports(three)
    assert_same(merged, whole)
    assert "nll_mean_scaled_selected2_subset" in merged.content.suites["corruption"].metrics
    assert recompute(merged) == []


def test_each_shard_is_a_report_of_its_share(three: list[Report]) -> None:
    """The clean images are everyone's, the checks for masked gradients those of one."""
    for report, index in zip(three, (3, 2, 1), strict=True):
        assert recompute(report) == []
        content = report.content
        assert ("masking" in content.suites) == (index == 1)
        assert content.suites["clean"].metrics["top1"].n == 103
        fgsm = content.suites["fgsm"]
        assert (fgsm.metrics, fgsm.conditions) == ({}, [])
        assert fgsm.shown.note == f"shard {index} of 3: no numbers before report merge"
        assert report.samples is not None
        rows = report.samples.tables["fgsm"].columns["correct"]
        assert rows.shape[2] == len(range(index - 1, 103, 3))


def test_a_share_of_the_images_and_of_a_limited_suite(tmp_path: Path) -> None:
    def of(shard: str | None = None) -> Report:
        return evaluate(
            tiny_model(),
            tiny_images(),
            "fgsm,square",
            limit=50,
            seed=3,
            queries=20,
            masking="off",
            shard=shard,
        )

    assert_same(merge_reports(shards(4, of)), of())


def test_images_that_a_suite_brings_are_shared_too(tmp_path: Path) -> None:
    cifar10_1(tmp_path, n=13)
    cifar10_2(tmp_path, n=2)  # fewer than there are shards

    def of(shard: str | None = None) -> Report:
        return evaluate(cifar_model(), cifar_like(40), ["shift"], data_dir=tmp_path, shard=shard)

    assert_same(merge_reports(shards(3, of)), of())


def test_folders_keep_their_own_order(tmp_path: Path) -> None:
    """img10 comes before img2 in a folder, and not in a sort by number."""
    rng = np.random.default_rng(0)
    for label in "abcde":
        (tmp_path / label).mkdir()
        for i in range(12):
            pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"img{i}.png")

    def of(shard: str | None = None) -> Report:
        data = f"folder:{tmp_path}"
        return evaluate(tiny_model(), data, "clean,fgsm", masking="off", shard=shard)

    merged = merge_reports(shards(5, of))
    assert_same(merged, of())
    assert merged.samples is not None
    names = [name.rpartition("/")[2] for name in merged.samples.sample_ids]
    assert names.index("img10.png") < names.index("img2.png")


@pytest.mark.parametrize("count", [2, 20])
def test_what_depends_on_its_batch_is_one_shard_s(count: int) -> None:
    def darker(model: Model, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
        return (images - eps).clamp(min=0)

    def suites(shard: str) -> Evaluation:
        return prepare(cifar_model(), cifar_like(60), "fgsm,autoattack,darker", shard=shard)

    with ATTACKS.temporary():
        ATTACKS.register("darker", darker)
        having = [sorted(suites(f"{i}/{count}").own) for i in range(1, count + 1)]
    assert sum("darker" in own for own in having) == 1
    assert sum("masking" in own for own in having) == 1
    assert all({"fgsm", "autoattack"} <= {*own} for own in having)


def test_autoattack_and_fab_are_shared() -> None:
    def of(shard: str | None = None) -> Report:
        short = attack("autoattack", eps=(Fraction(3, 255),), steps=4, queries=30, masking="off")
        fab = attack("fab", eps=(Fraction(3, 255),), steps=4, targets=2, masking="off")
        return evaluate(tiny_model(), tiny_images(), [short, fab], seed=2, shard=shard)

    whole, parts = of(), shards(3, of)
    assert_same(merge_reports(parts), whole)
    for part in parts:
        assert part.samples is not None
        for name in ("autoattack", "fab"):
            assert part.samples.tables[name].columns["correct"].shape[-1] in (34, 35)
    members = whole.content.suites["autoattack"].tables[0].rows
    assert sum(row[2] != 0 for row in members) > 1  # that broke some


def test_the_forecast_is_of_the_share() -> None:
    def passes(shard: str | None) -> dict[str, tuple[int, int | None]]:
        evaluation = prepare(tiny_model(), tiny_images(90), "fgsm", shard=shard)
        found = forecast(evaluation, batch_size=8, seconds=0.0)
        return {cost.key: (cost.n, cost.forwards) for cost in found.suites}

    whole, part = passes(None), passes("2/3")
    assert whole["clean"] == part["clean"]
    assert part["fgsm"][0] == 30
    assert part["fgsm"][1] == (whole["fgsm"][1] or 0) // 3
    assert "masking" not in part


def refusal(reports: list[Report]) -> str:
    with pytest.raises(IncompatibleError) as caught:
        merge_reports(reports)
    assert caught.value.code == "E-MERGE"
    return caught.value.message


def test_missing_and_double_shards_are_named(three: list[Report], whole: Report) -> None:
    assert "shard 2/3 is missing" in refusal([three[0], three[2]])
    assert "shards 1/3, 2/3 are missing" in refusal([three[0]])
    assert "shard 3/3 is there twice" in refusal([*three, three[0]])
    assert "is of all samples, others are shards" in refusal([three[0], whole])


def test_shards_of_other_evaluations_are_refused(three: list[Report]) -> None:
    other = evaluate(tiny_model(), tiny_images(), SUITES, shard="1/3", **(SHORT | {"steps": 4}))
    assert "another model, data set, seed, version or parameters" in refusal([*three[:2], other])
    assert "shards of 2 and of 3" in refusal([three[0], tiny("1/2")])


def test_a_shard_that_did_not_complete_is_refused(three: list[Report]) -> None:
    content = three[1].content.model_copy(deep=True)
    content.run = content.run.model_copy(update={"status": "interrupted"})
    with pytest.raises(IntakeError, match="interrupted"):
        merge_reports([three[0], Report(content, three[1].samples), three[2]])


def test_rows_of_another_share_are_noticed(three: list[Report]) -> None:
    """A record cannot pass for the share that its report states."""
    report = three[0]
    assert report.samples is not None
    table = report.samples.tables["fgsm"]
    assert table.positions is not None
    forged = replace(table, positions=table.positions - 1)
    tables = {**report.samples.tables, "fgsm": forged}
    found = recompute(Report(report.content, replace(report.samples, tables=tables)))
    assert any("other samples than the shard has" in line for line in found)


def test_a_shard_is_compared_with_nothing(three: list[Report], whole: Report) -> None:
    for ask in (compare, check):
        with pytest.raises(IncompatibleError, match="shard 3 of 3") as caught:
            ask(three[0], whole)
        assert caught.value.code == "E-SHARD"


def interrupted_after(passes: int) -> Callable[[], bool]:
    asked = iter(range(10_000))
    return lambda: next(asked) >= passes


def test_a_shard_is_resumed_and_no_other_is_taken_for_it(tmp_path: Path, whole: Report) -> None:
    stopped = tiny("2/3", out=tmp_path, should_stop=interrupted_after(6))
    assert stopped.content.run.status == "interrupted"
    with pytest.raises(IncompatibleError):
        tiny("1/3", out=tmp_path, resume=True)
    with pytest.raises(IncompatibleError):
        tiny(out=tmp_path, resume=True)
    done = tiny("2/3", out=tmp_path, resume=True)
    assert done.content.run.resumed_units > 0
    assert_same(merge_reports([tiny("1/3"), done, tiny("3/3")]), whole)
    assert tiny("2/3", out=tmp_path, resume=True).content.run.id == done.content.run.id
    with pytest.raises(IncompatibleError, match="shard"):
        tiny("3/3", out=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("text", "environ", "expected"),
    [
        ("1/1", {}, (1, 1)),
        ("8/8", {}, (8, 8)),
        ("auto", {"RANK": "3", "WORLD_SIZE": "4"}, (4, 4)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_MIN": "0",
                  "SLURM_ARRAY_TASK_MAX": "7", "SLURM_ARRAY_TASK_COUNT": "8"}, (1, 8)),
        ("auto", {"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_MIN": "1",
                  "SLURM_ARRAY_TASK_MAX": "8", "SLURM_ARRAY_TASK_COUNT": "8"}, (8, 8)),
    ],
)  # fmt: skip
def test_shards_are_counted_from_one(
    text: str, environ: dict[str, str], expected: tuple[int, int]
) -> None:
    assert parse_shard(text, environ) == expected


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("0/4", {}), ("5/4", {}), ("1", {}), ("1/0", {}), ("-1/4", {}), ("1/4/2", {}), ("", {}),
        ("1 / 4", {}), ("1/9999999", {}), ("auto", {}), ("auto", {"RANK": "1"}),
        ("auto", {"RANK": "x", "WORLD_SIZE": "4"}), ("auto", {"RANK": "4", "WORLD_SIZE": "4"}),
        # One task of an array, submitted again, is not the whole.
        ("auto", {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "3",
                  "SLURM_ARRAY_TASK_MAX": "3", "SLURM_ARRAY_TASK_COUNT": "1"}),
        ("auto", {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MIN": "1",
                  "SLURM_ARRAY_TASK_MAX": "5", "SLURM_ARRAY_TASK_COUNT": "3"}),
    ],
)  # fmt: skip
def test_what_names_no_shard_is_an_error(text: str, environ: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shard(text, environ)
    assert caught.value.code == "E-SHARD"


def test_more_shards_than_images_are_refused() -> None:
    with pytest.raises(UsageError, match="20 images cannot be shared by 21 shards"):
        evaluate(tiny_model(), tiny_images(20), "clean", shard="1/21")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    import robustmix

    robustmix.train(
        "digits-resnet8-vanilla", out=tmp_path / "run", epochs=1, limit_train=64, progress="none"
    )
    return tmp_path / "run" / "checkpoints" / "last.pth"


def test_the_command_line_shards_and_merges(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["eval", str(checkpoint), "--suite", "fgsm", "--limit", "30", "--progress", "none"]
    asked += ["--masking", "off"]
    assert run([*asked, "--out", str(tmp_path / "whole")]) == 0
    for i in (1, 2):
        assert run([*asked, "--shard", f"{i}/2", "--out", str(tmp_path / f"s{i}")]) == 0
    capsys.readouterr()
    parts = [str(tmp_path / "s2"), str(tmp_path / "s1")]
    assert run(["report", "merge", parts[0], "--out", str(tmp_path / "m")]) == 5
    assert "shard 1/2 is missing" in capsys.readouterr().err
    assert run(["report", "merge", *parts, "--out", str(tmp_path / "m")]) == 0
    assert_same(Report.load(tmp_path / "m"), Report.load(tmp_path / "whole"))
    assert run(["check", str(tmp_path / "s1"), "--baseline", str(tmp_path / "whole")]) == 5
    assert "report merge" in capsys.readouterr().err
