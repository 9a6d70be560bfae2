"""PuzzleMix: keep what is salient of either image, by a graph cut, and move blocks to show more.

Method card
    Paper: Kim et al. 2020, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal
        Mixup", ICML 2020, arXiv:2009.06962, section 4, equations 5 to 8.
    Does: the gradient of the network's loss with respect to a clean image is its saliency. Every
        block of a grid of 2, 4, ... or max_blocks a side shows the image, its partner or half of
        each; a graph cut finds the labels that keep most saliency, weighing smooth labels (beta),
        smooth colours (gamma) and a prior (eta) whose mean is drawn from Beta(alpha, alpha). Then
        blocks are moved, at a cost, to where the mask shows them. A label weighs what share of
        the mask is its image's, of each mixture its own.
    Cost: 5 forward passes a step (saliency takes a forward and a backward pass to the image), and
        the graph cut on the CPU.
    Deviations: the arithmetic is that of OpenMixup's port, whose figures ours are compared with.
        There the loss weighs every label by the batch's mean (batch_mean_lambda); here each
        mixture by its own mask. There, too, the library that cuts lets a cost overflow 32 bits
        where a block holds more than about 21 times the mean saliency, so that what is most
        salient may be lost (wrap_costs); here it does not. The paper adds adversarial noise to
        some images and learns clean images too; OpenMixup does neither. A place that no block
        gains by, as the saliency there is exactly 0, keeps its block; the released code blackens
        it. One prior and one grid are drawn for the batch, and an image may be its own partner. A
        prior of 1 makes the image itself likely, not certain.
"""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods.graph_cut import swap_labels
from robustmix.methods.method import Run, Setup, require
from robustmix.methods.mixing import (
    Blend,
    Channels,
    blend_pairs,
    check_alpha,
    given,
    register_scale,
    to_pixels,
)
from robustmix.methods.momentum_pair import without_gradients
from robustmix.methods.pair_mixing import PairMixing
from robustmix.methods.transport import move_blocks, transport_plan
from robustmix.models.taps import in_eval_mode
from robustmix.upload import uploaded

LABELS = (0.0, 0.5, 1.0)
"""The partner's share of a block."""

UNITS = 1000
"""Costs are integers: whole thousandths of a block's mean share of the saliency."""

GCO_SCALE = 100_000
"""What gco-wrapper multiplies costs by before it rounds them to 32 bits."""

TINY = 1e-8
"""Keeps the logarithms of the prior finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PuzzleMixConfig:
    """Options of PuzzleMix; the defaults are OpenMixup's for CIFAR."""

    alpha: float = 1.0
    """Both parameters of the Beta distribution of the prior's mean."""

    max_blocks: int = 16
    """Most blocks a side, a power of 2; 2, 4, ... up to it are equally likely. 8 above 32 px."""

    beta: float = 1.2
    """Weight of smooth labels."""

    gamma: float = 0.5
    """Weight of smooth colours, as a share of that of smooth labels."""

    eta: float = 0.2
    """Weight of the prior."""

    border: int = 4
    """Pixels over which colours are averaged before they are compared across blocks."""

    transport: bool = True
    """Whether blocks are moved to where they show."""

    transport_epsilon: float = 0.8
    """Cost of moving a block across the image, in shares of the saliency."""

    transport_size: int = 4
    """Side of the blocks that are moved, in pixels, if smaller than the mask's; -1: the mask's."""

    batch_mean_lambda: bool = False
    """Weigh every label by the batch's mean mask, as OpenMixup's published runs did."""

    wrap_costs: bool = False
    """Let large costs overflow 32 bits, as they do in the released code with gco-wrapper."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        n = self.max_blocks
        require(n >= 2 and n & (n - 1) == 0, "max_blocks: 2, 4, 8, ...", n)
        for name in ("beta", "eta", "transport_epsilon"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"a finite {name} >= 0", value)
        # Above 1 an edge could weigh less than nothing, and cuts would not be minimal.
        require(0 <= self.gamma <= 1, "gamma in [0, 1]", self.gamma)
        require(self.border >= 1, "border >= 1", self.border)
        size = self.transport_size
        require(size == -1 or size >= 1, "transport_size: -1, or at least 1", size)

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        if self.transport:
            return {}
        return dict.fromkeys(("transport_epsilon", "transport_size"), "transport is false")


class PuzzleMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    lam: float
    """Mean share of the image itself that the prior prefers, in [0, 1]."""

    blocks: int
    """Blocks a side, a power of 2."""

    perm: Tensor
    """int64 (N,), whom each image is mixed with."""


class PuzzleMixed(NamedTuple):
    """A mixed batch."""

    images: Tensor
    """(N, C, H, W), a new tensor."""

    lam: Tensor
    """float32 (N,), share of each image's own mask."""

    labels: Tensor
    """float32 (N, blocks, blocks), the own share of each block: 0, 1/2 or 1."""


