"""A batch in parts is what so many processes would do with it: gradients and statistics by hand."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods.step_draws import StepDraws
from robustmix.training import resolve_recipe
from robustmix.training.optim import build_optimizer
from robustmix.training.parts import batch_parts
from robustmix.training.ranks import Ranks
from robustmix.training.run import Run
from robustmix.training.run_data import complete_recipe, load_run_data
from robustmix.training.run_folder import RunFolder
from tests.training.runs import assert_same_run, log, small_train, stop_after

METHODS = ("vanilla", "mixup", "cutmix", "automix", "adautomix")
LR, MOMENTUM, DECAY = 0.05, 0.9, 1e-3


def a_run(
    folder: Path, method: str, arch: str, ranks: Ranks | None = None, **changes: object
) -> Run:
    """Return a run in float64 whose batches a test brings."""
    recipe = resolve_recipe(
        f"digits-resnet8-{method}",
        overrides={
            "arch": arch,
            "optimizer": "sgd",
            "lr": LR,
            "momentum": MOMENTUM,
            "weight_decay": DECAY,
            "schedule": "constant",
            "limit_train": 36,
            "limit_val": 4,
            "batch_size": 12,
            **changes,
        },
    )
    # The steps of a run are what a teacher's momentum follows.
    data = replace(load_run_data(recipe, None), steps=99)
    run = Run(
        folder=RunFolder(path=folder),
        recipe=complete_recipe(recipe, data),
        data=data,
        device=torch.device("cpu"),
        checkpoint=None,
        allow_download=False,
        say=lambda text: None,
        ranks=ranks,
    )
    run.state.method.double().train()
    object.__setattr__(run.recipe, "epochs", 1)
    return run


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(5)
    return [
        Batch(
            torch.randn(12, 3, 32, 32, generator=generator, dtype=torch.float64),
            torch.randint(10, (12,), generator=generator),
            torch.arange(12),
        )
        for _ in range(3)
    ]


class Rank:
    """One of several processes: a method of its own, on its part of every batch."""

    def __init__(self, run: Run, rank: int, ranks: int) -> None:
        self.method = cast(Any, copy.deepcopy(run.state.method))
        self.rng = StepDraws(np.random.PCG64(0))
        self.rng.bit_generator.state = run.state.streams.mix.bit_generator.state
        self.method.rng = self.rng
        self.rank, self.ranks = rank, ranks
        self.optimizer = build_optimizer(
            "sgd", self.method, lr=LR, momentum=MOMENTUM, weight_decay=DECAY
        )

    def backward(self, batch: Batch, iteration: int) -> None:
        if hasattr(self.method, "before_step"):
            self.method.before_step(iteration, 99)
        part = Batch(*(value[self.rank :: self.ranks] for value in batch))
        key = int(self.rng.integers(2**63))
        with self.rng.of_parts(key, [self.rank]):
            loss = self.method.training_step(part).loss
        self.optimizer.zero_grad()
        loss.backward()

    def step(self, iteration: int) -> None:
        self.optimizer.step()
        if hasattr(self.method, "after_step"):
            self.method.after_step(iteration, 99)


def of_ranks(run: Run, ranks: int) -> dict[str, torch.Tensor]:
    """Return the state after three steps of processes that average gradients, and buffers last."""
    processes = [Rank(run, rank, ranks) for rank in range(ranks)]
    for iteration, batch in enumerate(batches()):
        for process in processes:
            process.backward(batch, iteration)
        for same in zip(*(one.method.parameters() for one in processes), strict=True):
            grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in same]
            if any(p.grad is not None for p in same):
                mean = torch.stack(grads).mean(dim=0)
                for parameter in same:
                    parameter.grad = mean.clone()
        for process in processes:
            process.step(iteration)
    states = [one.method.state_dict() for one in processes]
    return {
        name: torch.stack([state[name].double() for state in states]).mean(dim=0)
        for name in states[0]
    }


CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    "no batch norm": ("timm:test_convnext", {"accumulate": 3}, 1e-12),
    "accumulate": ("resnet8", {"accumulate": 3}, 1e-10),
    "norm_batch": ("resnet8", {"norm_batch": 4}, 1e-10),
    "both": ("resnet8", {"accumulate": 2, "norm_batch": 2}, 1e-10),
}
QUICK = [
    ("vanilla", "no batch norm"),
    ("mixup", "no batch norm"),
    ("adautomix", "no batch norm"),
    ("automix", "accumulate"),
    ("cutmix", "norm_batch"),
    ("mixup", "both"),
]


@pytest.mark.parametrize(
    ("method", "case"),
    [
        pytest.param(m, c, marks=() if (m, c) in QUICK else pytest.mark.slow)
        for m in METHODS
        for c in CASES
    ],
)
def test_parts_are_processes(method: str, case: str, tmp_path: Path) -> None:
    arch, changes, within = CASES[case]
    run = a_run(tmp_path, method, arch, **changes)
    whole = copy.deepcopy(run.state.method)
    want = of_ranks(run, 6 if len(changes) == 2 else 3)
    for batch in batches():
        run.step(batch)
    got = run.state.method.state_dict()
    assert got.keys() == want.keys()
    for name, tensor in got.items():
        torch.testing.assert_close(tensor.double(), want[name], rtol=0, atol=within)
    moved = [not torch.equal(v, whole.state_dict()[n]) for n, v in got.items() if v.ndim]
    assert sum(moved) > len(moved) / 2


def test_parts_share_weights_and_have_partners_of_their_own() -> None:
    rng = StepDraws(np.random.PCG64(3))
    plain = np.random.Generator(np.random.PCG64(3))
    assert rng.beta(2, 2) == plain.beta(2, 2)
    assert rng.permutation(9).tolist() == plain.permutation(9).tolist()
    found = []
    for parts in ([0], [1], [0, 1]):
        with rng.of_parts(17, parts):
            n = 6 * len(parts)
            found.append((rng.beta(2, 2), rng.permutation(n), rng.uniform(), rng.permutation(n)))
    (lam, first, coin, _), (other_lam, other, other_coin, _), (_, both, _, again) = found
    assert (lam, coin) == (other_lam, other_coin)
    assert sorted(first) == sorted(other) == list(range(6))
    assert first.tolist() != other.tolist()
    assert both.tolist()[0::2] == (2 * first).tolist()
    assert both.tolist()[1::2] == (2 * other + 1).tolist()
    assert both.tolist() != again.tolist()
    assert rng.integers(9) == plain.integers(9)  # the stream itself is where it was


def test_a_batch_is_dealt_out() -> None:
    batch = batches()[0]
    parts = batch_parts(batch, 5)
    assert [part.indices.tolist() for part in parts] == [list(range(i, 12, 5)) for i in range(5)]
    assert torch.equal(parts[1].images, batch.images[1::5])
    (alone,) = batch_parts(batch, 7)  # 12 images are too few for two in each of 7 parts
    assert alone is batch


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("mixup", {"accumulate": 4, "norm_batch": 2, "precision": "bf16"}),
        pytest.param("adautomix", {"accumulate": 2}, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_ends_with_the_same_bits(
    method: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    whole = small_train(tmp_path / "whole", method, **changes)
    small_train(tmp_path / "parts", method, should_stop=stop_after(4), **changes)
    assert_same_run(whole, small_train(tmp_path / "parts", method, **changes))
    plain = small_train(tmp_path / "plain", method, epochs=1)
    assert log(plain.run_dir)[0]["train_loss"] != log(whole.run_dir)[0]["train_loss"]


def test_what_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    for values, message in (
        ({"accumulate": 3}, "accumulate: expected a divisor of batch_size (100), got 3"),
        (
            {"accumulate": 2, "norm_batch": 20},
            "norm_batch: expected a divisor of batch_size / accumulate (50), got 20",
        ),
    ):
        with pytest.raises(UsageError) as error:
            resolve_recipe(overrides=dict(values))
        assert message in str(error.value)
    with pytest.raises(UsageError, match="norm_batch has no effect: timm:test_vit has no batch n"):
        small_train(tmp_path, arch="timm:test_vit", norm_batch=8)


def test_the_mean_loss_of_uneven_parts_is_that_of_the_batch(tmp_path: Path) -> None:
    run = a_run(tmp_path, "vanilla", "timm:test_convnext", batch_size=6, accumulate=3)
    whole = cast(Any, copy.deepcopy(run.state.method))
    batch = Batch(*(value[:8] for value in batches()[0]))
    assert [len(part.labels) for part in batch_parts(batch, 3)] == [3, 3, 2]
    run.step(batch)
    loss = nn.functional.cross_entropy(whole.classifier()(batch.images), batch.labels)
    assert run.state.means.read()["loss"] == pytest.approx(float(loss.detach()), rel=1e-12)
    grads = torch.autograd.grad(loss, list(whole.parameters()))
    for parameter, grad in zip(run.state.method.parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad, grad, rtol=0, atol=1e-12)
