"""LAMB: timm's definition by hand and timm's own set-up, clipped once, resumed exactly."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from robustmix.errors import UsageError
from robustmix.training import Recipe, resolve_recipe
from robustmix.training.optim import build_optimizer
from robustmix.training.resolve import resolve, with_overrides
from tests.training.runs import assert_same_run, log, small_train, stop_after

STEPS = 50


def small_net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(5 * 4, 7)
    )


def gradients(net: nn.Module, seed: int) -> list[list[Tensor]]:
    """Return gradients whose norm is below 1 at first and far above later."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [p.shape for p in net.parameters()]
    return [
        [(0.02 + step / 20) * torch.randn(shape, generator=generator) for shape in shapes]
        for step in range(STEPS)
    ]


def moved(optimizer: torch.optim.Optimizer, net: nn.Module) -> list[Tensor]:
    """Return a network's weights after steps with given gradients and a falling rate."""
    for step, grads in enumerate(gradients(net, 8)):
        for parameter, grad in zip(net.parameters(), grads, strict=True):
            parameter.grad = grad.clone()
        for group in optimizer.param_groups:
            group["lr"] = 0.02 / (1 + step)
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def build(net: nn.Module, grad_clip: float = 1.0) -> torch.optim.Optimizer:
    return build_optimizer(
        "lamb", net, lr=0.02, momentum=0.9, weight_decay=0.02, grad_clip=grad_clip
    )


def test_it_is_timms_set_up() -> None:
    ours, theirs = small_net(), small_net()
    got = moved(build(ours), ours)
    want = moved(create_optimizer_v2(theirs, opt="lamb", lr=0.02, weight_decay=0.02), theirs)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
    start = [p.detach() for p in small_net().parameters()]
    assert all(float((a - b).abs().max()) > 1e-3 for a, b in zip(got, start, strict=True))


@pytest.mark.parametrize("clip", [1.0, 0.1])
def test_it_is_what_the_definition_says(clip: float) -> None:
    """In float64 by numpy: a clipped gradient, Adam's corrected update, decay, then the ratio."""
    net = small_net()
    got = moved(build(net, clip), net)
    weights = [p.detach().double().numpy() for p in small_net().parameters()]
    decay = [0.02, 0.0, 0.0, 0.02, 0.0]  # no norm and no bias
    first = [np.zeros_like(w) for w in weights]
    second = [np.zeros_like(w) for w in weights]
    clipped = 0
    for step, grads in enumerate(gradients(net, 8)):
        norm = float(np.sqrt(sum(float((g.double() ** 2).sum()) for g in grads)))
        clipped += norm > clip
        for i, grad in enumerate(grads):
            g = grad.double().numpy() / max(norm / clip, 1)
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g * g
            mean, square = first[i] / (1 - 0.9 ** (step + 1)), second[i] / (1 - 0.999 ** (step + 1))
            update = mean / (np.sqrt(square) + 1e-6) + decay[i] * weights[i]
            if decay[i]:
                update *= np.linalg.norm(weights[i]) / np.linalg.norm(update)
            weights[i] = weights[i] - 0.02 / (1 + step) * update
    assert clipped > 0
    assert clipped < STEPS or clip < 1
    for one, other in zip(got, weights, strict=True):
        np.testing.assert_allclose(one.double().numpy(), other, rtol=0, atol=1e-6)


def test_the_gradient_is_clipped_once_and_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("clipped before LAMB clips")

    monkeypatch.setattr("torch.nn.utils.clip_grad_norm_", twice)
    settings: dict[str, Any] = {"optimizer": "lamb", "lr": 0.01, "epochs": 1}
    low = small_train(tmp_path / "low", grad_clip=0.5, **settings)
    one = small_train(tmp_path / "one", **settings)
    assert log(low.run_dir)[0]["train_loss"] != log(one.run_dir)[0]["train_loss"]
    said = resolve_recipe(file=one.run_dir / "recipe.toml")
    assert (said.optimizer, said.grad_clip) == ("lamb", 1.0)


@pytest.mark.parametrize("method", ["mixup", pytest.param("adautomix", marks=pytest.mark.slow)])
def test_a_stopped_run_ends_with_the_same_bits(method: str, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "optimizer": "lamb",
        "lr": 0.02,
        "grad_clip": 0.7,
        "precision": "bf16",
        "ema_decay": 0.9,
        "warmup_epochs": 1,
    }
    if method == "adautomix":
        changes |= {"precision": "fp32", "generator_lr": 0.01}
    whole = small_train(tmp_path / "whole", method, **changes)
    small_train(tmp_path / "parts", method, should_stop=stop_after(4), **changes)
    assert_same_run(whole, small_train(tmp_path / "parts", method, **changes))


def test_what_it_is_clipped_to_is_said() -> None:
    found = resolve("cifar100-resnet18-mixup", overrides={"optimizer": "lamb"})
    assert (found.recipe.grad_clip, found.origins["grad_clip"]) == (1.0, "default of lamb")
    other = resolve("cifar100-resnet18-mixup", sets=["optimizer=lamb", "grad_clip=0.3"])
    assert (other.recipe.grad_clip, other.origins["grad_clip"]) == (0.3, "--set")
    want = r"grad_clip: expected a norm above 0, which optimizer lamb clips to, got 0.0"
    with pytest.raises(UsageError, match=want):
        resolve_recipe(overrides={"optimizer": "lamb", "grad_clip": 0.0})
    with pytest.raises(UsageError, match=want):
        with_overrides(Recipe(), {"optimizer": "lamb"})
    with pytest.raises(UsageError, match="momentum of given has no effect: lamb has no momentum"):
        resolve_recipe(overrides={"optimizer": "lamb", "momentum": 0.9})
