"""AlignMix: mix the maps of two images after their features have been matched by transport.

Method card
    Paper: Venkataramanan et al. 2022, "AlignMixup: Improving Representations By Interpolating
        Aligned Features", CVPR 2022, arXiv:2103.15375, section 3.
    Does: one lam ~ Beta(alpha, alpha) and one permutation a batch. For half of the batches
        (manifold_share) this is ManifoldMix. For the others, a transport plan R between the cells
        of the last maps of an image, A, and its partner, A', aligns one with the other, and
        lam A + (1 - lam) A' R^T or, as likely, lam A R + (1 - lam) A' goes to the classifier; the
        loss is lam CE(own) + (1 - lam) CE(partner).
    Cost: 3 forward passes a step.
    Deviations: the arithmetic is that of OpenMixup's port. There the batch as a whole decides when
        its plans are done (stop_together); here every image does. The shares of the two ways are
        the port's, which also leaves out the paper's variant with an autoencoder. No gradient
        flows through the plan. An image may be its own partner.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.manifoldmix import (
    PLACES,
    ManifoldMixDraws,
    manifold_places,
    manifoldmix_logits,
)
from robustmix.methods.method import Mixed, Setup, StepResult, require, split_step
from robustmix.methods.mixing import (
    Blend,
    blend_pairs,
    check_alpha,
    given,
    last_map,
    require_last_map,
)
from robustmix.methods.pair_mixing import PairMixing
from robustmix.methods.sinkhorn import sinkhorn_plan
from robustmix.models.resnet import ResNet
from robustmix.models.taps import in_eval_mode
from robustmix.models.wide_resnet import WideResNet
from robustmix.upload import uploaded


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignMixConfig:
    """Options of AlignMix; the defaults are OpenMixup's."""

    alpha: float = 2.0
    """Both parameters of the Beta distribution of lam; 2 is the CIFAR benchmark's value."""

    manifold_share: float = 0.5
    """Probability that a batch is mixed by ManifoldMix instead, in [0, 1]."""

    epsilon: float = 0.1
    """Weight of the plan's entropy, in units of squared distances between features."""

    iterations: int = 100
    """Most updates of the plan."""

    tolerance: float = 0.1
    """The plan is done when its potentials change by less in all."""

    stop_together: bool = False
    """Stop when the batch's mean change is below the tolerance, as released, not each image."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        share = self.manifold_share
        require(0 <= share <= 1, "manifold_share in [0, 1]", share)
        require(0 < self.epsilon < float("inf"), "a finite epsilon > 0", self.epsilon)
        require(self.iterations >= 1, "iterations >= 1", self.iterations)
        require(self.tolerance >= 0, "tolerance >= 0", self.tolerance)

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        if self.manifold_share < 1:
            return {}
        keys = ("epsilon", "iterations", "tolerance", "stop_together")
        return dict.fromkeys(keys, "manifold_share is 1")


class AlignMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    align: bool
    """Whether maps are aligned; else the batch is mixed as by ManifoldMix."""

    lam: float
    """Weight of the image itself, in [0, 1]."""

    own_moves: bool
    """Whether the image is aligned to its partner; else the partner to the image."""

    layer: int
    """Where ManifoldMix mixes: 0 the images, 1 or 2 the maps after that many stages."""

    perm: Tensor
    """int64 (N,), whom each image is mixed with."""

    traced_moves: Tensor | None = None
    """``own_moves`` as a bool tensor, for a trace that serves either."""


def draw_alignmix(n: int, config: AlignMixConfig, rng: np.random.Generator) -> AlignMixDraws:
    """Draw which of the two ways, lam ~ Beta(alpha, alpha), direction, place and partners."""
    return AlignMixDraws(
        align=bool(rng.random() >= config.manifold_share),
        lam=float(rng.beta(config.alpha, config.alpha)),
        own_moves=bool(rng.integers(2)),
        layer=int(rng.integers(PLACES)),
        perm=torch.from_numpy(rng.permutation(n)),
    )


def alignmix(features: Tensor, draws: AlignMixDraws, config: AlignMixConfig) -> Mixed:
    """Mix maps whose cells have been matched.

    Args:
        features: (N, C, h, w).
        draws: lam, the partners, and who is moved.
        config: of the transport plan.

    Returns:
        The mixed maps, and lam.

    Reference:
        Venkataramanan et al. 2022, arXiv:2103.15375, equations 5 to 8.
    """
    partners = features[draws.perm.to(features.device)]
    share = match_cells(features, partners, config)
    own, other = features.flatten(2), partners.flatten(2)
    if draws.traced_moves is not None and torch.compiler.is_compiling():
        # Both are moved, which costs little, and one is taken: one trace serves either.
        own, other = (
            torch.where(draws.traced_moves, torch.einsum("ncs,nst->nct", own, share), own),
            torch.where(draws.traced_moves, other, torch.einsum("nct,nst->ncs", other, share)),
        )
    elif draws.own_moves:
        own = torch.einsum("ncs,nst->nct", own, share)
    else:
        other = torch.einsum("nct,nst->ncs", other, share)
    mixed = draws.lam * own + (1 - draws.lam) * other
    return Mixed(mixed.view_as(features), draws.lam)


def match_cells(features: Tensor, partners: Tensor, config: AlignMixConfig) -> Tensor:
    """Return how much each cell of a map is like each of its partner's, without gradient.

    Args:
        features: (N, C, h, w).
        partners: likewise.
        config: of the transport plan.

    Returns:
        (N, h w, h w) in the features' type, rows and columns summing to about 1.
    """
    a, b = (maps.detach().float().flatten(2).transpose(1, 2) for maps in (features, partners))
    # Not by a matrix product, which loses the small distances to rounding.
    cost = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
    plan = sinkhorn_plan(
        cost,
        epsilon=config.epsilon,
        iterations=config.iterations,
        tolerance=config.tolerance,
        stop_together=config.stop_together,
    )
    return (plan * plan.shape[1]).to(features.dtype)


def map_logits(network: nn.Module, features: Tensor) -> Tensor:
    """Return the logits for a network's last map, as ``last_map`` gives it."""
    logits: Tensor
    if isinstance(network, ResNet | WideResNet):
        return network.forward_head(features)
    if type(network).__name__.startswith("Swin"):
        features = features.permute(0, 2, 3, 1)
    logits = network.forward_head(features)  # type: ignore[operator]  # timm's
    return logits


