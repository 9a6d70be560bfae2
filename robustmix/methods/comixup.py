"""Co-Mixup: mix many images into many at once, each output salient, all of them different.

Method card
    Paper: Kim et al. 2021, "Co-Mixup: Saliency Guided Joint Mixup with Supermodular Diversity",
        ICLR 2021, arXiv:2102.03065, section 4, equation 2 and algorithm 1.
    Does: the batch is cut into parts of 20 images, from each of which as many mixtures are made.
        Every block of a mixture shows one image of the part, or half of two. The labels keep
        what is salient (the gradient of the clean loss), are smooth (beta), and are repelled from
        images that the other mixtures show already (gamma, beyond a threshold); mixtures are
        labelled one after the other, in a few sweeps. The network learns the clean images and the
        mixtures, whose soft labels are the shares of blocks, by binary cross-entropy.
    Cost: 6 forward passes a step, and the labelling on the CPU.
    Deviations: this follows the released code, with its factor 2 before gamma and its reading of
        the threshold. An image is penalised for itself and, by omega, for images whose objects
        are elsewhere; the release compares how much is shown of each of those with the threshold
        and adds up the ones beyond it, where the product of threshold and sum would compare the
        sum (threshold_on = "penalised"); without omega both are one. Where the release labels a
        mixture by swaps of a graph cut, from zero, a minimum is found exactly if few labels are in
        question, as they are with the default grid; the energy is as low or lower for the same
        costs and the same images allowed in halves. Of equal minima another may be chosen, and
        where images tie for the third place in halves, the first of them is taken, which is
        anyone's choice in the release. Where all objects of a part are at one place, omega does
        nothing; the release divides by zero. Its random number of blocks (-1) is not there. The
        released recipe trains a pre-activation ResNet-18 for 300 epochs at a learning rate of 0.2.
        Mixtures depend on the other images of their part. There is no lam, and a mixture is of no
        image in particular; top1 counts the class of the image it shows most.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.graph_cut import swap_labels
from robustmix.methods.grid_minimum import least_labels
from robustmix.methods.losses import cross_entropy, softmax_binary_cross_entropy
from robustmix.methods.method import Run, Setup, StepResult, require, split_step, top1
from robustmix.methods.mixing import Blend, check_alpha, image_size, soft_targets
from robustmix.methods.puzzlemix import block_saliency, check_blocks, input_saliency
from robustmix.upload import uploaded

Floats: TypeAlias = NDArray[np.float64]
Indices: TypeAlias = NDArray[np.signedinteger[Any]]

ThresholdType = Literal["hard", "soft"]
ThresholdOn = Literal["summed", "penalised"]

TINY = 1e-8
"""Keeps the logarithms of the prior finite."""

MIXED_BONUS = 5e-4
"""What half of two images costs less than the mean of either."""

NEAR = 0.25
"""Distance between an image and half of it and another; two images are 1 apart."""

HALVES = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]])
"""Shares of the three most used images in the three mixed labels."""

WINDOW = 8
"""Side of the window whose mean saliency places an image's object, in pixels."""

SETTLED = 1e-6
"""Sweeps end when the objective changes by a smaller share of itself."""

