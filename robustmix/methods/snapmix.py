"""SnapMix: paste a box of another size, and weigh the labels by class activation maps.

Method card
    Paper: Huang et al. 2021, "SnapMix: Semantically Proportional Mixing for Augmenting Fine-grained
        Data", arXiv:2012.04846, section 3.
    Does: two weights lam, lam' ~ Beta(alpha, alpha) and two centres give a box of the image and one
        of the partner; the partner's is resized (bilinear) into the image's. With each image's
        class activation map (of its own class, from 0, summing to 1), the own label weighs 1 minus
        what the box hides, the partner's what its box shows.
    Cost: 4 forward passes a step, one of them for the maps.
    Deviations: the weights are each image's own and need not sum to 1, as in the paper; the
        published implementation in OpenMixup weighs the batch's loss by their means
        (batch_mean_lambda). Where image and partner are of one class, the released code gives
        either label the sum of both weights, which counts that class twice (double_same_class);
        here it gets the sum once. The maps come from a pass in eval mode, which leaves the batch
        statistics alone; the released code makes it in train mode. OpenMixup, given a lam, has
        none for the second box; one_lambda uses the first for both. An image may be its own
        partner.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.box_taps import TracedBox, filled_box, traced_box
from robustmix.methods.cutmix import Box, cut_box, in_boxes
from robustmix.methods.method import Setup
from robustmix.methods.mixing import (
    Blend,
    blend_pairs,
    check_alpha,
    given,
    image_size,
    last_map,
    require_last_map,
)
from robustmix.methods.pair_mixing import PairMixing
from robustmix.models.taps import classifier_layer, in_eval_mode
from robustmix.upload import uploaded


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapMixConfig:
    """SnapMix's knob and the published code's quirks."""

    alpha: float = 1.0
    """Both parameters of the Beta distributions of the two weights."""

    one_lambda: bool = False
    """Give both boxes one size, as happens where a weight is handed in from outside."""

    double_same_class: bool = False
    """Give either label both weights' sum where they are the same, as released."""

    batch_mean_lambda: bool = False
    """Weigh the two labels' mean losses by mean weights, not each image's by its own."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)


class SnapMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    lam: float
    """Share of the image that its box leaves before it is rounded and clipped, in [0, 1]."""

    row: int
    """Row of that box's centre, in [0, H)."""

    col: int
    """Column of that box's centre, in [0, W)."""

    partner_lam: float
    """Share of the partner that its box leaves, likewise."""

    partner_row: int
    """Row of the partner's box's centre."""

    partner_col: int
    """Column of the partner's box's centre."""

    perm: Tensor
    """int64 (N,), whose box is pasted into each image."""


class SnapMixed(NamedTuple):
    """A batch after SnapMix."""

    images: Tensor
    """(N, C, H, W), a new tensor."""

    own: Tensor
    """float32 (N,), weight of the image's own label, in [0, 1]."""

    partner: Tensor
    """float32 (N,), weight of the partner's label, in [0, 1]."""


def draw_snapmix(
    n: int, size: tuple[int, int], alpha: float, rng: np.random.Generator
) -> SnapMixDraws:
    """Draw both boxes' weights and centres (row first), then a permutation.

    Args:
        n: images in the batch.
        size: height and width of the images.
        alpha: both parameters of the Beta distributions.
        rng: source of the draws.
    """
    height, width = size
    lam, partner_lam = float(rng.beta(alpha, alpha)), float(rng.beta(alpha, alpha))
    row, col = int(rng.integers(height)), int(rng.integers(width))
    partner_row, partner_col = int(rng.integers(height)), int(rng.integers(width))
    perm = torch.from_numpy(rng.permutation(n))
    return SnapMixDraws(lam, row, col, partner_lam, partner_row, partner_col, perm)


def snapmix(images: Tensor, draws: SnapMixDraws, activation: Tensor) -> SnapMixed:
    """Paste each image's partner's box, resized, and weigh what is hidden and what is shown.

    Args:
        images: (N, C, H, W).
        draws: two boxes for the batch, one partner an image.
        activation: class activation map of each unmixed image, (N, H, W), at least 0; only the
            shares of its sum count.

    Returns:
        The mixed images and both weights. Where a box is empty nothing is pasted.

    Reference:
        Huang et al. 2021, arXiv:2012.04846, equations 2 to 6.
    """
    return paste_resized(
        images, uploaded(boxes_of(draws, image_size(images)), images.device), activation
    )


class BoxesDraws(NamedTuple):
    """Two boxes for the batch, as the device is told."""

    box: Box
    """What of each image is hidden."""

    other: Box
    """What of each partner is shown."""

    perm: Tensor
    """int64 (N,), whose box is pasted into each image."""

    traced: TracedBox
    """Both boxes as tensors, for a trace that serves all."""

    traced_other: Tensor
    """int64 (4,), the partner's box likewise."""


