"""SuperMix with a linear teacher, whose gradients are known, and against a slow loop."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods import Setup, cross_entropy
from robustmix.methods.supermix import (
    Descent,
    SuperMix,
    SuperMixConfig,
    SuperMixDraws,
    divergence,
    draw_supermix,
    enlarged_masks,
    filled_up,
    sees,
    smoothed,
    supermix,
)
from tests.training.runs import trained_network


class Teacher(nn.Module):
    """Linear in the pixels, and counting what it is shown."""

    def __init__(self, classes: int = 4, side: int = 8, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn(classes, 3 * side * side, generator=generator) / side
        self.register_buffer("weight", weight)
        self.shown: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(len(images))
        return F.linear(images.flatten(1), self.weight)  # type: ignore[arg-type]


def images_(n: int, side: int = 8) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def slow_supermix(
    images: Tensor, sources: list[int], weights: list[float], teacher: Teacher, c: SuperMixConfig
) -> tuple[Tensor, Tensor, bool]:
    """One mixture, written as the released code is: all its steps, then a look."""
    side = images.shape[2]
    pair = images[sources]
    named = teacher(pair).argmax(dim=1).tolist()
    target = torch.zeros(teacher(pair).shape[1], dtype=torch.float64)
    for name, weight in zip(named, weights, strict=True):
        target[name] += weight
    wanted = {k for k, share in enumerate(target.tolist()) if share > 0}
    coarse = torch.zeros(len(sources), c.mask_size, c.mask_size, dtype=torch.float64)

    def masks_of(values: Tensor) -> Tensor:
        up = F.interpolate(values[None], size=(side, side), mode="bilinear", align_corners=False)[0]
        return up.sigmoid() / up.sigmoid().sum(dim=0)

    for _ in range(c.steps):
        variable = coarse.clone().requires_grad_()
        masks = masks_of(variable)
        log_p = teacher((masks[:, None] * pair).sum(dim=0)[None])[0].log_softmax(dim=0)
        loss = sum(
            (t * (math.log(t) - log_p[k]) for k, t in enumerate(target.tolist()) if t > 0),
            start=torch.zeros((), dtype=torch.float64),
        )
        loss = loss + c.sparsity * (masks * (masks - 1)).abs().mean()
        (gradient,) = torch.autograd.grad(loss, variable)
        smooth = torch.zeros_like(gradient)
        taps = 5 * c.sigma
        kernel = [math.exp(-(((k - (taps - 1) / 2) / c.sigma) ** 2) / 2) for k in range(taps)]
        before = (taps - 1) // 2
        for s, i, j in np.ndindex(*gradient.shape):
            for a, b in np.ndindex(taps, taps):
                y, x = i + a - before, j + b - before
                if 0 <= y < c.mask_size and 0 <= x < c.mask_size:
                    smooth[s, i, j] += kernel[a] * kernel[b] * gradient[s, y, x] / sum(kernel) ** 2
        length = abs(float(loss.detach())) / (float((gradient * smooth).sum()) + 1e-10)
        coarse = coarse - min(max(length, 1e-4), 2000) * smooth
        mixed = (masks_of(coarse)[:, None] * pair).sum(dim=0)
        first = teacher(mixed[None])[0].topk(len(wanted)).indices.tolist()
        if set(first) == wanted:
            return mixed, masks_of(coarse), True
    return mixed, masks_of(coarse), False


@pytest.mark.parametrize(
    "options",
    [{}, {"sparsity": 0.0, "sigma": 2}, {"sources": 3, "mask_size": 4, "steps": 6}, {"steps": 1}],
)
def test_mixtures_against_a_loop(options: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"mask_size": 5, "steps": 4, **options}
    config = SuperMixConfig(**settings)
    images, teacher = images_(6).double(), Teacher().double()
    draws = draw_supermix(6, config, np.random.default_rng(0))
    got = supermix(images, draws, teacher, config)
    for i in range(6):
        sources, weights = draws.sources[:, i].tolist(), draws.weights[:, i].tolist()
        mixed, masks, done = slow_supermix(images, sources, weights, teacher, config)
        assert bool(got.done[i]) == done
        torch.testing.assert_close(got.masks[i], masks, rtol=0, atol=1e-9)
        torch.testing.assert_close(got.images[i], mixed, rtol=0, atol=1e-9)


def test_most_mixtures_show_both_in_the_end() -> None:
    images, teacher = images_(24), Teacher()
    draws = draw_supermix(24, SuperMixConfig(), np.random.default_rng(0))
    few = supermix(images, draws, teacher, SuperMixConfig(steps=1))
    teacher.shown.clear()
    many = supermix(images, draws, teacher, SuperMixConfig(steps=50))
    assert float(many.done.float().mean()) > 0.9
    assert few.done.sum() < many.done.sum()
    torch.testing.assert_close(many.masks.sum(dim=1), torch.ones(24, 8, 8))
    # The whole batch for its names, the first step and the last look; done ones drop out between.
    assert teacher.shown[0] == teacher.shown[1] == teacher.shown[-1] == 24
    assert teacher.shown[1:-1] == sorted(teacher.shown[1:-1], reverse=True)
    torch.testing.assert_close(many.logits, teacher(many.images), rtol=1e-4, atol=1e-5)


def test_a_traced_teacher_is_shown_batches_of_four_sizes() -> None:
    """Mixtures that are not done are filled up to one of these, and come to the same."""
    images, teacher, config = images_(24), Teacher(), SuperMixConfig(alpha=0.5)
    draws = draw_supermix(24, config, np.random.default_rng(0))
    want = supermix(images, draws, teacher, config)
    assert set(teacher.shown) == {24, 6, 5, 4, 3}
    teacher.shown.clear()
    descent = Descent(teacher, config)
    got = descent.mixed(images, descent.found(images, draws, lambda part, *given: part(*given)))
    assert set(teacher.shown) == {24, 6, 3}
    assert {len(filled_up(torch.arange(n), 24)) for n in range(1, 25)} == {24, 12, 6, 3}
    assert torch.equal(got.done, want.done)
    torch.testing.assert_close(got.images, want.images, rtol=1e-4, atol=1e-4)


def test_a_mixture_depends_on_its_sources_alone() -> None:
    images, teacher, config = images_(8), Teacher(), SuperMixConfig(steps=5)
    draws = draw_supermix(8, config, np.random.default_rng(0))
    whole = supermix(images, draws, teacher, config)
    for i in range(8):
        pair = images[draws.sources[:, i]]
        only = SuperMixDraws(torch.tensor([[0, 1], [1, 0]]), draws.weights[:, [i, i]])
        alone = supermix(pair, only, teacher, config)
        torch.testing.assert_close(alone.images[0], whole.images[i], rtol=1e-4, atol=1e-4)


def test_divergence_and_masks_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]))
    targets = torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    want = [0.5 * math.log(0.5 / 0.25), math.log(1 / 0.6)]
    assert divergence(logits, targets).tolist() == pytest.approx(want, rel=1e-5)
    coarse = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1)
    masks = enlarged_masks(coarse, (3, 2))  # sigmoids 1/2 and 3/4
    torch.testing.assert_close(masks[0, :, 2, 1], torch.tensor([0.4, 0.6]))
    assert masks.shape == (1, 2, 3, 2)


def test_smoothing_is_a_truncated_gaussian() -> None:
    spike = torch.zeros(1, 1, 11, 9)
    spike[0, 0, 5, 4] = 1
    for sigma, reach in ((1, range(-2, 3)), (2, range(-5, 5))):
        got = smoothed(spike, sigma)[0, 0]
        # An even kernel has no middle: what it collects for a cell begins a cell nearer.
        middle = 0.0 if sigma == 1 else 0.5
        weights = {k: math.exp(-(((k + middle) / sigma) ** 2) / 2) for k in reach}
        total = sum(weights.values())
        for a, b in np.ndindex(11, 9):
            want = weights.get(a - 5, 0) * weights.get(b - 4, 0) / total**2
            assert float(got[a, b]) == pytest.approx(want, abs=1e-7), (sigma, a, b)
    assert torch.equal(smoothed(spike, 0), spike)


def test_one_class_in_both_has_to_come_first_alone() -> None:
    targets = torch.tensor([[0.0, 1.0, 0.0]])
    assert sees(torch.tensor([[1.0, 2.0, 0.0]]), targets).tolist() == [True]
    assert sees(torch.tensor([[2.0, 1.0, 0.0]]), targets).tolist() == [False]


def test_draws_are_a_ring_and_weights_sum_to_one() -> None:
    config = SuperMixConfig(sources=3, alpha=2.0)
    draws = draw_supermix(50, config, np.random.default_rng(0))
    following = draws.sources[1]
    assert torch.equal(draws.sources[0], torch.arange(50))
    assert torch.equal(draws.sources[2], following[following])
    place, seen = 0, set()
    while place not in seen:
        seen.add(place)
        place = int(following[place])
    assert len(seen) == 50
    torch.testing.assert_close(draws.weights.sum(dim=0), torch.ones(50))
    assert abs(float(draws.weights.var()) - 2 / 63) < 0.01  # Dirichlet(2, 2, 2)


def setup(**changes: Any) -> Setup:
    settings: dict[str, Any] = {
        "rng": np.random.default_rng(3),
        "input_size": (3, 32, 32),
        "num_classes": 10,
        "mean": (0.3, 0.3, 0.3),
        "std": (0.25, 0.3, 0.35),
        **changes,
    }
    return Setup(**settings)


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3 * 32 * 32, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(images.flatten(1))
        return logits


@pytest.mark.parametrize("labels", ["mixed", "teacher"])
def test_a_step_is_of_the_mixtures(labels: Any) -> None:
    config = SuperMixConfig(teacher=str(trained_network()), steps=3, labels=labels)
    images = images_(4, 32)
    batch = Batch(images, torch.tensor([0, 1, 2, 3]), torch.arange(4))
    student = Student()
    method = SuperMix(student, config, setup())
    result = method.training_step(batch)
    draws = draw_supermix(4, config, np.random.default_rng(3))
    mixed = supermix(images, draws, method.teacher, config)
    logits = student(mixed.images)
    if labels == "mixed":
        terms = [
            draws.weights[s, i]
            * cross_entropy(logits[i : i + 1], batch.labels[draws.sources[s, i]][None])
            for s, i in np.ndindex(2, 4)
        ]
        want = torch.stack(terms).sum() / 4
    else:
        want = cross_entropy(student(images), batch.labels)
        want = want + cross_entropy(logits, method.teacher(mixed.images).argmax(dim=1))
    assert float(result.loss.detach()) == pytest.approx(float(want.detach()), rel=1e-4)
    assert float(result.logs["seen"]) == float(mixed.done.float().mean())
    trained = {id(p) for p in method.parameters()}
    assert trained == {id(p) for p in student.parameters()}


def test_impossible_teachers_and_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a trained teacher"):
        SuperMix(Student(), SuperMixConfig(), setup())
    config = SuperMixConfig(teacher=str(trained_network()))
    with pytest.raises(UsageError, match="10 classes, the data 7"):
        SuperMix(Student(), config, setup(num_classes=7))
    for options in ({"alpha": 0.0}, {"sources": 1}, {"sigma": -1}, {"steps": 0}, {"labels": "x"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            SuperMixConfig(**options)


def test_who_is_done_stands_still_until_it_is_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator: fewer looks leave every mixture as it is."""
    config = SuperMixConfig(steps=12, mask_size=4, sparsity=5.0)
    draws = draw_supermix(12, config, np.random.default_rng(0))
    often, seldom = Teacher(classes=8), Teacher(classes=8)
    want = supermix(images_(12), draws, often, config)
    monkeypatch.setattr(sys.modules[supermix.__module__], "may_look", lambda tensor: False)
    got = supermix(images_(12), draws, seldom, config)
    assert len(set(often.shown[1:-1])) > 2, often.shown  # some are done before others
    assert len(set(seldom.shown[3:5])) == 1, seldom.shown
    assert sum(often.shown) < sum(seldom.shown)
    torch.testing.assert_close(got.masks, want.masks)
    torch.testing.assert_close(got.images, want.images)
    assert torch.equal(got.done, want.done)