class AlignMix(PairMixing):
    """One network trained on mixed maps.

    Raises:
        UsageError: the network does not end in a map, or its stages are not known.
    """

    config: AlignMixConfig

    def __init__(self, network: nn.Module, config: AlignMixConfig, setup: Setup) -> None:
        super().__init__(network, config, setup)
        require_last_map(network, setup.input_size, setup.arch)
        self.places = manifold_places(network, setup.arch)

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Do to the images' patches what is done to the cells of the maps, to be looked at.

        The partner is moved, if patches of one size cover the image; else nobody is.
        """
        images = batch.images
        draws = uploaded(self.draw(batch, lam=lam, perm=perm), images.device)
        with in_eval_mode(self.network), torch.no_grad():
            features = last_map(self.network, images)
        share = match_cells(features, features[draws.perm], self.config).float()
        moved = _moved_patches(images[draws.perm], share, features.shape[2:])
        return blend_pairs(draws.lam * images + (1 - draws.lam) * moved, draws.perm, draws.lam)

    def training_step(self, batch: Batch) -> StepResult:
        """Return the mixed loss of one batch, which is mixed at the place that is drawn."""
        return split_step(self, batch)

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> AlignMixDraws:
        """Draw which of the two ways, and what either needs."""
        draws = draw_alignmix(len(batch.images), self.config, self.rng)
        moves = torch.tensor(draws.own_moves)
        return draws._replace(traced_moves=moves, **given(lam=lam, perm=perm))

    def compute(self, batch: Batch, draws: AlignMixDraws) -> StepResult:
        """Return the mixed loss of one batch, for draws on its device."""
        blend = blend_pairs(batch.images, draws.perm, draws.lam)
        return self.result(self.logits(batch.images, draws), batch, blend)

    def logits(self, images: Tensor, draws: AlignMixDraws) -> Tensor:
        """Return the logits of normalised images that are mixed on their way, (N, K)."""
        if draws.align:
            mixed = alignmix(last_map(self.network, images), draws, self.config)
            return map_logits(self.network, mixed.images)
        manifold = ManifoldMixDraws(draws.layer, draws.lam, draws.perm)
        return manifoldmix_logits(self.network, self.places, images, manifold)


def _moved_patches(images: Tensor, share: Tensor, cells: torch.Size) -> Tensor:
    """Return images (N, C, H, W) made of their own patches, weighed as cells are."""
    rows, cols = cells
    n, channels, height, width = images.shape
    if height % rows or width % cols:
        return images
    patches = images.view(n, channels, rows, height // rows, cols, width // cols)
    patches = patches.permute(0, 2, 4, 1, 3, 5)
    moved = torch.einsum("nst,ntp->nsp", share, patches.reshape(n, rows * cols, -1))
    return moved.view_as(patches).permute(0, 3, 1, 4, 2, 5).reshape(images.shape)
