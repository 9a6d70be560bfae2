"""Where the temperature comes from, and that no sample judges one it helped to fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import robustmix
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.held_out import open_held_out, score_split
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Scene, summarise
from robustmix.evaluation.suites.calibration import (
    Calibration,
    PreparedCalibration,
    clean_temperatures,
)
from robustmix.evaluation.suites.clean import Clean, PreparedClean
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.metrics.binned import reliability_table
from robustmix.metrics.calibration import calibration_metrics
from robustmix.metrics.scores import score_logits
from robustmix.metrics.temperature import fit_temperature, two_fold_temperature
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel
from robustmix.pages.reliability import draw_suite_reliability
from robustmix.report.rows import Rows
from robustmix.report.schema import SuitePart
from robustmix.training.recipe_dict import recipe_from_dict
from robustmix.training.run_data import load_run_data
from tests.evaluation.test_calibration_checkpoint import digits_checkpoint
from tests.evaluation.tiny import tiny_images, tiny_model


def calibration_images(n: int = 61) -> ImageSet:
    images = tiny_images(n, seed=5)
    return replace(images, split="val", sample_ids=tuple(f"tiny/val/{i}" for i in range(n)))


def part_of(report: robustmix.Report) -> SuitePart:
    part = report.content.suites["calibration"]
    assert part.kind == "calibration"
    return part


def block_of(report: robustmix.Report) -> dict[str, Any]:
    """What a report says of the temperature."""
    part = part_of(report)
    assert part.status == "ok", part.reason
    block: dict[str, Any] = part.details["temperature"]
    return block


def scene(robust: RobustModel, folder: Path | None = None, dataset: str = "") -> Scene:
    return Scene(robust=robust, data=tiny_images(), folder=folder or Path(), dataset=dataset)


def logits_by_hand(model: RobustModel, images: ImageSet) -> torch.Tensor:
    pixels = images.pixels.take(torch.arange(len(images))).float() / 255
    with torch.no_grad():
        logits: torch.Tensor = model(pixels)
    return logits


def test_the_temperature_of_a_held_out_split() -> None:
    data, model, calibration = tiny_images(), tiny_model(), calibration_images()
    report = evaluate(model, data, ["clean", Calibration(calib_data=calibration)])
    fit = fit_temperature(logits_by_hand(model, calibration), calibration.labels)
    block = block_of(report)
    assert block["T"] == pytest.approx(fit.T, rel=1e-5)
    assert (block["split"], block["source"]) == ("held-out", "tiny/val")
    assert (block["n_fitted"], block["n_scored"]) == ([61], [103])
    after = score_logits(logits_by_hand(model, data), data.labels, temperature=block["T"])
    assert block["nll_after"]["value"] == pytest.approx(float(after.nll.mean()), rel=1e-5)
    order = np.argsort(np.asarray(data.sample_ids))
    table = reliability_table(after.confidence[order], after.correct[order], 15)
    assert [row["n"] for row in block["bins_15"]] == [row["n"] for row in table]
    assert report.content.protocol.params["calibration"]["temperature"]["n"] == 61
    assert recompute(report) == []


def test_the_temperature_does_not_depend_on_the_batch_size() -> None:
    suite = Calibration(calib_data=calibration_images())
    found = [
        part_of(evaluate(tiny_model(), tiny_images(), [suite], batch_size=size)).model_dump()
        for size in (7, 100)
    ]
    for part in found:
        part.pop("timing")
    assert found[0] == found[1]


def test_without_a_split_two_folds_are_made() -> None:
    report = evaluate(tiny_model(), tiny_images(), ["clean", "calibration"])
    assert block_of(report)["split"] == "two-fold"
    assert report.samples is not None
    assert "calibration" not in report.samples.tables
    assert recompute(report) == []


@pytest.mark.parametrize("shared", [1, 103])
def test_trap_12_a_calibration_split_that_is_evaluated_is_refused(shared: int) -> None:
    images = calibration_images(103)
    ids = (*tiny_images().sample_ids[:shared], *images.sample_ids[shared:])
    suite = Calibration(calib_data=replace(images, sample_ids=ids))
    report = evaluate(tiny_model(), tiny_images(), ["clean", suite])
    part = part_of(report)
    assert part.status == "failed"
    assert f"error[E-CALIB-OVERLAP]: {shared} samples" in str(part.reason)
    assert report.content.run.status == "failed"
    assert part.metrics == {}


def test_trap_12_samples_that_calibrated_the_checkpoint_are_refused() -> None:
    model = tiny_model()
    model.info = replace(model.info, calibration={"T": 1.0, "sample_ids": ["x", "tiny/test/5"]})
    report = evaluate(model, tiny_images(), ["clean", "calibration"])
    assert part_of(report).status == "failed"
    assert "E-CALIB-OVERLAP" in str(part_of(report).reason)
    assert "tiny/test/5" in str(part_of(report).reason)
    model.info = replace(model.info, calibration={"T": 1.0, "sample_ids": ["x"]})
    assert part_of(evaluate(model, tiny_images(), ["clean", "calibration"])).status == "ok"


def test_trap_11_a_record_of_half_precision_logits_is_refused() -> None:
    report = evaluate(tiny_model(), tiny_images(), ["clean", "calibration"])
    assert report.samples is not None
    clean = report.samples.tables["clean"]
    logits = clean.columns["logits"]
    assert logits.dtype == np.float32
    eces = [
        calibration_metrics(kept, report.samples.labels, seed=0, replicates=0).metrics["ece_15"]
        for kept in (logits[0, 0], logits[0, 0].astype(np.float16).astype(np.float32))
    ]
    assert eces[0].value != eces[1].value  # what a half-precision store would have changed
    half = {**clean.columns, "logits": logits.astype(np.float16)}
    report.samples.tables["clean"] = replace(clean, columns=half)
    assert recompute(report) == ["rows of suite clean: logits are not float32 of 5 classes"]
    rows = Rows.of(report.samples, "clean", num_classes=5, input_size=(3, 32, 32), seed=0)
    for suite in (PreparedClean(), PreparedCalibration(bins=(10, 15), temperature="two-fold")):
        with pytest.raises(IntakeError, match="float16"):
            summarise(suite, rows)


def test_a_record_whose_scores_are_not_those_of_its_logits_is_refused() -> None:
    report = evaluate(tiny_model(), tiny_images(), ["clean", "calibration"])
    assert report.samples is not None
    clean = report.samples.tables["clean"]
    logits = clean.columns["logits"].copy()
    logits[0, 0, 7] = logits[0, 0, 7, ::-1]
    report.samples.tables["clean"] = replace(clean, columns={**clean.columns, "logits": logits})
    told = recompute(report)
    assert "rows of suite clean: nll is not that of the logits" in told
    assert "rows of suite clean: brier is not that of the logits" in told


def test_everything_asked_for_is_recomputed_from_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = Calibration(
        ece_bins=(20,),
        paper_tool=True,
        recalibrate=("vector",),
        calib_data=calibration_images(),
    )
    counts = (5, 50, 500, 0, 20)
    monkeypatch.setattr("robustmix.evaluation.suites.clean.long_tail", lambda *_: counts)
    evaluate(tiny_model(), tiny_images(), [Clean(confusion=True), suite], out=tmp_path)
    report = robustmix.Report.load(tmp_path)
    part = part_of(report)
    assert set(part.details["bins"]) == {"20"}
    assert part.metrics["ece_paper_tool"].value is not None
    assert set(part.details["recalibrated"]) == {"vector"}
    assert part.notes[0].startswith("W-PAPER-ECE: ")
    again = report.content.suites["clean"]
    assert sum(count for *_, count in again.details["confusion"]) == 103
    assert [row["train_n"] for row in again.details["per_class"]] == list(counts)
    assert again.metrics["medium_shot_acc"].note == "the 2 classes of 20 to 100 training images"
    assert recompute(report) == []
    assert again.params == {"train_counts": list(counts), "confusion": True}
    params = report.content.protocol.params["calibration"]
    assert Calibration.read(params).params == params
    assert str(tmp_path) not in str(params)


@pytest.mark.parametrize("right", [False, True])
def test_images_that_are_all_right_or_all_wrong_give_no_temperature(
    right: bool, tmp_path: Path
) -> None:
    images = calibration_images()
    logits = logits_by_hand(tiny_model(), images)
    labels = logits.argmax(dim=1) if right else logits.argmin(dim=1)
    suite = Calibration(calib_data=replace(images, labels=labels))
    fog = Corruption(corruptions="fog", severity=(1,), profile="cifar")
    report = evaluate(tiny_model(), tiny_images(), ["clean", suite, fog])
    block = block_of(report)
    reason = "the likelihood has no optimum in exp(-3) to exp(3)"
    assert (block["T"], block["reason"], block["bound_hit"]) == (None, reason, True)
    assert not {"nll_after", "ece_after", "bins_15", "T_fits"} & set(block)
    note = f"W-TEMPERATURE: nothing is scaled by a temperature: {reason}"
    assert note in part_of(report).notes
    assert "W-TEMPERATURE" in {warning.code for warning in report.content.warnings}
    corrupted = report.content.suites["corruption"]
    assert corrupted.details["calibration"]["temperature"] is None
    assert not [name for name in corrupted.metrics if "scaled" in name]
    assert recompute(report) == []
    said = draw_suite_reliability([report], ["calibration"], tmp_path / "a.svg")
    assert said.endswith(f"; not scaled by a temperature: {reason}.")


def test_two_halves_without_an_error_give_no_temperature() -> None:
    data = tiny_images()
    right = replace(data, labels=logits_by_hand(tiny_model(), data).argmax(dim=1))
    suite = Calibration(recalibrate=("vector", "isotonic"))
    report = evaluate(tiny_model(), right, ["clean", suite])
    assert report.metric("clean.top1").value == 1.0
    assert block_of(report)["T"] is None
    for block in part_of(report).details["recalibrated"].values():
        assert block["reason"]
        assert "nll_after" not in block
    assert recompute(report) == []


def test_nan_on_the_calibration_split_fails_the_suite() -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = torch.stack([x.flatten(1).mean(dim=1) * k for k in range(5)], dim=1)
            return torch.where(x.flatten(1)[:, :1] > 3, torch.nan, logits)

    images = calibration_images()
    pixels = images.pixels.take(torch.arange(len(images)))
    pixels[7, 0, 0, 0], pixels[:7, 0, 0, 0], pixels[8:, 0, 0, 0] = 255, 0, 0
    images = replace(images, pixels=type(images.pixels)(pixels))  # type: ignore[call-arg]
    model = RobustModel(
        Broken(), mean=(0, 0, 0), std=(0.3, 0.3, 0.3), num_classes=5, input_size=(3, 32, 32)
    )
    data = tiny_images()
    dark = data.pixels.take(torch.arange(len(data))) // 2
    data = replace(data, pixels=type(data.pixels)(dark))  # type: ignore[call-arg]
    report = evaluate(model, data, ["clean", Calibration(calib_data=images)])
    assert report.content.suites["clean"].status == "ok"
    assert part_of(report).status == "failed"
    assert "NaN or infinite" in str(part_of(report).reason)


def test_what_other_suites_scale_with() -> None:
    data, model = tiny_images(), tiny_model()
    report = evaluate(model, data, ["clean", "calibration"])
    assert report.samples is not None
    found = clean_temperatures(report.samples, 0)
    assert found is not None
    folds = two_fold_temperature(
        report.samples.clean_logits(), data.labels, data.sample_ids, seed=0, replicates=0
    )
    assert np.array_equal(found[0], folds.temperature)
    assert found[1]["split"] == "two-fold"
    report = evaluate(model, data, ["clean", Calibration(calib_data=calibration_images())])
    assert report.samples is not None
    found = clean_temperatures(report.samples, 0)
    block = block_of(report)
    assert found is not None
    assert (found[0] == block["T"]).all()
    assert found[1] == {key: block[key] for key in found[1]}
    one = evaluate(model, data.subset([0]), ["clean"])
    assert one.samples is not None
    assert clean_temperatures(one.samples, 0) is None


# the split that a checkpoint records


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained for one epoch with a fifth of the images kept out."""
    return robustmix.train(
        "digits-resnet8-vanilla",
        out=tmp_path_factory.mktemp("run"),
        epochs=1,
        limit_train=64,
        limit_val=20,
        val_split=0.2,
        seed=3,
        progress="none",
    ).last