def boxes_of(draws: SnapMixDraws, size: tuple[int, int]) -> BoxesDraws:
    """Return the boxes that are drawn, for images of a height and width."""
    box = cut_box(draws.lam, draws.row, draws.col, size)
    other = cut_box(draws.partner_lam, draws.partner_row, draws.partner_col, size)
    traced = traced_box(box, other, size, align_corners=True)
    empty = not _area(box) or not _area(other)
    kept = Box(0, 0, 0, 0) if empty else other
    return BoxesDraws(box, other, draws.perm, traced, torch.tensor(kept))


def paste_resized(images: Tensor, draws: BoxesDraws, activation: Tensor) -> SnapMixed:
    """Do what ``snapmix`` does, all on one device."""
    box, other, perm, traced, traced_other = draws
    if torch.compiler.is_compiling():
        return paste_traced(images, perm, traced, traced_other, activation)
    mixed = images.clone()
    if not _area(box) or not _area(other):
        full = torch.ones(len(perm), device=images.device)
        return SnapMixed(mixed, full, 1 - full)
    part = images[perm][:, :, other.top : other.bottom, other.left : other.right]
    shape = (box.bottom - box.top, box.right - box.left)
    pasted = F.interpolate(part, size=shape, mode="bilinear", align_corners=True)
    mixed[:, :, box.top : box.bottom, box.left : box.right] = pasted
    hidden, shown = _within(activation, box), _within(activation, other)[perm]
    return SnapMixed(mixed, 1 - hidden, shown)


def paste_traced(
    images: Tensor, perm: Tensor, box: TracedBox, other: Tensor, activation: Tensor
) -> SnapMixed:
    """Do what ``paste_resized`` does, but for the order of sums, for boxes that are tensors."""
    size, total = image_size(images), activation.sum(dim=(1, 2))
    hidden, shown = (
        (activation * in_boxes(place, size)).sum(dim=(1, 2)) / total for place in (box.box, other)
    )
    return SnapMixed(filled_box(images, images[perm], box), 1 - hidden, shown[perm])


def class_activation(features: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Return class activation maps that are at least 0 and sum to 1, (N, H, W).

    Args:
        features: last map, (N, F, h, w).
        weight: of each image's class in the last linear layer, (N, F).
        size: height and width of the images.
    """
    maps = torch.einsum("nfhw,nf->nhw", features.relu(), weight)
    maps = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    maps = maps - maps.amin(dim=(1, 2), keepdim=True)
    total = maps.sum(dim=(1, 2), keepdim=True)
    flat = torch.full_like(maps, 1 / (size[0] * size[1]))
    return torch.where(total > 0, maps / total.clamp_min(torch.finfo(maps.dtype).tiny), flat)


def _area(box: Box) -> int:
    return max(box.bottom - box.top, 0) * max(box.right - box.left, 0)


def _within(activation: Tensor, box: Box) -> Tensor:
    """Return how much of each map is in a box, (N,)."""
    part = activation[:, box.top : box.bottom, box.left : box.right]
    return part.sum(dim=(1, 2)) / activation.sum(dim=(1, 2))


class SnapMix(PairMixing):
    """One network trained on batches that its own activation maps weigh.

    Raises:
        UsageError: the network does not end in a map, a mean and a linear layer.
    """

    config: SnapMixConfig

    def __init__(self, network: nn.Module, config: SnapMixConfig, setup: Setup) -> None:
        super().__init__(network, config, setup)
        require_last_map(network, setup.input_size, setup.arch)
        classifier_layer(network)
        self.batch_mean_lambda = config.batch_mean_lambda

    @torch.no_grad()
    def activation(self, batch: Batch) -> Tensor:
        """Return the class activation map of every image and its own class, (N, H, W)."""
        with in_eval_mode(self.network):
            features = last_map(self.network, batch.images)
        weight = classifier_layer(self.network).weight[batch.labels]
        return class_activation(features.float(), weight.float(), image_size(batch.images))

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> BoxesDraws:
        """Draw both boxes and the partners; a given ``lam`` is that of both boxes."""
        size = image_size(batch.images)
        draws = draw_snapmix(len(batch.images), size, self.config.alpha, self.rng)
        draws = draws._replace(**given(lam=lam, partner_lam=lam, perm=perm))
        if self.config.one_lambda:
            draws = draws._replace(partner_lam=draws.lam)
        return boxes_of(draws, size)

    def blend(self, batch: Batch, draws: BoxesDraws) -> Blend:
        """Paste a box of each image's partner."""
        mixed = paste_resized(batch.images, draws, self.activation(batch))
        own, partner = mixed.own, mixed.partner
        if self.config.double_same_class:
            labels = batch.labels
            own, partner = same_class_doubled(own, partner, labels, labels[draws.perm])
        return blend_pairs(mixed.images, draws.perm, own, partner)


def same_class_doubled(
    own: Tensor, partner: Tensor, labels: Tensor, partner_labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return both weights, or twice their sum where the labels are the same, as released."""
    total, same = own + partner, labels == partner_labels
    return torch.where(same, total, own), torch.where(same, total, partner)
