"""How often attacks wait for a GPU, counted without one, and that they find the same there."""

from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
import torch
from torch import Tensor

from benchmarks.pretended_gpu import GPU, Count, pretended_gpu
from robustmix.attacks import ATTACKS, Norm, Outcome, attack_norms, find_attack
from robustmix.attacks.doubts import Doubts, not_finite
from robustmix.errors import IncompleteError
from robustmix.evaluation.suite import Batch
from robustmix.evaluation.suites.attack_work import OneStep, Tools
from robustmix.types import Model
from tests.attacks.problems import SHAPE, keys
from tests.attacks.test_every_attack import random_images

CPU = torch.device("cpu")


class Case(NamedTuple):
    name: str
    steps: int  # or queries, of all starts and targets together
    knobs: Mapping[str, Any]
    most: float = 0.2  # waits a step


CASES = [
    Case("fgsm", 1, {}, most=3),  # the images, their score, and the keys, which it has no use for
    Case("pgd", 20, {}),
    Case("pgd", 40, {"steps": 40, "stop_early": True}),
    Case("pgd", 60, {"steps": 20, "restarts": 3, "loss": "margin"}),
    Case("apgd", 40, {"steps": 40}),
    Case("apgd", 80, {"steps": 40, "targets": 2, "loss": "dlr"}),
    Case("pgd", 60, {"eot": 3}),
    Case("apgd", 80, {"steps": 40, "eot": 2}),
    Case("mifgsm", 40, {"steps": 20, "eot": 2}),
    Case("square", 75, {"queries": 75}),
    Case("fab", 80, {"steps": 20}),  # towards each of four targets
    Case("fab", 80, {"steps": 40, "restarts": 2, "targets": None}),
    Case("deepfool", 30, {"steps": 30, "overshoot": 0.0}),
    Case("cw", 200, {"steps": 40, "binary_search_steps": 5, "learning_rate": 0.05}),
    Case("mifgsm", 20, {"steps": 20}),
    Case("transfer", 20, {"steps": 20}),
    Case("autoattack", 280, {"steps": 20, "queries": 100}),
    Case("autoattack", 800, {"steps": 20, "version": "rand"}),
    Case("autoattack", 550, {"steps": 10, "queries": 50, "version": "plus"}),
]


def model_on(device: torch.device) -> Model:
    """Tanh and elementwise sums: the same bits whatever the batch."""
    weights = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(2)).to(device)

    def model(images: Tensor) -> Tensor:
        return (torch.tanh(images.unsqueeze(1) - 0.5) * weights).flatten(2).sum(dim=2)

    return model


def problem_on(device: torch.device) -> tuple[Model, Tensor, Tensor]:
    """Return a model, images, and labels of which one is wrong."""
    model, images = model_on(device), random_images(13, seed=2).to(device)
    labels = model(images).argmax(dim=1)
    labels[3] = (labels[3] + 1) % 5
    return model, images, labels


def run(case: Case, norm: Norm, device: torch.device, count: Count | None = None) -> Outcome:
    """Attack images, some of which are broken soon, some late and some never."""
    model, images, labels = problem_on(device)
    own = keys(13)
    if count is not None:
        count.clear()
    eps = 0.03 if norm == "linf" else 0.12
    return find_attack(case.name).outcome(
        model, images, labels, eps=eps, norm=norm, keys=own, **case.knobs
    )


def numbers(outcome: Outcome) -> dict[str, Any]:
    """Return all that is known, on the CPU."""
    found = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    trace = found.pop("trace")
    found |= {} if trace is None else {f.name: getattr(trace, f.name) for f in fields(trace)}
    stages = found.pop("stages")
    found |= {f"{stage.member} broken": stage.broken for stage in stages}
    found |= {f"{stage.member} images": stage.images for stage in stages}
    return {name: None if value is None else value.cpu() for name, value in found.items()}


def test_every_attack_is_counted() -> None:
    assert {case.name for case in CASES} == set(ATTACKS)


