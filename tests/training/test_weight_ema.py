"""The average of the weights: timm's, resumed exactly, deployed with the raw weights beside it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn

from robustmix.data.datasets import load_dataset
from robustmix.errors import IntakeError, UsageError
from robustmix.models.checkpoint import read_checkpoint, save_checkpoint
from robustmix.models.load import load_model
from robustmix.training.loop import TrainResult, train
from robustmix.training.resolve import resolve_recipe
from robustmix.training.validate import validate
from robustmix.training.weight_ema import WeightEma, decay_at
from tests.training.runs import assert_same_run, log, stop_after

OPTIONS: dict[str, Any] = {
    "epochs": 2,
    "limit_train": 96,
    "limit_val": 64,
    "batch_size": 32,
    "ema_decay": 0.8,
}
STEPS = 3  # an epoch


def run(out: Path, recipe: str = "digits-resnet8-vanilla", **options: Any) -> TrainResult:
    return train(recipe, out=out, device="cpu", progress="none", **{**OPTIONS, **options})


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def named(net: nn.Module) -> Callable[[Tensor], Mapping[str, Tensor]]:
    return lambda images: {"": net(images)}


def a_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


def test_it_is_timms() -> None:
    network = a_network()
    network(torch.rand(2, 3, 8, 8))
    ours, theirs = WeightEma(network, decay=0.9), ModelEmaV3(network, decay=0.9)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for i in range(20):
        network(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ours.update(network, i)
        theirs.update(network)
    expected = theirs.module.state_dict()
    for name, value in ours.network.state_dict().items():
        assert torch.equal(value, expected[name]), name
        assert name.endswith("tracked") or not torch.equal(value, network.state_dict()[name])
    assert not any(p.requires_grad for p in ours.network.parameters())


def test_the_decay_rises_in_its_warm_up() -> None:
    """By hand for one weight: 0.9 d at the first step, d from the end of the warm-up on."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    ema = WeightEma(network, decay=0.5, warmup=2)
    nn.init.ones_(network.weight)
    averages = []
    for i in range(3):
        ema.update(network, i)
        averages.append(ema.network.state_dict()["weight"].item())
    first = 1 - 0.45
    second = first + (1 - 0.475) * (1 - first)
    assert averages == pytest.approx([first, second, second + 0.5 * (1 - second)], rel=1e-6)
    assert decay_at(5, decay=0.5, warmup=0) == 0.5


@pytest.mark.parametrize("recipe", ["digits-resnet8-vanilla", "digits-resnet8-adautomix"])
def test_the_average_is_what_is_validated_deployed_and_best(tmp_path: Path, recipe: str) -> None:
    result = run(tmp_path, recipe)
    records = log(tmp_path)
    record = records[-1]
    checkpoint = read_checkpoint(result.last)
    assert checkpoint.weights == "ema"
    assert checkpoint.raw is not None
    assert checkpoint.raw.keys() == checkpoint.model.keys()
    assert not equal(checkpoint.raw, checkpoint.model)
    whole = load_dataset("digits", "test")
    held = whole.subset([i * len(whole) // 64 for i in range(64)])
    for weights, prefix in ((None, ""), ("ema", ""), ("raw", "raw_")):
        model = load_model(result.last, weights=weights)
        assert model.info.weights == (weights or "ema")
        found = validate(named(model.net), held, torch.device("cpu"))
        assert model.info.metrics is not None
        assert model.info.metrics["top1"] == record[f"{prefix}top1"]
        assert model.info.metrics["loss"] == record[f"{prefix}loss"]
        assert found[""] == {name: record[f"{prefix}{name}"] for name in ("loss", "top1")}
    best = max(one["top1"] for one in records)
    assert read_checkpoint(result.best).metrics["top1"] == best


def test_it_is_the_average_of_the_weights_after_every_step(tmp_path: Path) -> None:
    """Averaging changes nothing in the training, and folding its steps gives the average."""

    def weights(steps: int) -> dict[str, Tensor]:
        out = tmp_path / f"{steps}"
        return read_checkpoint(
            run(out, epochs=1, ema_decay=None, should_stop=stop_after(steps)).last
        ).model

    whole = read_checkpoint(run(tmp_path / "averaged", epochs=1).last)
    assert whole.raw is not None
    assert equal(whole.raw, weights(STEPS))
    # A decay of nearly 1 keeps the weights before the first step.
    kept = run(tmp_path / "kept", epochs=1, ema_decay=1 - 1e-12, should_stop=stop_after(1))
    mean = read_checkpoint(kept.last).model
    for steps in range(1, STEPS + 1):
        raw = weights(steps)
        mean = {
            name: 0.8 * value + 0.2 * raw[name] if value.is_floating_point() else raw[name]
            for name, value in mean.items()
        }
    for name, value in whole.model.items():
        assert torch.allclose(value, mean[name], rtol=1e-5, atol=1e-6), name


def test_its_warm_up_is_counted_in_epochs(tmp_path: Path) -> None:
    """Of the first step of a warm-up the decay is 0.9 x 0.8, however long the warm-up is."""
    kept = run(tmp_path / "kept", ema_decay=1 - 1e-12, should_stop=stop_after(1))
    begun, raw = read_checkpoint(kept.last).model, read_checkpoint(kept.last).raw
    assert raw is not None
    made = run(tmp_path / "made", ema_warmup_epochs=1, should_stop=stop_after(1))
    for name, value in read_checkpoint(made.last).model.items():
        if value.is_floating_point():
            expected = 0.72 * begun[name] + 0.28 * raw[name]
            assert torch.allclose(value, expected, rtol=1e-5, atol=1e-6), name


def test_what_was_fitted_to_the_average_is_not_of_the_raw_weights(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(run(tmp_path, epochs=1).last)
    fitted = replace(checkpoint, calibration={"T": 2.0, "sample_ids": ["a"]}, resume=None)
    save_checkpoint(tmp_path / "fitted.pth", fitted)
    assert load_model(tmp_path / "fitted.pth").info.calibration is not None
    assert load_model(tmp_path / "fitted.pth", weights="raw").info.calibration is None


@pytest.mark.parametrize("steps", [1, 5])
def test_a_stopped_run_ends_with_the_same_bits(tmp_path: Path, steps: int) -> None:
    whole = run(tmp_path / "whole")
    assert run(tmp_path / "broken", should_stop=stop_after(steps)).interrupted
    assert_same_run(run(tmp_path / "broken"), whole)


def test_keys() -> None:
    recipe = resolve_recipe(overrides={"ema_decay": 0.9, "ema_warmup_epochs": 3})
    assert (recipe.ema_decay, recipe.ema_warmup_epochs) == (0.9, 3)
    with pytest.raises(UsageError, match="without ema_decay"):
        resolve_recipe(overrides={"ema_warmup_epochs": 3})
    for impossible in (0.0, 1.0, 1.5):
        with pytest.raises(UsageError, match="ema_decay"):
            resolve_recipe(overrides={"ema_decay": impossible})


def test_raw_weights_are_not_made_up(tmp_path: Path) -> None:
    result = run(tmp_path, epochs=1, ema_decay=None)
    assert read_checkpoint(result.last).raw is None
    with pytest.raises(IntakeError, match="records raw, not ema"):
        load_model(result.last, weights="ema")
