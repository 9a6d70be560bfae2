"""AugMix: mix chains of augmentations of one image, and ask for one answer to all versions.

Method card
    Paper: Hendrycks et al. 2020, "AugMix: A Simple Data Processing Method to Improve Robustness and
        Uncertainty", arXiv:1912.02781, section 3 and algorithm 1.
    Does: an image goes through 3 chains of 1 to 3 operations each, weighed by Dirichlet(1, 1, 1);
        the sum is blended with the image by m ~ Beta(1, 1). The network sees the image and two such
        versions; the loss is the image's cross-entropy and 12 times the Jensen-Shannon divergence
        of the three predictions.
    Cost: 9 forward passes a step: three images for one.
    Deviations: none in the arithmetic: operations and chains are Pillow's to the bit. They act on
        whole batches of grey levels, which are recovered from the normalised images. Translations
        are at most a third of the width, of which the authors have one number for the square
        images of a data set. The nine operations are those that no test corruption resembles, as
        the authors' default. OpenMixup's own version, which augments normalised images and has no
        divergence, is not followed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.data.rand_augment import (
    MOVED,
    Group,
    autocontrast,
    change_,
    equalize,
    identity_but,
    in_groups,
    posterize,
    solarize,
)
from robustmix.methods.losses import cross_entropy, full_precision
from robustmix.methods.method import Setup, StepResult, require, split_step, top1
from robustmix.methods.mixing import (
    Blend,
    blend_alone,
    check_alpha,
    image_size,
    register_scale,
    to_levels,
)
from robustmix.upload import uploaded

Normalise: TypeAlias = Callable[[Tensor], Tensor]

LONGEST = 3
"""Operations of the longest chain, where the length is drawn."""

OPERATIONS = (
    "autocontrast",
    "equalize",
    "posterize",
    "rotate",
    "solarize",
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
)

TOP_LEVEL = 10.0
"""Level at which an operation is as strong as it gets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AugMixConfig:
    """Chains and divergence; the defaults are the paper's."""

    width: int = 3
    """Chains of operations an image goes through."""

    depth: int = 0
    """Operations a chain; 0 draws 1 to 3 for each."""

    severity: float = 3.0
    """Levels are uniform between 0.1 and this, of 10."""

    alpha: float = 1.0
    """Parameter of the Dirichlet distribution of the chains and of the Beta one of the blend."""

    jsd_weight: float = 12.0
    """Weight of the Jensen-Shannon divergence; 0 trains on the first version alone."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        require(self.width >= 1, "width >= 1", self.width)
        require(0 <= self.depth <= LONGEST, f"depth in 0 to {LONGEST}", self.depth)
        require(0.1 <= self.severity <= TOP_LEVEL, "severity in [0.1, 10]", self.severity)
        require(0 <= self.jsd_weight < float("inf"), "a finite jsd_weight >= 0", self.jsd_weight)


class AugMixDraws(NamedTuple):
    """Everything random in one version of each image of a batch."""

    operation: NDArray[np.int64]
    """(N, width, 3), places in ``OPERATIONS``."""

    level: NDArray[np.float64]
    """(N, width, 3), in [0.1, severity]."""

    negated: NDArray[np.bool_]
    """(N, width, 3), whether a geometric operation goes the other way."""

    depth: NDArray[np.int64]
    """(N, width), how many of the three are carried out."""

    weights: NDArray[np.float64]
    """(N, width), of the chains, summing to 1."""

    blend: NDArray[np.float64]
    """(N,), share of the chains; the image has the rest."""


def draw_augmix(n: int, config: AugMixConfig, rng: np.random.Generator) -> AugMixDraws:
    """Draw one version of each of ``n`` images."""
    shape = (n, config.width)
    fixed = np.full(shape, config.depth, dtype=np.int64)
    return AugMixDraws(
        operation=rng.integers(len(OPERATIONS), size=(*shape, LONGEST)),
        level=rng.uniform(0.1, config.severity, size=(*shape, LONGEST)),
        negated=rng.uniform(size=(*shape, LONGEST)) > 0.5,
        depth=fixed if config.depth else rng.integers(1, LONGEST + 1, size=shape),
        weights=rng.dirichlet([config.alpha] * config.width, size=n),
        blend=rng.beta(config.alpha, config.alpha, size=n),
    )


def augmix(images: Tensor, levels: Tensor, draws: AugMixDraws, normalise: Normalise) -> Tensor:
    """Return one version of each image: (1 - m) image + m sum_i w_i chain_i(image).

    Args:
        images: normalised, (N, 3, H, W).
        levels: their grey levels, uint8, same shape.
        draws: chains and weights.
        normalise: uint8 -> normalised float32.

    Reference:
        Hendrycks et al. 2020, arXiv:1912.02781, algorithm 1, lines 1 to 13.
    """
    plan = uploaded(chains_of([draws], image_size(images), images.dtype), images.device)
    return versions(images, levels, plan, normalise)[0]


class Chains(NamedTuple):
    """What is done to several versions of a batch's images, as the device is told."""

    steps: tuple[tuple[Group, ...], ...]
    """For each place in a chain, which copies of images are changed how; the versions' copies are
    behind each other, those of an image side by side."""

    weights: tuple[Tensor, ...]
    """For each version (N, width), of the chains."""

    blend: tuple[Tensor, ...]
    """For each version (N,), share of the chains."""

    traced: "tuple[TracedStep, ...]"
    """``steps`` in a form whose shapes are always the same, for a trace that serves all."""