def draw_puzzlemix(n: int, config: PuzzleMixConfig, rng: np.random.Generator) -> PuzzleMixDraws:
    """Draw the prior's mean ~ Beta(alpha, alpha), the grid, the partners of ``n`` images."""
    return PuzzleMixDraws(
        lam=float(rng.beta(config.alpha, config.alpha)),
        blocks=2 ** int(rng.integers(1, config.max_blocks.bit_length())),
        perm=torch.from_numpy(rng.permutation(n)),
    )


def puzzlemix(
    images: Tensor,
    saliency: Tensor,
    draws: PuzzleMixDraws,
    config: PuzzleMixConfig,
    *,
    mean: Channels,
    std: Channels,
) -> PuzzleMixed:
    """Mix every image with its partner by a mask that keeps what is salient of both.

    Args:
        images: normalised, (N, 3, H, W) with H = W, a multiple of the blocks a side.
        saliency: of every pixel, (N, H, W), >= 0.
        draws: one prior and one grid for the batch, one partner an image.
        config: weights of the energy; whether and how blocks are moved.
        mean: of the normalisation, in [0, 1] pixel units; see ``to_pixels``.
        std: likewise.

    Returns:
        The mixed images, and the own share of each and of each block.

    Reference:
        Kim et al. 2020, arXiv:2009.06962, section 4.
    """
    height, width = images.shape[2:]
    assert height == width
    assert width % draws.blocks == 0
    there = draws._replace(perm=draws.perm.to(images.device))
    seen = looked(to_pixels(images, mean, std), saliency, there, config)
    return shown(images, uploaded(cut(seen, draws, config), images.device), config)


class Seen(NamedTuple):
    """What is salient and where colours change, as a device found it; n blocks a side."""

    own: Tensor
    """(N, n, n), what is lost of the image itself where a block does not show it."""

    partner: Tensor
    """(N, n, n), what is lost of the partner."""

    down: Tensor
    """(N, n - 1, n), weights of the edges to the blocks below, times ``UNITS`` n^2."""

    right: Tensor
    """(N, n, n - 1), weights of the edges to the blocks at the right, likewise."""

    wanted: Tensor
    """(2 N, m, m), saliency of the blocks that are moved, of the images and of the partners."""


class Cut(NamedTuple):
    """What the graph cut decided, and what the rest of the step needs besides."""

    mask: Tensor
    """float32 (N, n, n), the own share of each block: 0, 1/2 or 1."""

    wanted: Tensor
    """See ``Seen``."""

    perm: Tensor
    """int64 (N,), the partners."""


def cut(seen: Seen, draws: PuzzleMixDraws, config: PuzzleMixConfig) -> Cut:
    """Return what blocks show: the processor works and the device waits."""
    costs = _energies(seen, draws.lam, draws.blocks, config)
    labels = cut_labels(costs, wrap=config.wrap_costs)
    share = torch.from_numpy(1 - labels / (len(LABELS) - 1)).float()
    return Cut(share, seen.wanted, draws.perm)


def shown(images: Tensor, decided: Cut, config: PuzzleMixConfig) -> PuzzleMixed:
    """Move blocks to where they are shown, and mix; all on one device."""
    mask, wanted, perm = decided
    own, partners, width = images, images[perm], images.shape[3]
    shares = mask
    if config.transport:
        shares = _enlarge(mask, wanted.shape[2])
        both = torch.cat([shares, 1 - shares])
        plan = transport_plan(wanted, both, epsilon=config.transport_epsilon)
        own, partners = move_blocks(torch.cat([own, partners]), plan).chunk(2)
    shares = _enlarge(shares, width)[:, None].to(images.dtype)
    mixed = shares * own + (1 - shares) * partners
    return PuzzleMixed(mixed, shares.flatten(1).mean(dim=1).float(), mask)


