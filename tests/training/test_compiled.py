"""Compiled steps: the same numbers, one trace a variant, and what is said where there is none."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from robustmix.errors import UsageError
from robustmix.methods import METHODS
from robustmix.methods.method import splits
from robustmix.training.compiled import compile_mode, compiled_step
from tests.methods.test_every_method import built, digits
from tests.training.runs import small_train

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)

QUICK = ("mixup", "automix")
"""Methods that are traced in the default run; the rest is slow."""

STEPS = 4

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("mixup", {"pipeline": "mp+ce"}),
    ("cutmix", {"pipeline": "mp"}),
    ("automix", {"pipeline": "none"}),
    ("automix", {"pipeline": "mp"}),
    ("automix", {"mask_source": "grids"}),
]
"""Options by which another step is computed."""


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *(
            (n, {}) if n in QUICK else pytest.param(n, {}, marks=pytest.mark.slow, id=n)
            for n in METHODS
        ),
        *VARIANTS,
    ],
)
def test_a_step_is_one_graph_of_equal_losses_and_gradients(
    name: str, options: dict[str, Any]
) -> None:
    """To the bit, but for the order of sums: within 1e-6 of the largest gradient."""
    torch._dynamo.reset()
    batch = digits()
    eager, traced = built(name, **options), built(name, **options)
    if not getattr(traced, "one_graph", True):  # it says that its draws choose too many graphs
        assert compiled_step(traced, len(batch.labels), "default") is None
        return
    assert splits(traced)
    counter = CompileCounterWithBackend("aot_eager")
    step = compiled_step(traced, len(batch.labels), "default", backend=counter)
    assert step is not None
    traces = []
    for number in range(STEPS):
        found: list[tuple[Any, list[torch.Tensor]]] = []
        for method, make in ((eager, eager.training_step), (traced, step)):
            method.train().zero_grad()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(number)
                result = make(batch)
            torch.autograd.backward(result.loss)
            found.append((result, [p.grad for p in method.parameters() if p.grad is not None]))
            if hasattr(method, "after_step"):
                method.after_step(number, 100)
        (one, own), (other, theirs) = found
        torch.testing.assert_close(other.loss, one.loss, rtol=1e-6, atol=0)
        assert one.logs.keys() == other.logs.keys()
        largest = max(float(g.abs().max()) for g in own)
        for left, right in zip(own, theirs, strict=True):
            torch.testing.assert_close(right, left, rtol=0, atol=1e-6 * largest)
        traces.append(counter.frame_count)
    if name in QUICK:
        assert traces[-1] == traces[0], traces  # other lam and partners trace nothing anew
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