@pytest.mark.parametrize(
    ("case", "norm"),
    [
        # The members of AutoAttack's other versions are counted by themselves.
        pytest.param(case, norm, marks=[pytest.mark.slow] if "version" in case.knobs else [])
        for norm in ("linf", "l2")
        for case in CASES
        if norm in attack_norms(case.name)
    ],
    ids=lambda value: f"{value.name}-{value.steps}" if isinstance(value, Case) else value,
)
def test_an_attack_seldom_waits_and_finds_the_same(case: Case, norm: Norm) -> None:
    here = run(case, norm, CPU)
    with pretended_gpu() as count:
        outcome = run(case, norm, GPU, count)
        assert sum(count.waits.values()) <= case.most * case.steps, count.table(case.steps)
        there = numbers(outcome)
    assert 0 < int(here.success.sum()) < 13
    for name, value in numbers(here).items():
        torch.testing.assert_close(there[name], value, rtol=0, atol=0, msg=name)


def test_the_sweep_of_one_step_waits_once_a_batch() -> None:
    radii = tuple(Fraction(k, 255) for k in (0, 1, 2, 4, 8, 16, 32, 64, 255))
    suite = OneStep(norm="linf", eps=radii[4], sweep=radii)

    def rows(device: torch.device, count: Count | None = None) -> dict[str, Tensor]:
        model, images, labels = problem_on(device)
        batch = Batch(
            indices=torch.arange(13),
            sample_ids=tuple(map(str, range(13))),
            labels=labels,
            images=lambda: (255 * images).round().to(torch.uint8),
        )
        tools = Tools(cast(Any, SimpleNamespace(model=model)), find_attack("fgsm"), {})
        if count is not None:
            count.clear()
        return {name: each["logits"] for name, each in suite._rows(tools, batch).items()}

    here = rows(CPU)
    with pretended_gpu() as count:
        found = rows(GPU, count)
        assert sum(count.waits.values()) == 1, count.table()
        there = {name: logits.cpu() for name, logits in found.items()}
    torch.testing.assert_close(there, here, rtol=0, atol=0)
    assert len(here) == 10


@pytest.mark.parametrize("name", list(ATTACKS))
def test_a_fault_that_is_read_late_is_raised(name: str) -> None:
    knobs = {"square": {"queries": 12}, "fgsm": {}, "autoattack": {"steps": 2, "queries": 12}}
    more: Mapping[str, Any] = knobs.get(name, {"steps": 3})
    with pretended_gpu():
        model, images, labels = problem_on(GPU)

        def broken(x: Tensor) -> Tensor:
            return torch.where((x != images[: len(x)]).any(), torch.nan, model(x))

        attack = find_attack(name)
        with pytest.raises((IncompleteError, ValueError), match="NaN") as caught:
            attack.outcome(broken, images, labels, eps=0.05, **more)
        assert getattr(caught.value, "code", "E-NONFINITE") == "E-NONFINITE"
        with pytest.raises(ValueError, match=r"expected images in \[0, 1\], got values in"):
            attack(model, images + 0.5, labels, eps=0.05, **more)


def test_doubts_raise_the_first_fault_once() -> None:
    with pretended_gpu() as count:
        doubts = Doubts()
        doubts.note(torch.zeros((), device=GPU), lambda: ValueError("none"))
        doubts.note(not_finite(torch.tensor([1.0, torch.nan]).to(GPU)), lambda: ValueError("NaN"))
        doubts.note(torch.tensor(True).to(GPU), lambda: ValueError("later"))
        with pytest.raises(ValueError, match="NaN"):
            doubts.settle()
        doubts.settle()
        count.clear()
        doubts.note(not_finite(torch.ones(3, device=GPU)), lambda: ValueError("none"))
        assert not count.waits
        doubts.settle()
        assert sum(count.waits.values()) == 1
    with pytest.raises(ValueError, match="at once"):
        doubts.note(not_finite(torch.tensor([-torch.inf])), lambda: ValueError("at once"))
    doubts.note(not_finite(torch.empty(0)), lambda: ValueError("none"))