class Energies(NamedTuple):
    """What labels of the blocks cost, in integers; n blocks a side."""

    unary: np.ndarray
    """int64 (N, n, n, 3), of every label at every block."""

    down: np.ndarray
    """int64 (N, n - 1, n), weights of the edges to the blocks below."""

    right: np.ndarray
    """int64 (N, n, n - 1), weights of the edges to the blocks at the right."""


def energies(
    pixels: Tensor, saliency: Tensor, draws: PuzzleMixDraws, config: PuzzleMixConfig
) -> Energies:
    """Return what the graph cut minimises.

    Args:
        pixels: (N, 3, S, S) in [0, 1].
        saliency: of every pixel, (N, S, S), >= 0.
        draws: its partners on the device of the images.
        config: the weights.
    """
    return _energies(looked(pixels, saliency, draws, config), draws.lam, draws.blocks, config)


def looked(
    pixels: Tensor, saliency: Tensor, draws: PuzzleMixDraws, config: PuzzleMixConfig
) -> Seen:
    """Return what the energies are made of, all on one device.

    Args:
        pixels: (N, 3, S, S) in [0, 1].
        saliency: of every pixel, (N, S, S), >= 0.
        draws: of them the partners, on the device, and the blocks a side.
        config: the weights.
    """
    blocks, perm = draws.blocks, draws.perm
    block = pixels.shape[3] // blocks
    beta = config.beta / blocks / 16
    size = block if config.transport_size == -1 else math.gcd(config.transport_size, block)
    shares = block_saliency(saliency, pixels.shape[3] // size)
    lost_own = block_saliency(saliency, blocks)
    lost_partner = lost_own[perm]
    small = F.avg_pool2d(pixels, math.gcd(config.border, block))
    edges = []
    # Half of the colour steps that both ends make is theirs, what is left depends on both labels.
    for axis in (2, 3):
        steps = {
            (i, j): beta * config.gamma * _steps(a, b, blocks, axis)
            for i, a in enumerate((small, small[perm]))
            for j, b in enumerate((small, small[perm]))
        }
        first = F.pad(steps[0, 1] + steps[0, 0], _after(axis)) / 2
        second = F.pad(steps[1, 0] + steps[0, 0], _before(axis)) / 2
        lost_partner = lost_partner + first + second
        first = F.pad(steps[1, 0] + steps[1, 1], _after(axis)) / 2
        second = F.pad(steps[0, 1] + steps[1, 1], _before(axis)) / 2
        lost_own = lost_own + first + second
        edges.append((steps[0, 1] + steps[1, 0] - steps[1, 1] - steps[0, 0]) / 2)
    down, right = (UNITS * blocks**2 * (pair + beta) for pair in edges)
    return Seen(lost_own, lost_partner, down, right, torch.cat([shares, shares[perm]]))


def _energies(seen: Seen, lam: float, blocks: int, config: PuzzleMixConfig) -> Energies:
    prior = config.eta / blocks**2 * _surprise(lam)
    found = _on_processor(seen[:4])
    own, partner = (lost.double().numpy() for lost in found[:2])
    unary = [
        (1 - share) * partner + share * own + cost
        for share, cost in zip(LABELS, prior, strict=True)
    ]
    down, right = (weight.to(torch.int64).numpy() for weight in found[2:])
    scale = UNITS * blocks**2
    return Energies((scale * np.stack(unary, axis=-1)).astype(np.int64), down, right)


def _on_processor(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors of one type on the CPU, after one wait for the device."""
    parts = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    sizes = [tensor.numel() for tensor in tensors]
    found = parts.split_with_sizes(sizes)
    return [part.view(like.shape) for part, like in zip(found, tensors, strict=True)]


def cut_labels(costs: Energies, *, wrap: bool = False) -> np.ndarray:
    """Return for each block the place of its label in ``LABELS``, int64 (N, n, n).

    Args:
        costs: what is minimised.
        wrap: let costs overflow as gco-wrapper does, which scales them by 100000 in 32 bits.
    """
    steps = np.arange(len(LABELS))
    # Labels are (i - j)^2 / 4 apart; four times everything keeps the energy in whole numbers.
    distance = (steps[:, None] - steps) ** 2
    times = GCO_SCALE if wrap else 4
    unary = (times * costs.unary).astype(np.int32)
    return swap_labels(unary, costs.down * (times // 4), costs.right * (times // 4), distance)


def block_saliency(saliency: Tensor, blocks: int) -> Tensor:
    """Return each block's share of its image's saliency, (N, blocks, blocks), summing to 1.

    An image without any saliency has equal shares.
    """
    mean = F.avg_pool2d(saliency, saliency.shape[2] // blocks)
    total = mean.flatten(1).sum(dim=1)[:, None, None]
    return torch.where(total > 0, mean / total, 1 / blocks**2)


def _surprise(lam: float) -> np.ndarray:
    """Return minus the log-probability of each label: binomial, of mean 1 - lam."""
    chances = np.array([lam**2, 2 * lam * (1 - lam), (1 - lam) ** 2])
    return np.asarray(-np.log(chances + TINY))


def _steps(a: Tensor, b: Tensor, blocks: int, axis: int) -> Tensor:
    """Return how much colour changes from a's blocks to b's next ones, mean over the border."""
    fine = a.shape[axis] // blocks
    last = torch.arange(1, blocks, device=a.device) * fine - 1
    jump = (a.index_select(axis, last) - b.index_select(axis, last + 1)).abs().mean(dim=1)
    return F.avg_pool2d(jump, (1, fine) if axis == 2 else (fine, 1))


def _after(axis: int) -> tuple[int, int, int, int]:
    """Return the padding that leaves out the last block along an axis."""
    return (0, 0, 0, 1) if axis == 2 else (0, 1, 0, 0)


def _before(axis: int) -> tuple[int, int, int, int]:
    """Return the padding that leaves out the first block along an axis."""
    return (0, 0, 1, 0) if axis == 2 else (1, 0, 0, 0)


def _enlarge(mask: Tensor, side: int) -> Tensor:
    """Return masks (N, n, n) repeated to (N, side, side)."""
    count, rows, cols = mask.shape
    factor = side // rows
    spread = mask[:, :, None, :, None].expand(-1, -1, factor, -1, factor)
    return spread.reshape(count, rows * factor, cols * factor)


def input_saliency(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the root mean square over channels of the loss's gradient, (N, H, W).

    The network is in eval mode for the while and gets no gradient.

    Args:
        network: normalised images -> logits.
        images: normalised, (N, C, H, W).
        labels: int64 (N,).
    """
    # In a trace no parameter can be told that it needs no gradient; none is asked for either way.
    alone = nullcontext() if torch.compiler.is_compiling() else without_gradients(network)
    with in_eval_mode(network), alone, torch.enable_grad():
        inputs = images.detach().requires_grad_()
        loss = F.cross_entropy(network(inputs).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, inputs)
    return gradient.float().square().mean(dim=1).sqrt()


def check_blocks(setup: Setup, blocks: int, method: str) -> None:
    """Raise UsageError unless images are square and so many blocks a side divide them."""
    _, height, width = setup.input_size
    if height != width or width % blocks:
        raise UsageError(
            f"{method} cuts square images into {blocks}x{blocks} blocks, these are "
            f"{height}x{width}",
            "choose another img_size or fewer blocks",
            code="E-INPUT-SIZE",
        )


class PuzzleMix(PairMixing):
    """One network trained on batches mixed by its own saliency.

    Raises:
        UsageError: the images cannot be cut into that many blocks.
    """

    config: PuzzleMixConfig
    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, config: PuzzleMixConfig, setup: Setup) -> None:
        super().__init__(network, config, setup)
        check_blocks(setup, config.max_blocks, "puzzlemix")
        self.batch_mean_lambda = config.batch_mean_lambda
        register_scale(self, setup)

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> PuzzleMixDraws:
        """Draw the grid, partners and the prior's mean, which a given ``lam`` replaces."""
        draws = draw_puzzlemix(len(batch.images), self.config, self.rng)
        return draws._replace(**given(lam=lam, perm=perm))

    def decide(self, batch: Batch, draws: PuzzleMixDraws, run: Run) -> Cut:
        """Cut the graphs, by what ``look`` finds; the step's only wait for a device."""
        seen = run(self.look, batch, uploaded(draws, batch.images.device))
        return cut(seen, draws, self.config)

    def look(self, batch: Batch, draws: PuzzleMixDraws) -> Seen:
        """Return what is salient in a batch and where its colours change."""
        saliency = input_saliency(self.network, batch.images, batch.labels)
        pixels = to_pixels(batch.images, self.shift, self.scale)
        return looked(pixels, saliency, draws, self.config)

    def blend(self, batch: Batch, draws: Cut) -> Blend:
        """Mix each image with its partner by what was decided."""
        mixed = shown(batch.images, draws, self.config)
        return blend_pairs(mixed.images, draws.perm, mixed.lam)
