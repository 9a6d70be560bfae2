"""SuperMix against vectors made with the authors' code: each iteration, and whole runs.

Masks of mixtures that never show all their sources are chaotic: rounding moves them anywhere. So
iterations are compared from the recorded masks, and whole runs where the authors kept the mixture.
"""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from robustmix.methods.supermix import (
    Descent,
    SuperMixConfig,
    SuperMixDraws,
    divergence,
    newton_step,
    smoothed,
    supermix,
)
from tests.reference.networks import Tiny
from tests.reference.tolerances import LOSS, SCALAR, close, largest, logits_limit
from tests.reference.vectors import Vectors, reference_params, vectors

GRADIENT = 1e-5
"""Of the largest gradient to a mask, as of a network's own weights."""

MOVED = 2e-6
"""Of the largest entry of masks after a step."""

KEPT = 5e-5
"""Of masks and mixtures in the end: a change of 1e-7 in what goes in moves them by 8e-6, other
kernels by [1.3e-5]."""


def config_of(case: Vectors) -> SuperMixConfig:
    return SuperMixConfig(
        alpha=float(case["alpha"]),
        sources=int(case["K"]),
        mask_size=int(case["mask_w"]),
        sparsity=float(case["lambda_s"]),
        sigma=int(case["sigma"]),
        steps=int(case["iterations"]),  # theirs end for all when enough are done
    )


def draws_of(case: Vectors) -> SuperMixDraws:
    return SuperMixDraws(sources=case.tensor("sources"), weights=case.tensor("lam").float())


def of_several_classes(case: Vectors) -> Tensor:
    """Whether a mixture's sources are of as many classes: else theirs looks for any other."""
    seen = case["pred"][case["sources"]].T
    return torch.tensor([len(set(row)) == len(row) for row in seen.tolist()])


@pytest.mark.parametrize("path", reference_params("methods_supermix*.npz"))
def test_targets(path: Path) -> None:
    for case in vectors(path):
        teacher = Tiny(case).eval()
        descent = Descent(teacher, config_of(case))
        with torch.no_grad():
            logits = teacher(case.tensor("img"))
        want = case.tensor("logits_img")
        close(f"{case.name} logits", logits, want, logits_limit(want))
        assert logits.argmax(dim=1).tolist() == case["pred"].tolist(), case.name
        targets = descent.targets(case.tensor("img"), draws_of(case))
        close(f"{case.name} targets", targets, case.tensor("targets"), SCALAR)


@pytest.mark.parametrize("path", reference_params("methods_supermix*.npz"))
def test_every_iteration(path: Path) -> None:
    for case in vectors(path):
        config, targets = config_of(case), case.tensor("targets")
        descent, sources = Descent(Tiny(case).eval(), config), draws_of(case).sources.T
        for i in range(config.steps):
            name, want = f"{case.name} iteration {i}", case.tensor("grad")[i]
            open_ = want.flatten(1).any(dim=1)  # of those that are done theirs is 0
            if not bool(open_.any()):
                continue
            coarse, after = (case.tensor(key)[i] for key in ("coarse", "coarse_after"))
            got, loss, _ = descent.slope(coarse, case.tensor("img"), sources, targets)
            limit = GRADIENT * largest(want[open_])
            close(f"{name} gradient", got[open_], want[open_], limit)
            smooth = case.tensor("smooth")[i][open_]
            close(f"{name} smoothed", smoothed(got, config.sigma)[open_], smooth, limit)
            kl = divergence(case.tensor("logits_mix")[i], targets)
            close(f"{name} divergence", kl, case.tensor("kl")[i], LOSS * max(1.0, largest(kl)))
            moved = coarse - newton_step(got, loss, config.sigma)
            limit = MOVED * max(1.0, largest(after[open_]))
            close(f"{name} moved", moved[open_], after[open_], limit)
            assert torch.equal(after[~open_], coarse[~open_]), name


@pytest.mark.parametrize("path", reference_params("methods_supermix*.npz"))
def test_whole_runs(path: Path) -> None:
    for case in vectors(path):
        teacher = Tiny(case).eval()
        got = supermix(case.tensor("img"), draws_of(case), teacher, config_of(case))
        kept = case.tensor("kept")
        sure = of_several_classes(case)[kept]
        theirs = kept[sure]
        assert bool(got.done[theirs].all()), f"{case.name}: {got.done[theirs]}"
        close(f"{case.name} masks", got.masks[theirs], case.tensor("mask")[sure], KEPT)
        want = case.tensor("mixed")[sure]
        close(f"{case.name} images", got.images[theirs], want, KEPT * max(1.0, largest(want)))
        want = case.tensor("pred_mix")[sure]
        close(f"{case.name} logits", got.logits[theirs], want, logits_limit(want))