SWAP_SCALE = 100_000
"""Costs are rounded to this part of 1 before they are cut, as gco-wrapper rounds them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CoMixupConfig:
    """Options of Co-Mixup; the defaults are the released ones for CIFAR-100."""

    alpha: float = 2.0
    """Parameter of the Dirichlet distribution of the prior over a part's images."""

    blocks: int = 4
    """Blocks a side."""

    part: int = 20
    """Images that are mixed with each other, and mixtures that are made of them."""

    beta: float = 0.32
    """Weight of smooth labels."""

    gamma: float = 1.0
    """Weight of the repulsion from images that other mixtures show."""

    eta: float = 0.05
    """Weight of the prior."""

    threshold: float = 0.83
    """Share of a whole image that other mixtures may show of it before it repels."""

    threshold_type: ThresholdType = "hard"
    """``hard``: beyond the threshold the whole counts; ``soft``: what is beyond it."""

    threshold_on: ThresholdOn = "summed"
    """What is compared with a hard threshold: ``summed``, each image that an image is penalised
    for, as released; ``penalised``, their sum. The same where omega is 0."""

    omega: float = 0.001
    """How much showing one image repels from others whose objects are elsewhere, in [0, 1]."""

    sweeps: int = 4
    """How often every mixture is labelled, unless the objective settles before."""

    resolve: bool = True
    """Before the last sweep, push mixtures of the same images apart."""

    clean_weight: float = 1.0
    """Weight of the clean images' loss; at 0 saliency comes from a pass in eval mode."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        for name in ("blocks", "part", "sweeps"):
            require(getattr(self, name) >= 1, f"{name} >= 1", getattr(self, name))
        for name in ("beta", "gamma", "eta", "threshold", "clean_weight"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"a finite {name} >= 0", value)
        require(0 <= self.omega <= 1, "omega in [0, 1]", self.omega)
        for name, kind in (("threshold_type", ThresholdType), ("threshold_on", ThresholdOn)):
            value, known = getattr(self, name), get_args(kind)
            require(value in known, f"{name}: one of {', '.join(known)}", value)

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        if self.threshold_type == "soft":
            return {"threshold_on": "a soft threshold is taken from the sum"}
        return {} if self.omega else {"threshold_on": "omega is 0"}


class CoMixupDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    start: Indices
    """(N, blocks, blocks): labels that each mixture begins with, places in its part."""

    prior: Floats
    """(N,), share of each image that its part's prior prefers; sums to 1 over a part."""