class TracedStep(NamedTuple):
    """What is done at one place of M chains."""

    operation: Tensor
    """int64 (M,), a place in ``_TRACED``, or -1 where a chain has ended."""

    strengths: Tensor
    """float64 (M,), of operations on colours."""

    matrices: Tensor
    """float64 (M, 2, 3), of those that move pixels."""


def chains_of(
    draws: Sequence[AugMixDraws], size: tuple[int, int], dtype: torch.dtype = torch.float32
) -> Chains:
    """Return what is drawn, for images of a height and width and a type once normalised."""
    steps = tuple(_changes(draws, step, size) for step in range(LONGEST))
    count = sum(one.depth.size for one in draws)
    return Chains(
        steps=steps,
        traced=tuple(_traced(groups, count) for groups in steps),
        weights=tuple(torch.from_numpy(one.weights).to(dtype) for one in draws),
        blend=tuple(torch.from_numpy(one.blend).to(dtype) for one in draws),
    )


def _changes(draws: Sequence[AugMixDraws], step: int, size: tuple[int, int]) -> tuple[Group, ...]:
    rows: dict[str, list[Tensor]] = {name: [] for name in OPERATIONS}
    strengths: dict[str, list[Tensor]] = {name: [] for name in OPERATIONS}
    for number, one in enumerate(draws):
        going = step < one.depth.reshape(-1)
        operation = one.operation[:, :, step].reshape(-1)
        level = one.level[:, :, step].reshape(-1)
        negated = one.negated[:, :, step].reshape(-1)
        for place, name in enumerate(OPERATIONS):
            some = np.flatnonzero((operation == place) & going)
            rows[name].append(torch.from_numpy(some + number * len(going)))
            strengths[name].append(strength(name, level[some], negated[some], size[1]))
    return in_groups(
        {name: torch.cat(some) for name, some in rows.items()},
        {name: torch.cat(some) for name, some in strengths.items()},
        {name: partial(_matrices, name, size) for name in _MOVES},
    )


def _traced(groups: Sequence[Group], count: int) -> TracedStep:
    operation = torch.full((count,), -1)
    strengths = torch.ones(count, dtype=torch.float64)
    matrices = torch.eye(2, 3, dtype=torch.float64).repeat(count, 1, 1)
    for name, rows, values in groups:
        operation[rows] = _TRACED.index(name)
        (matrices if name == MOVED else strengths)[rows] = values
    return TracedStep(operation, strengths, matrices)


def versions(images: Tensor, levels: Tensor, chains: Chains, normalise: Normalise) -> list[Tensor]:
    """Return versions of each image, as ``augmix`` does, for draws on the images' device."""
    width = chains.weights[0].shape[1]
    copies = levels.repeat(len(chains.weights), 1, 1, 1)[:, None].expand(-1, width, -1, -1, -1)
    chained = copies.flatten(0, 1).contiguous()
    if torch.compiler.is_compiling():
        for step in chains.traced:
            chained = changed(chained, step)
    else:
        _run(chained, chains.steps)
    views = normalise(chained).view(len(chains.weights), len(images), width, *images.shape[1:])
    found = []
    for view, weights, m in zip(views, chains.weights, chains.blend, strict=True):
        mixed = torch.einsum("nw,nwchv->nchv", weights, view)
        share = m[:, None, None, None]
        found.append((1 - share) * images + share * mixed)
    return found


def run_chains(levels: Tensor, draws: AugMixDraws) -> Tensor:
    """Carry out every chain on its own copy of the image.

    Args:
        levels: uint8 (N width, 3, H, W), the copies of an image side by side.
        draws: what to do.

    Returns:
        New images, same shape, dtype and device.
    """
    levels = levels.clone()
    _run(levels, uploaded(chains_of([draws], image_size(levels)).steps, levels.device))
    return levels


