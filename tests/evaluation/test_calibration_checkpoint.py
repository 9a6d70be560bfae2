"""The temperature in a checkpoint: written once, applied everywhere, never twice."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from robustmix.attacks.fgsm import input_gradient
from robustmix.data.datasets import load_dataset
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.calibrate import calibrate_model, default_out
from robustmix.evaluation.evaluate import evaluate
from robustmix.metrics.temperature import fit_temperature, two_fold_temperature
from robustmix.models.checkpoint import (
    FORMAT_VERSION,
    Checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from robustmix.models.checks import state_hash
from robustmix.models.load import load_model
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel
from tests.evaluation.tiny import MEAN, STD, Net, tiny_images, tiny_model
from tests.models.builders import checkpoint as other_task

VAL = {"fraction": 0.1, "seed": 7}


@functools.cache
def some_weights() -> dict[str, torch.Tensor]:
    """Random features of a ResNet, and a classifier fitted to them by least squares."""
    net = build_model("resnet8", num_classes=10, input_size=(3, 32, 32)).eval()
    features: list[torch.Tensor] = []
    hook = net.get_submodule("fc").register_forward_pre_hook(lambda _, x: features.append(x[0]))
    train = load_dataset("digits", "train")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    with torch.no_grad():
        net((train.pixels.take(torch.arange(300)).float() / 255 - mean) / std)
        hook.remove()
        ones = torch.cat([features[0], torch.ones(300, 1)], dim=1).double()
        targets = 20 * F.one_hot(train.labels[:300], 10).double()
        gram = ones.T @ ones + 1e-3 * torch.eye(ones.shape[1], dtype=torch.float64)
        solved = torch.linalg.solve(gram, ones.T @ targets).float()
        net.get_parameter("fc.weight").copy_(solved[:-1].T)
        net.get_parameter("fc.bias").copy_(solved[-1])
    return net.state_dict()


def digits_checkpoint(path: Path, **changes: object) -> Path:
    """Write a network for digits as a training with a validation split would leave it."""
    base = Checkpoint(
        arch="resnet8",
        arch_options={"stem": "cifar"},
        method="vanilla",
        num_classes=10,
        input_size=(3, 32, 32),
        mean=MEAN,
        std=STD,
        class_names=tuple("0123456789"),
        dataset="digits",
        recipe={"epochs": 3, "val_split": 0.1, "seed": 7, "dataset": "digits"},
        run_id="a-run",
        epoch=3,
        metrics={"top1": 0.5, "selected_on": "val", "val_split": VAL},
        model=some_weights(),
        resume={"step": 1},
    )
    save_checkpoint(path, replace(base, **changes))  # type: ignore[arg-type]
    return path


def pixels(n: int = 5) -> torch.Tensor:
    images = load_dataset("digits", "test").pixels
    return images.take(torch.arange(n)).float() / 255


# the model


def test_the_temperature_divides_the_logits() -> None:
    plain = tiny_model()
    images = tiny_images(7).pixels.take(torch.arange(7)).float() / 255
    model = RobustModel(
        Net(), mean=MEAN, std=STD, num_classes=5, input_size=(3, 32, 32), temperature=1.7
    )
    logits = plain(images)
    torch.testing.assert_close(model(images), logits / 1.7)
    assert torch.equal(model(images).argmax(dim=1), logits.argmax(dim=1))
    labels = torch.arange(7) % 5
    inputs = images.clone().requires_grad_()
    (expected,) = torch.autograd.grad(
        F.cross_entropy(plain(inputs) / 1.7, labels, reduction="sum"), inputs
    )
    torch.testing.assert_close(input_gradient(model, images, labels), expected)


def test_without_a_temperature_nothing_changes() -> None:
    images = tiny_images(7).pixels.take(torch.arange(7)).float() / 255
    net = Net().eval()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    assert torch.equal(tiny_model()(images), net((images - mean) / std))
    assert "temperature" not in tiny_model().state_dict()


def test_the_temperature_comes_after_the_class_map() -> None:
    images = tiny_images(3).pixels.take(torch.arange(3)).float() / 255
    shape = {"mean": MEAN, "std": STD, "num_classes": 3, "input_size": (3, 32, 32)}
    joined = RobustModel(Net(), class_map=[0, 0, 1, 2, 2], **shape)  # type: ignore[arg-type]
    scaled = RobustModel(Net(), class_map=[0, 0, 1, 2, 2], temperature=2.0, **shape)  # type: ignore[arg-type]
    torch.testing.assert_close(scaled(images), joined(images) / 2)


def test_temperatures_are_told_apart_by_the_hash_of_the_model() -> None:
    def hashed(temperature: float | None) -> str:
        return state_hash(
            RobustModel(
                Net(),
                mean=MEAN,
                std=STD,
                num_classes=5,
                input_size=(3, 32, 32),
                temperature=temperature,
            )
        )

    assert len({hashed(None), hashed(1.5), hashed(2.5)}) == 3
    assert hashed(None) == state_hash(tiny_model())


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_temperatures_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="temperature > 0"):
        RobustModel(
            Net(), mean=MEAN, std=STD, num_classes=5, input_size=(3, 32, 32), temperature=value
        )


# the file


def test_round_trip_of_the_field(tmp_path: Path) -> None:
    calibration = {"T": 1.25, "sample_ids": ["a", "b"], "nll_before": 0.5}
    path = digits_checkpoint(tmp_path / "a.pth", calibration=calibration)
    assert read_checkpoint(path).calibration == calibration
    content = torch.load(path, weights_only=True)
    assert content["calibration"] == calibration
    model = load_model(path)
    assert model.info.calibration == calibration
    assert model.temperature is not None
    assert float(model.temperature) == 1.25
    plain = load_model(digits_checkpoint(tmp_path / "b.pth"))
    assert plain.temperature is None
    assert torch.equal(model(pixels()), plain(pixels()) / 1.25)


def test_files_of_the_first_format_are_read(tmp_path: Path) -> None:
    path = digits_checkpoint(tmp_path / "a.pth")
    content = torch.load(path, weights_only=True)
    assert content.pop("calibration") is None
    assert content["format_version"] == FORMAT_VERSION == 2
    torch.save({**content, "format_version": 1}, path)
    assert read_checkpoint(path).calibration is None
    torch.save(content, path)
    with pytest.raises(IntakeError, match="calibration is missing"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        {"T": 1.5},
        {"sample_ids": []},
        {"T": 0.0, "sample_ids": []},
        {"T": float("nan"), "sample_ids": []},
        {"T": "1", "sample_ids": []},
        {"T": 1.5, "sample_ids": "abc"},
        {"T": 1.5, "sample_ids": [1]},
        {"T": 1.5, "sample_ids": [], 3: 1},
    ],
)
def test_damaged_calibrations_are_refused(tmp_path: Path, value: object) -> None:
    path = digits_checkpoint(tmp_path / "a.pth")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "calibration": value}, path)
    with pytest.raises(IntakeError) as caught:
        load_model(path)
    assert caught.value.code == "E-CHECKPOINT"


# writing it


def test_calibrating_a_checkpoint(tmp_path: Path) -> None:
    source = digits_checkpoint(tmp_path / "last.pth")
    before, plain = source.read_bytes(), load_model(source)
    done = calibrate_model(load_model(source), tmp_path / "out.pth", source=source)
    assert source.read_bytes() == before
    calibrated = load_model(done.path)
    torch.testing.assert_close(calibrated(pixels()), plain(pixels()) / done.T)
    written = read_checkpoint(done.path)
    assert written.recipe == read_checkpoint(source).recipe
    assert written.metrics == read_checkpoint(source).metrics
    assert written.resume is None
    assert written.calibration is not None
    assert written.calibration["sample_ids"]
    assert all(i.startswith("digits/train/") for i in written.calibration["sample_ids"])

    images = load_dataset("digits", "train")
    place = {name: i for i, name in enumerate(images.sample_ids)}
    chosen = torch.tensor([place[name] for name in written.calibration["sample_ids"]])
    logits = plain(images.pixels.take(chosen).float() / 255)
    labels = images.labels[chosen]
    assert pytest.approx(fit_temperature(logits, labels).T, rel=1e-4) == done.T
    assert not done.report["bound_hit"]
    folds = two_fold_temperature(logits, labels, written.calibration["sample_ids"], seed=0)
    report = json.loads(done.report_path.read_text())
    assert report == done.report
    for name, metric in folds.metrics.items():
        assert report[name]["value"] == pytest.approx(metric.value, rel=1e-4)
        assert report[name]["ci"] is not None
    assert report["nll_after"]["value"] < report["nll_before"]["value"]
    assert [row["n"] for row in done.bins_after] == [row["n"] for row in folds.bins_15]
    assert [row["n"] for row in done.bins_after] != [row["n"] for row in done.bins_before]
    assert report["n"] == sum(row["n"] for row in done.bins_before if isinstance(row["n"], int))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "last.pth",
        "out.calibration.json",
        "out.pth",
    ]


def test_the_calibrated_checkpoint_is_evaluated_as_any_other(tmp_path: Path) -> None:
    source = digits_checkpoint(tmp_path / "last.pth")
    done = calibrate_model(load_model(source), tmp_path / "out.pth", source=source)
    plain, scaled = (
        evaluate(path, suites=["clean", "fgsm"], limit=16) for path in (source, done.path)
    )
    assert plain.metric("clean.top1") == scaled.metric("clean.top1")
    assert plain.samples is not None
    assert scaled.samples is not None
    np.testing.assert_allclose(
        scaled.samples.clean_logits(), plain.samples.clean_logits() / done.T, rtol=1e-5, atol=1e-6
    )
    assert scaled.content.run.status == "success"
    assert plain.content.model.state_sha256 != scaled.content.model.state_sha256


def test_trap_12_a_checkpoint_calibrated_on_the_test_images_cannot_be_judged_on_them(
    tmp_path: Path,
) -> None:
    source = digits_checkpoint(tmp_path / "last.pth")
    done = calibrate_model(
        load_model(source),
        tmp_path / "out.pth",
        source=source,
        calib_data="digits",
        calib_split="test",
    )
    report = evaluate(done.path, suites=["clean", "calibration"], limit=10)
    part = report.content.suites["calibration"]
    assert part.status == "failed"
    assert "E-CALIB-OVERLAP" in str(part.reason)


def test_calibrating_twice_is_refused(tmp_path: Path) -> None:
    source = digits_checkpoint(tmp_path / "last.pth")
    done = calibrate_model(load_model(source), tmp_path / "out.pth", source=source)
    with pytest.raises(UsageError, match="calibrated already") as caught:
        calibrate_model(load_model(done.path), tmp_path / "again.pth", source=done.path)
    assert caught.value.code == "E-CALIBRATED"
    assert not (tmp_path / "again.pth").exists()


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    source = digits_checkpoint(tmp_path / "last.pth")
    for name in ("out.pth", "out.calibration.json"):
        (tmp_path / name).write_text("mine")
        with pytest.raises(UsageError, match="is there already"):
            calibrate_model(load_model(source), tmp_path / "out.pth", source=source)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    with pytest.raises(UsageError, match="is there already"):
        calibrate_model(load_model(source), source, source=source)
    (tmp_path / "out.pth").write_text("mine")
    done = calibrate_model(load_model(source), tmp_path / "out.pth", source=source, force=True)
    assert read_checkpoint(done.path).calibration is not None


def test_without_held_out_images_there_is_no_calibration(tmp_path: Path) -> None:
    source = digits_checkpoint(tmp_path / "last.pth", recipe={}, metrics={})
    with pytest.raises(UsageError, match="no held-out images") as caught:
        calibrate_model(load_model(source), tmp_path / "out.pth", source=source)
    assert caught.value.code == "E-CALIB-SPLIT"
    with pytest.raises(UsageError, match=r"\.pth or \.pt"):
        calibrate_model(load_model(source), tmp_path / "out.safetensors", source=source)
    save_checkpoint(tmp_path / "other.pth", other_task())
    with pytest.raises(IntakeError, match="10 classes"):
        calibrate_model(
            load_model(tmp_path / "other.pth"), tmp_path / "out.pth", calib_data="digits"
        )
    assert not (tmp_path / "out.pth").exists()


def test_models_of_other_programs_become_checkpoints(tmp_path: Path) -> None:
    torch.save(some_weights(), tmp_path / "foreign.pth")
    robust = load_model(
        tmp_path / "foreign.pth", arch="resnet8", input_size=(3, 32, 32), mean=MEAN, std=STD
    )
    done = calibrate_model(
        robust, tmp_path / "out.pth", source=tmp_path / "foreign.pth", calib_data="digits"
    )
    again = load_model(done.path)
    assert again.info.method == "imported"
    torch.testing.assert_close(again(pixels()), robust(pixels()) / done.T)


@pytest.mark.parametrize("n", [40, 400])
def test_images_that_do_not_determine_a_temperature_leave_no_checkpoint(
    n: int, tmp_path: Path
) -> None:
    source = digits_checkpoint(tmp_path / "last.pth")
    model, data = load_model(source), load_dataset("digits", "train")
    logits = torch.cat([model(data.pixels.take(i).float() / 255) for i in chunks(n)])
    # All right; and of the larger set three wrong, which is hardly an error.
    labels = logits.argmax(dim=1)
    labels[: 3 * (n == 400)] = (labels[: 3 * (n == 400)] + 1) % 10
    few = replace(data.subset(list(range(n))), labels=labels)
    with pytest.raises(IntakeError, match="do not determine a temperature: ") as caught:
        calibrate_model(model, tmp_path / "out.pth", source=source, calib_data=few)
    assert caught.value.code == "E-TEMPERATURE"
    assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]


def chunks(n: int) -> list[torch.Tensor]:
    return [torch.arange(first, min(n, first + 100)) for first in range(0, n, 100)]


def test_a_class_map_cannot_be_kept(tmp_path: Path) -> None:
    source = digits_checkpoint(tmp_path / "last.pth")
    robust = load_model(source, class_map=list(reversed(range(10))))
    with pytest.raises(UsageError, match="class map"):
        calibrate_model(robust, tmp_path / "out.pth", source=source)


def test_where_it_goes() -> None:
    assert default_out("a/best.ckpt") == Path("a/best-calibrated.pth")
    assert default_out("torchvision:resnet18@default") == Path(
        "torchvision-resnet18-default-calibrated.pth"
    )
