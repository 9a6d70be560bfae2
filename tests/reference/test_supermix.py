"""SuperMix against vectors made with the authors' code: each iteration, and whole runs.

Masks of mixtures that never show all their sources are chaotic: rounding moves them anywhere. So
iterations are compared from the recorded masks, and whole runs where the authors kept the mixture.
Of these, too, one may have passed near a kink of the network, where a step enlarges what is off a
hundred times, in float64 as well. So the limit of each image is made of what it moves by if all
that goes in is changed by a few roundings.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

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

KEPT = 5e-6
"""Of masks and mixtures in the end, beside what their condition makes of rounding."""

ROUNDINGS = 1e-6
"""Of each weight and pixel, by how much it is changed at most: 8 EPS, for sums of some 30 to 300
products that are rounded in another order."""

CHANGES = 12
"""Sets of changes: one that brings an input of a ReLU to the other side of 0 is among them, if
rounding can, but in one of 4,000 images."""

CONDITION = 2.0
"""Of the largest change of a result by any of them, what is allowed."""


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


def changed(case: Vectors) -> Iterator[tuple[nn.Module, Tensor]]:
    """Yield the network and the images, each number changed by a few roundings."""
    for seed in range(CHANGES):
        generator = torch.Generator().manual_seed(seed)

        def change(numbers: Tensor, generator: torch.Generator = generator) -> Tensor:
            by = 2 * torch.rand(numbers.shape, generator=generator) - 1
            return numbers * (1 + ROUNDINGS * by)

        network = Tiny(case).eval()
        weights = network.state_dict()
        network.load_state_dict(
            {k: change(v) if v.is_floating_point() else v for k, v in weights.items()}
        )
        yield network, change(case.tensor("img"))


def condition(one: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Return by how much each image's entries differ from others' at most, (N,)."""
    return torch.stack([(other - one).flatten(1).abs().amax(dim=1) for other in others]).amax(dim=0)


def close_each(
    what: str, got: Tensor, want: Tensor, limit: float, moved: Tensor, which: Tensor
) -> None:
    """Assert that no image of ``which`` is off by more than the limit and its condition."""
    for i in which.tolist():
        allowed = limit + CONDITION * float(moved[i])
        close(f"{what} of image {i}", got[i], want[i], allowed)


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
        others = [(Descent(network, config), img) for network, img in changed(case)]
        for i in range(config.steps):
            name, want = f"{case.name} iteration {i}", case.tensor("grad")[i]
            open_ = want.flatten(1).any(dim=1)  # of those that are done theirs is 0
            if not bool(open_.any()):
                continue
            coarse, after = (case.tensor(key)[i] for key in ("coarse", "coarse_after"))
            got, loss, _ = descent.slope(coarse, case.tensor("img"), sources, targets)
            found = [one.slope(coarse, img, sources, targets) for one, img in others]
            limit, which = GRADIENT * largest(want[open_]), open_.nonzero().flatten()
            moved = condition(got, [one[0] for one in found])
            close_each(f"{name} gradient", got, want, limit, moved, which)
            smooth = case.tensor("smooth")[i]
            close_each(f"{name} smooth", smoothed(got, config.sigma), smooth, limit, moved, which)
            kl = divergence(case.tensor("logits_mix")[i], targets)
            close(f"{name} divergence", kl, case.tensor("kl")[i], LOSS * max(1.0, largest(kl)))
            steps = [newton_step(one[0], one[1], config.sigma) for one in found]
            step = newton_step(got, loss, config.sigma)
            limit = MOVED * max(1.0, largest(after[open_]))
            close_each(f"{name} moved", coarse - step, after, limit, condition(step, steps), which)
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
        others = [supermix(img, draws_of(case), net, config_of(case)) for net, img in changed(case)]
        largest_entry = max(1.0, largest(case.tensor("mixed")[sure]))
        logits = logits_limit(case.tensor("pred_mix")[sure])
        for name, key, limit in (
            ("masks", "mask", KEPT),
            ("images", "mixed", KEPT * largest_entry),
            ("logits", "pred_mix", logits),
        ):
            ours = getattr(got, name)
            want = torch.full_like(ours, math.nan)
            want[kept] = case.tensor(key)
            moved = condition(ours, [getattr(one, name) for one in others])
            close_each(f"{case.name} {name}", ours, want, limit, moved, theirs)