def _run(levels: Tensor, steps: Sequence[Sequence[Group]]) -> None:
    for groups in steps:
        change_(levels, groups, _BY_LEVEL, bilinear_warp)


def changed(levels: Tensor, step: TracedStep) -> Tensor:
    """Carry out one operation an image: all of them on all images, of which each takes its own.

    Args:
        levels: uint8 (M, 3, H, W).
        step: on the images' device.
    """
    found = levels
    for place, name in enumerate(_TRACED):
        own = step.operation == place
        if name == MOVED:
            made = bilinear_warp(levels, step.matrices)
        else:  # others' strengths may be in another unit
            made = _BY_LEVEL[name](levels, torch.where(own, step.strengths, 1.0))
        found = torch.where(own[:, None, None, None], made, found)
    return found


def strength(
    name: str, level: NDArray[np.float64], negated: NDArray[np.bool_], width: int
) -> Tensor:
    """Return how strong an operation is at a level, float64 (n,), in its own unit.

    Units: bits kept; degrees counter-clockwise; threshold in grey levels; slope; pixels. Those of
    the first, second, third and last are whole.
    """
    sign = np.where(negated, -1.0, 1.0)
    most = {
        "posterize": 4.0,
        "rotate": 30.0,
        "solarize": 256.0,
        "shear-x": 0.3,
        "shear-y": 0.3,
        "translate-x": width / 3,
        "translate-y": width / 3,
    }
    value = level * most.get(name, 1.0) / TOP_LEVEL  # in the authors' order, for its rounding
    values = {
        "posterize": 4 - np.trunc(value),
        "rotate": sign * np.trunc(value),
        "solarize": 256 - np.trunc(value),
        "shear-x": sign * value,
        "shear-y": sign * value,
        "translate-x": sign * np.trunc(value),
        "translate-y": sign * np.trunc(value),
    }
    return torch.from_numpy(values.get(name, value))


def apply_operation(levels: Tensor, name: str, strengths: Tensor) -> Tensor:
    """Apply an operation to images, each with its own strength.

    Args:
        levels: uint8 (n, 3, H, W).
        name: one of ``OPERATIONS``.
        strengths: float64 (n,), as ``strength`` returns them.
    """
    if name in _BY_LEVEL:
        return _BY_LEVEL[name](levels, strengths)
    return bilinear_warp(levels, _matrices(name, image_size(levels), strengths))


def _matrices(name: str, size: tuple[int, int], strengths: Tensor) -> Tensor:
    """Return source coordinates of pixel corners, (x, y) = matrix @ (x', y', 1), as Pillow's."""
    entry = _MOVES[name]
    return _rotation(strengths, *size) if entry is None else identity_but(*entry, strengths)


_MOVES: dict[str, tuple[int, int] | None] = {
    "rotate": None,
    "shear-x": (0, 1),
    "shear-y": (1, 0),
    "translate-x": (0, 2),
    "translate-y": (1, 2),
}
"""The entry of the matrix that is the strength, if one is."""

_BY_LEVEL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": autocontrast,
    "equalize": equalize,
    "posterize": posterize,
    "solarize": solarize,
}

_TRACED = (*_BY_LEVEL, MOVED)
"""Names of groups, in the order in which a trace computes them."""


def _rotation(degrees: Tensor, height: int, width: int) -> Tensor:
    """Return the matrices of turns about the centre, counter-clockwise, as Pillow rounds them."""
    x, y = width / 2, height / 2
    rows = []
    for cos, sin in map(_turn, degrees.tolist()):
        rows.append([[cos, sin, cos * -x + sin * -y + x], [-sin, cos, -sin * -x + cos * -y + y]])
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 2, 3)


@cache
def _turn(degrees: float) -> tuple[float, float]:
    """Return cosine and sine of a turn to 15 decimals, as Pillow has them."""
    angle = -math.radians(degrees % 360)
    return round(math.cos(angle), 15), round(math.sin(angle), 15)