def test_the_recorded_validation_split_was_not_trained_on(checkpoint: Path) -> None:
    robust = load_model(checkpoint)
    found = open_held_out(robust)
    assert found is not None
    assert robust.info.recipe is not None
    recipe = recipe_from_dict(dict(robust.info.recipe))
    data = load_run_data(replace(recipe, limit_train=None, limit_val=None), None)
    assert found.images.sample_ids == data.val.sample_ids
    assert not set(found.images.sample_ids) & set(data.train.sample_ids)
    assert found.record.n == len(data.val) == 259
    assert found.record.source == "validation split of the training: 0.2 of digits/train, seed 3"
    again = open_held_out(robust, calib_split="val")
    assert again is not None
    assert again.record == found.record


def test_the_recorded_split_is_used_before_two_folds(checkpoint: Path) -> None:
    robust = load_model(checkpoint)
    report = evaluate(robust, "digits", ["clean", "calibration"], limit=60)
    block = block_of(report)
    assert (block["split"], block["n_fitted"]) == ("held-out", [259])
    assert recompute(report) == []
    report = evaluate(robust, "digits", [Calibration(calib_split="two-fold")], limit=60)
    assert block_of(report)["split"] == "two-fold"


def test_named_data_come_before_the_recorded_split(checkpoint: Path) -> None:
    robust = load_model(checkpoint)
    found = open_held_out(robust, calib_data="digits", calib_split="test")
    assert found is not None
    assert found.images.sample_ids == load_dataset("digits", "test").sample_ids
    assert found.record.notes == ()
    trained = open_held_out(robust, calib_data="digits", calib_split="train")
    assert trained is not None
    assert trained.record.notes[0].startswith("W-CALIB-ON-TRAIN: ")


