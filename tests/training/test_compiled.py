"""Compiled steps: the same numbers, one trace a variant, and what is said where there is none."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.eval_frame import _debug_get_cache_entry_list

from robustmix.errors import UsageError
from robustmix.methods import METHODS
from robustmix.training.compiled import compile_mode, compiled_step, why_eager
from tests.methods.test_every_method import built, digits
from tests.training.compiled_steps import STEPS, assert_same, made
from tests.training.runs import small_train

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

SLOW = pytest.mark.slow

QUICK = ("mixup", "cutmix")
"""Methods that are traced in the default run; the rest is slow."""

MOST = 4
"""Variants of each part of a step."""

PARTS = ("compute", "look", "targets", "slope")
"""Names of what is traced, each by itself."""


def variants(method: Any) -> list[int]:
    """Return how often each part of a method's steps was traced."""
    owners = [type(one) for one in (method, getattr(method, "descent", None))]
    codes = [
        getattr(owner, part).__code__ for owner in owners for part in PARTS if hasattr(owner, part)
    ]
    return [len(_debug_get_cache_entry_list(code)) for code in codes]


OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("mixup", {"pipeline": "mp+ce"}),
    ("cutmix", {"pipeline": "mp"}),
    ("automix", {"pipeline": "none"}),
    ("automix", {"pipeline": "mp"}),
    ("automix", {"mask_source": "grids"}),
    ("resizemix", {"interpolation": "bilinear"}),
]
"""Options by which another step is computed."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((n, {}) if n in QUICK else pytest.param(n, {}, marks=SLOW, id=n) for n in METHODS),
        *(pytest.param(*one, marks=SLOW) for one in OTHERS),
    ],
    ids=str,
)
def test_every_part_of_a_step_is_one_graph_of_equal_losses_and_gradients(
    name: str, options: dict[str, Any]
) -> None:
    """To the bit, but for the order of sums: within 1e-6 of the largest gradient."""
    torch._dynamo.reset()
    batch = digits()
    eager, traced = built(name, **options), built(name, **options)
    assert why_eager(traced) is None
    step = compiled_step(traced, len(batch.labels), "default", backend="aot_eager")
    assert step is not None
    for number in range(STEPS):
        want = made(eager, eager.training_step, batch, number)
        assert_same(made(traced, step, batch, number), want)
    assert 1 <= min(variants(traced)) <= max(variants(traced)) <= MOST
    torch._dynamo.reset()


def test_it_is_on_where_it_is_asked_for_or_a_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compile_mode("auto", CPU) is None
    assert compile_mode("auto", CUDA) == compile_mode("on", CUDA) == "reduce-overhead"
    assert compile_mode("off", CUDA) is None
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert compile_mode("on", CPU) == "default"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler"):
        compile_mode("on", CPU)


def test_a_method_that_is_not_in_two_parts_is_not_compiled() -> None:
    method: Any = torch.nn.Identity()
    assert compiled_step(method, 4, "default") is None


def test_what_cannot_be_compiled_is_computed_with_the_same_draws_or_is_an_error() -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise NotImplementedError("no such kernel")

    torch._dynamo.reset()
    batch, told = digits(), list[str]()
    eager, given_up, strict = built("mixup"), built("mixup"), built("mixup")
    step = compiled_step(given_up, len(batch.labels), "", backend=broken, otherwise=told.append)
    assert step is not None
    for _ in range(2):
        assert torch.equal(step(batch).loss, eager.training_step(batch).loss)
    assert len(told) == 1
    assert "no such kernel" in told[0]
    step = compiled_step(strict, len(batch.labels), "", backend=broken)
    assert step is not None
    with pytest.raises(RuntimeError, match="no such kernel"):
        step(batch)
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_compiled_run_ends_near_the_eager_one_and_says_so(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 1, "lr": 0.01}
    eager = small_train(tmp_path / "eager", "mixup", **settings)
    traced = small_train(tmp_path / "traced", "mixup", compile="on", **settings)
    assert traced.metrics["train_loss"] == pytest.approx(eager.metrics["train_loss"], rel=1e-3)