def parts(n: int, size: int) -> list[slice]:
    """Return the parts of a batch of ``n``; the last may be smaller.

    Example:
        >>> parts(5, 2)
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def draw_comixup(n: int, config: CoMixupConfig, rng: np.random.Generator) -> CoMixupDraws:
    """Draw, for one part after the other, the prior ~ Dirichlet(alpha) and uniform labels."""
    prior, start = [], []
    for part in parts(n, config.part):
        size = part.stop - part.start
        prior.append(rng.dirichlet(np.full(size, config.alpha)))
        start.append(rng.integers(size, size=(size, config.blocks, config.blocks)))
    return CoMixupDraws(start=np.concatenate(start), prior=np.concatenate(prior))


def comixup(images: Tensor, saliency: Tensor, draws: CoMixupDraws, config: CoMixupConfig) -> Blend:
    """Make as many mixtures of a batch as it has images.

    Args:
        images: (N, C, H, W) with H = W, a multiple of the blocks a side.
        saliency: of every pixel, (N, H, W), >= 0.
        draws: first labels and prior.
        config: the options.

    Returns:
        The mixtures; their sources are those that they show, the one they show most first.

    Reference:
        Kim et al. 2021, arXiv:2102.03065, algorithm 1.
    """
    found = _labelled(_found(saliency, config), image_size(images), draws, config)
    used = int((found.weights > 0).any(dim=1).sum())
    told = Labelled(found.labels, found.sources[:used], found.weights[:used])
    labels, sources, weights = uploaded(told, images.device)
    return Blend(_mixed(images, labels, config), sources, weights)


class Labelled(NamedTuple):
    """What the mixtures of N images show."""

    labels: tuple[Tensor, ...]
    """For each part of M images, shares (M, n, n, M)."""

    sources: Tensor
    """int64 (S, N), images that each mixture may show, the one it shows most first."""

    weights: Tensor
    """float32 (S, N), how much it shows of them, 0 of those it does not."""


def _found(saliency: Tensor, config: CoMixupConfig) -> Tensor:
    """Return shares of the saliency of all blocks, and the number of the best window, (N, n n + 1).

    All that is looked at on the processor, in one tensor.
    """
    share = block_saliency(saliency.float(), config.blocks).flatten(1).double()
    return torch.cat([share, _best_windows(saliency).double()[:, None]], dim=1)


def _labelled(
    found: Tensor, size: tuple[int, int], draws: CoMixupDraws, config: CoMixupConfig
) -> Labelled:
    here = found.cpu()  # the only wait
    places = _object_places(here[:, -1].long().numpy(), size)
    return labelled(_mixtures(here[:, :-1].numpy(), places, draws, config))


def labelled(shown: Sequence[Floats]) -> Labelled:
    """Return what mixtures show as the network's half of a step is told it.

    Args:
        shown: for each part of M images, in order, shares (M, n, n, M).
    """
    # No mixture shows an image of another part, so there are no more sources than images in one.
    most = max(map(len, shown))
    sources, weights = [], []
    start = 0
    for labels in shown:
        share = torch.from_numpy(labels.mean(axis=(1, 2))).float()
        order = share.argsort(dim=1, descending=True, stable=True)
        rest = most - len(labels)
        sources.append(F.pad(order + start, (0, rest), value=start))
        weights.append(F.pad(share.gather(1, order), (0, rest)))
        start += len(labels)
    told = tuple(map(torch.from_numpy, shown))
    return Labelled(told, torch.cat(sources).T, torch.cat(weights).T)


def _mixed(images: Tensor, labels: Sequence[Tensor], config: CoMixupConfig) -> Tensor:
    cuts = parts(len(images), config.part)
    return torch.cat(
        [
            _show(images[part], some.to(images.dtype))
            for part, some in zip(cuts, labels, strict=True)
        ]
    )


def _mixtures(
    shares: Floats, places: Indices, draws: CoMixupDraws, config: CoMixupConfig
) -> list[Floats]:
    """Return what the mixtures of each part of M images show, shares (M, n, n, M).

    Args:
        shares: of each image's saliency in each block, (N, n n), summing to 1 over blocks.
        places: row and column of each image's object, (N, 2).
        draws: first labels and prior.
        config: the options.
    """
    n = len(shares)
    whole = n - n % config.part  # all parts but the last have the same size
    shown: list[Floats] = []
    for chunk, size in ((slice(0, whole), config.part), (slice(whole, n), n - whole)):
        if chunk.start == chunk.stop:
            continue
        shape = (-1, size, *draws.start.shape[1:])
        found = joint_labels(
            shares[chunk].reshape(shape),
            distances(places[chunk].reshape(-1, size, 2)),
            draws.start[chunk].reshape(shape),
            draws.prior[chunk].reshape(-1, size),
            config,
        )
        shown.extend(found)
    return shown


def distances(places: Indices) -> Floats:
    """Return how far apart the objects of parts are, in rows and columns together, (P, M, M).

    Args:
        places: row and column of each image's object, (P, M, 2).
    """
    apart: Floats = np.abs(places[:, :, None] - places[:, None]).sum(axis=3, dtype=np.float64)
    return apart


def object_places(saliency: Tensor) -> Indices:
    """Return row and column of the window with the most saliency, int64 (N, 2)."""
    return _object_places(_best_windows(saliency).cpu().numpy(), tuple(saliency.shape[1:]))


def _best_windows(saliency: Tensor) -> Tensor:
    """Return the number of the window with the most saliency, int64 (N,), row after row."""
    side = min(WINDOW, *saliency.shape[1:])
    windows = F.avg_pool2d(saliency.float()[:, None], side, stride=1)[:, 0]
    return windows.flatten(1).argmax(dim=1)


def _object_places(best: Indices, size: tuple[int, ...]) -> Indices:
    columns = size[1] - min(WINDOW, *size) + 1
    return np.stack(np.divmod(best, columns), axis=1)


def _show(images: Tensor, labels: Tensor) -> Tensor:
    """Return mixtures whose blocks show images (M, C, H, W) in shares (N, n, n, M)."""
    count, channels, height, width = images.shape
    side = labels.shape[1]
    cut = images.reshape(count, channels, side, height // side, side, width // side)
    mixed = torch.einsum("nrcm,mkrhcw->nkrhcw", labels, cut)
    return mixed.reshape(len(labels), channels, height, width)


def joint_labels(
    shares: Floats, far: Floats, start: Indices, prior: Floats, config: CoMixupConfig
) -> Floats:
    """Return what the blocks of the mixtures of some parts show; parts do not mix.

    Args:
        shares: of each image's saliency in each block, (P, M, n, n), summing to 1 over blocks.
        far: distance of images' objects, (P, M, M), any unit.
        start: labels that each of N mixtures begins with, (P, N, n, n).
        prior: preferred share of each image, (P, M).
        config: the options.

    Returns:
        (P, N, n, n, M), shares 0, 1/2 or 1 that sum to 1 in every block.
    """
    images, cells = shares.shape[1], shares[0, 0].size
    unary, repulsion = own_costs(shares, prior, config), repulsions(far, config)
    labels = np.eye(images)[start]
    extra = np.zeros((*labels.shape[:2], images))
    before = objective(unary, labels, config)
    going = np.arange(len(labels))
    for sweep in range(config.sweeps):
        now = labels[going]
        counts = now.sum(axis=(2, 3))
        for i in range(now.shape[1]):
            others = counts.sum(axis=1) - counts[:, i]
            cost = costs(unary[going], repulsion[going], others, extra[going, i], config)
            used = [mixable(count if sweep else count[:0]) for count in counts[:, i]]
            now[:, i] = best_labels(cost, used, config.beta / cells)
            counts[:, i] = now[:, i].sum(axis=(1, 2))
        labels[going] = now
        if sweep == config.sweeps - 2 and config.resolve:
            extra[going] = [alike(count > 0) for count in counts]
        after = objective(unary, labels, config)
        going = going[changes(before, after)[going]]
        if not len(going):
            break
        before = after
    return labels


def own_costs(shares: Floats, prior: Floats, config: CoMixupConfig) -> Floats:
    """Return the cost of every image in every block but for repulsion, (P, n, n, M).

    Args:
        shares: of each image's saliency in each block, (P, M, n, n).
        prior: preferred share of each image, (P, M).
        config: the weight of the prior.
    """
    liking = config.eta / shares[0, 0].size * np.log(prior + TINY)
    cost: Floats = np.moveaxis(-shares, 1, 3) - liking[:, None, None]
    return cost


def repulsions(far: Floats, config: CoMixupConfig) -> Floats:
    """Return how much showing an image repels from each, (P, M, M).

    Args:
        far: distance of images' objects, (P, M, M), any unit.
        config: omega.
    """
    images = far.shape[1]
    total = far.sum(axis=(1, 2), keepdims=True)
    spread = np.divide(images * far, total, out=np.zeros(far.shape), where=total > 0)
    repulsion: Floats = (1 - config.omega) * np.eye(images) + config.omega * spread
    return repulsion


def costs(
    unary: Floats, repulsion: Floats, others: Floats, extra: Floats, config: CoMixupConfig
) -> Floats:
    """Return the cost of every image in every block of one mixture of each part, (P, n, n, M).

    Args:
        unary: as ``own_costs`` returns it.
        repulsion: as ``repulsions`` returns it.
        others: blocks that the other mixtures show of each image, (P, M).
        extra: costs that push mixtures of the same images apart, (P, M).
        config: the weights.
    """
    cells = unary.shape[1] * unary.shape[2]
    gamma = config.gamma / cells
    penalty = 2 * gamma * beyond(repulsion, others, cells, config)
    penalty += gamma * extra
    total: Floats = unary + penalty[:, None, None]
    return total


def changes(before: Floats, after: Floats) -> NDArray[np.bool_]:
    """Return whether objectives have not settled yet."""
    return np.abs(before - after) >= SETTLED * np.abs(after)


def beyond(repulsion: Floats, shown: Floats, cells: int, config: CoMixupConfig) -> Floats:
    """Return how much the other mixtures show, beyond the threshold, of what repels, (P, M).

    Args:
        repulsion: how much each image is repelled by each, (P, M, M).
        shown: blocks that the other mixtures show of each image, (P, M).
        cells: blocks of a whole image.
        config: the threshold and what it means.

    Example:
        >>> repulsion, shown = np.array([[[0.5, 0.25], [0.25, 1.0]]]), np.array([[8.0, 2.0]])
        >>> beyond(repulsion, shown, 4, CoMixupConfig(threshold=0.6))
        array([[4.5, 4. ]])
        >>> beyond(repulsion, shown, 4, CoMixupConfig(threshold=1.1))  # 4.5 > 4.4 >= 4
        array([[4., 2.]])
        >>> beyond(repulsion, shown, 4, CoMixupConfig(threshold=1.1, threshold_on="penalised"))
        array([[4.5, 0. ]])
    """
    threshold = config.threshold * cells
    summed: Floats = (repulsion @ shown[..., None])[..., 0]
    over = summed > threshold
    if config.threshold_type == "soft":
        return np.where(over, summed - threshold, 0)
    if config.threshold_on == "penalised":
        return np.where(over, summed, 0)
    return (repulsion @ np.where(over, shown, 0)[..., None])[..., 0]


def objective(unary: Floats, labels: Floats, config: CoMixupConfig) -> Floats:
    """Return what the sweeps lower on the whole, without the threshold, (P,).

    Args:
        unary: cost of every image in every block, (P, n, n, M).
        labels: shares (P, N, n, n, M).
        config: the weights.
    """
    cells = labels.shape[2] * labels.shape[3]
    rough = sum(np.square(np.diff(labels, axis=axis)).sum(axis=(1, 2, 3, 4)) for axis in (2, 3))
    counts = labels.sum(axis=(2, 3))
    shared = np.square(counts.sum(axis=1)).sum(axis=1) - np.square(counts).sum(axis=(1, 2))
    shown = (unary[:, None] * labels).sum(axis=(1, 2, 3, 4))
    total: Floats = shown + config.beta / cells / 2 * rough + config.gamma / cells * shared
    return total


def mixable(counts: Floats) -> Indices:
    """Return the two or three images, in order, that a mixture may show halves of; else none."""
    used = counts.nonzero()[0]
    if len(used) < 2:
        return used[:0]
    return np.sort(used[np.argsort(-counts[used], kind="stable")[:3]])


def alike(used: NDArray[np.bool_]) -> Floats:
    """Return costs that push mixtures of the same images apart, (N, M).

    Of two mixtures of the same two or more images, the first is to leave the first of these, the
    second the second.

    Args:
        used: which images each mixture shows, (N, M).

    Example:
        >>> alike(np.array([[True, True], [True, True], [False, True]]))
        array([[1., 0.],
               [0., 1.],
               [0., 0.]])
    """
    cost = np.zeros(used.shape)
    same = (used[:, None] == used[None]).all(axis=2) & (used.sum(axis=1) > 1)
    for i, j in np.argwhere(np.triu(same, 1)):
        first, second = used[i].nonzero()[0][:2]
        cost[i, first] = cost[j, second] = 1
    return cost


def best_labels(cost: Floats, used: Sequence[Indices], beta: float) -> Floats:
    """Return what each block of one mixture of each part shows, (P, n, n, M).

    Args:
        cost: of every image in every block, (P, n, n, M).
        used: for each part two or three images of which halves may be shown, or none.
        beta: cost of an edge between blocks that show different images.
    """
    grids, images = len(cost), cost.shape[3]
    shares = np.zeros((grids, images + len(HALVES), images))
    shares[:, :images] = np.eye(images)
    for share, some in zip(shares, used, strict=True):
        count = {2: 1, 3: 3}.get(len(some), 0)
        share[images : images + count, some] = HALVES[:count, : len(some)]
    mixed = shares[:, images:]
    near = np.where(mixed > 0, NEAR, 1)
    distance = np.tile(1 - np.eye(shares.shape[1]), (grids, 1, 1))
    distance[:, images:, :images], distance[:, :images, images:] = near, near.swapaxes(1, 2)
    halves = cost @ mixed.swapaxes(1, 2)[:, None] - MIXED_BONUS
    halves += np.where(mixed.sum(axis=2) > 0, 0, np.inf)[:, None, None]
    cost = np.concatenate([cost, halves], axis=3)
    found = least_labels(cost, beta, distance)
    for grid in np.flatnonzero(found[:, 0, 0] < 0):
        found[grid] = _swapped(cost[grid], beta, distance[grid])
    return np.asarray(shares[np.arange(grids)[:, None, None], found])


def _swapped(cost: Floats, beta: float, distance: Floats) -> Indices:
    """Return labels that no swap betters, (H, W)."""
    names = np.flatnonzero(np.isfinite(cost[0, 0]))
    cost, distance = cost[:, :, names], distance[np.ix_(names, names)]
    height, width, _ = cost.shape
    unary = np.rint((cost - cost.min()) * SWAP_SCALE).astype(np.int64)
    edge = round(beta * SWAP_SCALE * NEAR)
    down = np.full((1, height - 1, width), edge)
    right = np.full((1, height, width - 1), edge)
    steps = np.rint(distance / NEAR).astype(np.int64)
    labels: Indices = names[swap_labels(unary[None], down, right, steps)[0]]
    return labels


def with_gradients(
    value: Tensor, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]
) -> Tensor:
    """Return a scalar equal to ``value`` whose gradients are given; its own graph is not kept."""
    terms = [(p * g).sum() for p, g in zip(parameters, gradients, strict=True) if g is not None]
    carrier = torch.stack(terms).sum()
    return value.detach() + (carrier - carrier.detach())


class CleanPass(NamedTuple):
    """What a pass over the clean images gave."""

    loss: Tensor
    """A scalar, times its weight; without a graph."""

    gradients: tuple[Tensor | None, ...]
    """Of each parameter that is trained."""


class Decided(NamedTuple):
    """What the second half of a step needs."""

    clean: CleanPass | None
    labelled: Labelled


class CoMixup(nn.Module):
    """One network trained on clean images and on mixtures of many.

    Raises:
        UsageError: the images cannot be cut into that many blocks.
    """

    config: CoMixupConfig

    def __init__(self, network: nn.Module, config: CoMixupConfig, setup: Setup) -> None:
        super().__init__()
        check_blocks(setup, config.blocks, "co-mixup")
        self.network = network
        self.config = config
        self.rng = setup.rng
        self.label_smoothing = setup.label_smoothing

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Make mixtures of a batch; ``lam`` and ``perm`` are for others, this method has none."""
        draws = draw_comixup(len(batch.images), self.config, self.rng)
        saliency = input_saliency(self.network, batch.images, batch.labels)
        return comixup(batch.images, saliency, draws, self.config)

    def training_step(self, batch: Batch) -> StepResult:
        """Return the loss of clean images and mixtures; ``top1`` is that of the mixtures."""
        return split_step(self, batch)

    def draw(self, batch: Batch) -> CoMixupDraws:
        """Draw the prior and the labels that mixtures begin with."""
        return draw_comixup(len(batch.images), self.config, self.rng)

    def decide(self, batch: Batch, draws: CoMixupDraws, run: Run) -> Decided:
        """Label the blocks, by what ``look`` finds; the step's only wait for a device."""
        clean, found = run(self.look, batch)
        return Decided(clean, _labelled(found, image_size(batch.images), draws, self.config))

    def look(self, batch: Batch) -> tuple[CleanPass | None, Tensor]:
        """Return the clean images' loss, if it counts, and what their saliency is looked at for."""
        if self.config.clean_weight > 0:
            clean, saliency = self.clean_pass(batch)
            return clean, _found(saliency, self.config)
        saliency = input_saliency(self.network, batch.images, batch.labels)
        return None, _found(saliency, self.config)

    def compute(self, batch: Batch, draws: Decided) -> StepResult:
        """Return the loss of clean images and mixtures, for labels on their device."""
        if draws.clean is None:
            clean = torch.zeros((), device=batch.images.device)
        else:
            clean = with_gradients(draws.clean.loss, self._trained(), draws.clean.gradients)
        labels, sources, weights = draws.labelled
        blend = Blend(_mixed(batch.images, labels, self.config), sources, weights)
        logits = self.network(blend.images)
        targets = soft_targets(blend, batch.labels, logits.shape[1])
        targets = (1 - self.label_smoothing) * targets + self.label_smoothing / logits.shape[1]
        mixed = softmax_binary_cross_entropy(logits, targets)
        loss = clean + mixed
        return StepResult(
            loss,
            {
                "loss": loss.detach(),
                "loss_clean": clean.detach(),
                "loss_mixed": mixed.detach(),
                "top1": top1(logits, batch.labels[blend.sources[0]]),
            },
        )

    def clean_pass(self, batch: Batch) -> tuple[CleanPass, Tensor]:
        """Return the loss of the clean images, and their saliency, from one backward pass."""
        images = batch.images.detach().requires_grad_()
        logits = self.network(images)
        weight = 2 * self.config.clean_weight / logits.shape[1]
        loss = weight * cross_entropy(logits, batch.labels, smoothing=self.label_smoothing)
        inputs = [images, *self._trained()]
        gradient, *gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
        saliency = gradient.float().square().mean(dim=1).sqrt()
        return CleanPass(loss.detach(), tuple(gradients)), saliency

    def _trained(self) -> list[Tensor]:
        return [p for p in self.network.parameters() if p.requires_grad]

    def classifier(self) -> nn.Module:
        """Return the one network."""
        return self.network