def test_validation_images_that_cannot_be_read_are_passed_over_with_a_note(
    checkpoint: Path, tmp_path: Path
) -> None:
    robust = load_model(checkpoint)
    robust.info = replace(robust.info, dataset=f"folder:{tmp_path / 'gone'}")
    suite = Calibration().prepare(scene(robust))
    assert suite.temperature == "two-fold"
    assert suite.notes[0].startswith("W-CALIB-FALLBACK: ")
    assert str(tmp_path) not in suite.notes[0]
    with pytest.raises(IntakeError):
        Calibration(calib_split="val").prepare(scene(robust))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"calib_split": "halves"}, "unknown calibration split"),
        ({"calib_split": "train"}, "is a part of calib_data"),
        ({"calib_split": "val", "calib_data": "digits"}, "excludes calib_data"),
        ({"calib_split": "val"}, "records no validation split"),
        ({"calib_data": "digitz"}, "did you mean 'digits'"),
        ({"calib_data": calibration_images(3), "calib_split": "test"}, "excludes calib_data"),
    ],
)
def test_options_that_exclude_each_other(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        open_held_out(tiny_model(), **options)


def test_calibration_images_of_another_task_are_refused() -> None:
    with pytest.raises(IntakeError, match="10 classes"):
        open_held_out(tiny_model(), calib_data="digits")
    model = tiny_model(classes=10)
    model.info = replace(model.info, class_names=tuple("abcdefghij"))
    with pytest.raises(IntakeError, match="class 0 is '0', the model's is 'a'"):
        open_held_out(model, calib_data="digits")


def test_scores_of_the_split_are_those_of_the_plain_model() -> None:
    images, model = calibration_images(130), tiny_model()
    split = score_split(model, images, torch.device("cpu"))
    expected = logits_by_hand(model, images)
    np.testing.assert_allclose(np.asarray(split.logits), expected.numpy(), rtol=1e-5, atol=1e-5)
    assert tuple(split.sample_ids) == images.sample_ids


def test_options_that_do_not_exist() -> None:
    with pytest.raises(UsageError, match="did you mean 'vector'"):
        Calibration(recalibrate=("vectors",))
    with pytest.raises(UsageError, match="1 to 1000 bins"):
        Calibration(ece_bins=(0,))
    by_name = {one.name: one for one in Calibration().options()}
    assert by_name["ece_bins"].value("20,10") == (20, 10)
    assert by_name["calib_data"].value("digits") == "digits"
    with pytest.raises(UsageError, match="did you mean 'two-fold'"):
        by_name["calib_split"].value("twofold")


@pytest.mark.parametrize(
    "damage",
    [
        {"bins": [10**9]},
        {"bins": "15"},
        {"recalibrators": ["vectors"]},
        {"temperature": "three-fold"},
        {"temperature": {"split": "held-out", "n": 5}},
    ],
)
def test_damaged_parameters_are_refused(damage: dict[str, Any]) -> None:
    params = Calibration(calib_data=calibration_images(5)).prepare(scene(tiny_model())).params
    assert Calibration.read(params).params == params
    with pytest.raises((KeyError, TypeError, ValueError)):
        Calibration.read(params | damage)


# long-tailed sets


def test_training_images_of_a_long_tailed_folder_are_counted(tmp_path: Path) -> None:
    for name, count in (("a", 101), ("b", 30), ("c", 2)):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{i}.png").touch()  # counted, not read

    def prepared(dataset: str) -> PreparedClean:
        return Clean().prepare(scene(tiny_model(), dataset=dataset))

    counted = prepared(f"folder:{tmp_path}")
    assert counted.params == {"train_counts": [101, 30, 2]}
    assert Clean.read(counted.params) == counted
    for i in range(2):
        (tmp_path / "train" / "a" / f"{i}.png").unlink()
    (tmp_path / "train" / "c").rename(tmp_path / "hidden")
    for alike in (f"folder:{tmp_path}", "", "cifar100", f"folder:{tmp_path / 'gone'}"):
        assert prepared(alike).params == {}


def test_the_temperature_of_the_split_is_applied_under_corruption(tmp_path: Path) -> None:
    checkpoint = digits_checkpoint(tmp_path / "last.pth")
    fog = Corruption(corruptions="fog,contrast", severity=(3,))
    report = evaluate(load_model(checkpoint), "digits", ["clean", "calibration", fog], limit=20)
    part, block = report.content.suites["corruption"], block_of(report)
    used = part.details["calibration"]["temperature"]
    assert (used["T"], used["split"]) == (block["T"], "held-out")
    assert part.params["temperature"].startswith("held-out: validation split of the training")
    assert recompute(report) == []


def test_what_a_reader_must_know_is_among_the_warnings(checkpoint: Path) -> None:
    suite = Calibration(paper_tool=True, calib_data="digits", calib_split="train")
    report = evaluate(load_model(checkpoint), "digits", ["clean", suite], limit=20)
    codes = {warning.code: warning.suite for warning in report.content.warnings}
    assert codes["W-PAPER-ECE"] == codes["W-CALIB-ON-TRAIN"] == "calibration"