def bilinear_warp(levels: Tensor, matrices: Tensor) -> Tensor:
    """Resample images under affine maps as Pillow's bilinear filter does; black lies outside.

    Args:
        levels: uint8 (n, C, H, W).
        matrices: float64 (n, 2, 3), source (x, y) of the target's (x, y, 1), in pixels from the
            upper left corner of the first one.

    Returns:
        uint8 (n, C, H, W), to the bit what Pillow returns for each image.
    """
    n, channels, height, width = levels.shape
    matrices = matrices.to(levels.device)
    x = torch.arange(width, device=levels.device, dtype=torch.float64) + 0.5
    y = torch.arange(height, device=levels.device, dtype=torch.float64) + 0.5
    coordinates = (
        matrices[:, :, 0, None, None] * x
        + matrices[:, :, 1, None, None] * y[:, None]
        + matrices[:, :, 2, None, None]
    )
    source_x, source_y = coordinates.unbind(1)
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    pixels = levels.flatten(2).double()
    source_x, source_y = source_x - 0.5, source_y - 0.5
    left, top = source_x.floor(), source_y.floor()
    across, down = (source_x - left).view(n, 1, -1), (source_y - top).view(n, 1, -1)
    columns = [(left + dx).clamp_(0, width - 1).long() for dx in (0, 1)]
    # Along either row, then between them: what is cut to a whole level below hangs on every
    # rounding, so a sum of four weighted pixels, which is equal on paper, is another picture.
    rows = []
    for dy in (0, 1):
        row = (top + dy).clamp_(0, height - 1).long().mul_(width)
        ends = [
            pixels.gather(2, (row + column).view(n, 1, -1).expand(-1, channels, -1))
            for column in columns
        ]
        rows.append(ends[0] + (ends[1] - ends[0]) * across)
    found = rows[0] + (rows[1] - rows[0]) * down
    return torch.where(inside.view(n, 1, -1), found, 0.0).to(torch.uint8).view_as(levels)


def jensen_shannon(logits: list[Tensor]) -> Tensor:
    """Return the mean over the batch of the divergence of predictions, a float32 scalar.

    Args:
        logits: of the versions of the same images, each (N, K).

    Returns:
        The mean over versions of KL(p || M), M their mean, clamped to [1e-7, 1].

    Reference:
        Hendrycks et al. 2020, arXiv:1912.02781, equation 1.
    """
    shares = [full_precision(z).softmax(dim=1) for z in logits]
    log_mean = torch.stack(shares).mean(dim=0).clamp(1e-7, 1).log()
    terms = [F.kl_div(log_mean, p, reduction="batchmean") for p in shares]
    return torch.stack(terms).mean()


class AugMix(nn.Module):
    """One network trained to answer alike to three versions of an image."""

    config: AugMixConfig
    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, config: AugMixConfig, setup: Setup) -> None:
        super().__init__()
        self.network = network
        self.config = config
        self.rng = setup.rng
        self.label_smoothing = setup.label_smoothing
        register_scale(self, setup)

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Return one version of every image; a given ``lam`` is what the image keeps of itself."""
        return blend_alone(self.version(batch.images, lam))

    def version(self, images: Tensor, lam: float | None = None) -> Tensor:
        """Draw and return one version of every normalised image."""
        draws = draw_augmix(len(images), self.config, self.rng)
        if lam is not None:
            draws = draws._replace(blend=np.full(len(images), 1 - lam))
        chains = chains_of([draws], image_size(images), images.dtype)
        return self.versions(images, uploaded(chains, images.device))[0]

    def versions(self, images: Tensor, chains: Chains) -> list[Tensor]:
        """Return versions of every normalised image, for draws on the images' device."""
        levels = to_levels(images, self.shift, self.scale)
        return versions(images, levels, chains, self._normalise)

    def training_step(self, batch: Batch) -> StepResult:
        """Return the loss of one batch; ``top1`` is that of the images themselves."""
        return split_step(self, batch)

    def draw(self, batch: Batch) -> Chains:
        """Draw two versions of every image, or one if there is no divergence."""
        n = len(batch.images)
        count = 2 if self.config.jsd_weight else 1
        draws = [draw_augmix(n, self.config, self.rng) for _ in range(count)]
        return chains_of(draws, image_size(batch.images), batch.images.dtype)

    def compute(self, batch: Batch, draws: Chains) -> StepResult:
        """Return the loss of one batch, for draws on its device."""
        made = self.versions(batch.images, draws)
        weight = self.config.jsd_weight
        if not weight:
            logits = self.network(made[0])
            loss = cross_entropy(logits, batch.labels, smoothing=self.label_smoothing)
            return StepResult(loss, {"loss": loss.detach(), "top1": top1(logits, batch.labels)})
        logits = list(self.network(torch.cat([batch.images, *made])).chunk(3))
        clean = cross_entropy(logits[0], batch.labels, smoothing=self.label_smoothing)
        divergence = jensen_shannon(logits)
        loss = clean + weight * divergence
        logs = {
            "loss": loss.detach(),
            "loss_clean": clean.detach(),
            "loss_jsd": divergence.detach(),
            "top1": top1(logits[0], batch.labels),
        }
        return StepResult(loss, logs)

    def _normalise(self, levels: Tensor) -> Tensor:
        return (levels.float() / 255 - self.shift) / self.scale

    def classifier(self) -> nn.Module:
        """Return the one network."""
        return self.network
