"""AugMix against vectors made with the authors' code: operations, chains, mixtures, divergence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.methods.augmix import (
    LONGEST,
    OPERATIONS,
    AugMix,
    AugMixConfig,
    AugMixDraws,
    apply_operation,
    chains_of,
    changed,
    jensen_shannon,
    run_chains,
    strength,
)
from robustmix.methods.losses import cross_entropy
from robustmix.methods.method import Setup
from tests.reference.tolerances import SCALAR, close, largest
from tests.reference.vectors import Vectors, reference_params, vectors

MIXED = SCALAR
"""Of the largest pixel of a mixture: some sums of float32 numbers of that size."""

DIVERGENCE = SCALAR
"""Of a divergence or of 1, whichever is larger: the logarithms of which it is a difference are of
shares whose rounding is that of 1, however near they are to each other."""

DIVERGENCE_GRADIENT = 1e-5
"""Of the largest gradient to a logit."""


def levels_of(case: Vectors) -> Tensor:
    return case.tensor("img").permute(0, 3, 1, 2).contiguous()


def places_of(case: Vectors) -> np.ndarray:
    """Our place of each operation, by name."""
    names = [str(name).replace("_", "-") for name in case["op_names"]]
    assert set(names) <= set(OPERATIONS)
    return np.array([OPERATIONS.index(name) for name in names])


def draws_of(case: Vectors) -> AugMixDraws:
    """What the authors' code drew; nothing is drawn for operations without a level or a sign."""
    return AugMixDraws(
        operation=places_of(case)[case["op"].clip(min=0)],
        level=np.nan_to_num(case["level"], nan=0.1),
        negated=np.nan_to_num(case["sign_uniform"]) > 0.5,
        depth=case["depth"],
        weights=case["ws"].astype(np.float32).astype(np.float64),
        blend=case["m"].astype(np.float32).astype(np.float64),
    )


def method_of(case: Vectors) -> AugMix:
    config = AugMixConfig(width=int(case["width"]), severity=float(case["severity"]))
    setup = Setup(
        rng=np.random.default_rng(0),
        mean=tuple(case["mean"].tolist()),
        std=tuple(case["std"].tolist()),
    )
    return AugMix(torch.nn.Identity(), config, setup)


def assert_equal(what: str, got: Tensor, want: Tensor) -> None:
    off = int((got.int() - want.int()).abs().max()) if len(got) else 0
    assert off == 0, f"{what}: off by {off} levels"


@pytest.mark.parametrize("path", reference_params("methods_augmix*.npz"))
def test_operations_are_exact(path: Path) -> None:
    for case in vectors(path, "ops"):
        levels, n = levels_of(case), len(case["img"])
        drawn = zip(case["op"], case["level"], case["sign_uniform"], case["out"], strict=True)
        for op, level, uniform, out in drawn:
            name = OPERATIONS[places_of(case)[op]]
            strengths = strength(name, np.full(n, level), np.full(n, uniform > 0.5), out.shape[2])
            got = apply_operation(levels, name, strengths).permute(0, 2, 3, 1)
            assert_equal(f"{name} at {level}", got, torch.from_numpy(out))


@pytest.mark.parametrize("path", reference_params("methods_augmix*.npz"))
@pytest.mark.parametrize("traced", [False, True], ids=["in groups", "traced"])
def test_chains_are_exact_after_every_operation(path: Path, traced: bool) -> None:
    for case in vectors(path, "aug|aam"):
        draws, levels = draws_of(case), levels_of(case)
        copies = levels.repeat_interleave(draws.depth.shape[1], dim=0)
        steps = chains_of([draws], (levels.shape[2], levels.shape[3])).traced
        now = copies
        for done in range(1, LONGEST + 1):
            if traced:
                now = changed(now, steps[done - 1])
            else:
                now = run_chains(copies, draws._replace(depth=draws.depth.clip(max=done)))
            longer = torch.from_numpy(draws.depth.reshape(-1) >= done)
            want = case.tensor("after_op")[:, :, done - 1].flatten(0, 1).permute(0, 3, 1, 2)
            assert_equal(f"{case.name} after {done}", now[longer], want[longer])


@pytest.mark.parametrize("path", reference_params("methods_augmix*.npz"))
def test_mixtures_of_chains(path: Path) -> None:
    for case in vectors(path, "aug|aam"):
        method, levels = method_of(case), levels_of(case)
        images = (levels.float() / 255 - method.shift) / method.scale
        if "clean" in case.arrays:
            close(f"{case.name} clean", images, case.tensor("clean"), MIXED * largest(images))
            images = case.tensor("clean")
        size = (levels.shape[2], levels.shape[3])
        (got,) = method.versions(images, chains_of([draws_of(case)], size))
        want = case.tensor("out").float()
        close(f"{case.name} out", got, want, MIXED * largest(want))


@pytest.mark.parametrize("path", reference_params("methods_augmix*.npz"))
def test_divergence_loss_and_gradient(path: Path) -> None:
    for case in vectors(path, "jsd"):
        logits = case.tensor("logits").requires_grad_()
        weight = float(case["weight"])
        assert weight == AugMixConfig().jsd_weight
        divergence = jensen_shannon(list(logits.chunk(3)))
        clean = cross_entropy(logits.chunk(3)[0], case.tensor("label"))
        close(f"{case.name} clean", clean, case.tensor("loss_clean"), SCALAR * largest(clean))
        limit = DIVERGENCE * max(1.0, largest(divergence))
        assert float(case["jsd"]) == pytest.approx(case["kl"].mean(), abs=limit)
        close(f"{case.name} jsd", divergence, case.tensor("jsd"), limit)
        loss = clean + weight * divergence
        limit = SCALAR * largest(clean) + weight * limit
        close(f"{case.name} loss", loss, case.tensor("loss"), limit)
        (gradient,) = torch.autograd.grad(loss, logits)
        want = case.tensor("grad_logits")
        close(f"{case.name} gradient", gradient, want, DIVERGENCE_GRADIENT * largest(want))
