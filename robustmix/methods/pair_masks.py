"""A training step of AutoMix and SAMix: pairs, masks, a student and its teacher.

The methods differ in their generator; what they are, and their cards, is in ``automix``.
"""

from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.cutmix import (
    CutMixDraws,
    PasteDraws,
    box_of,
    draw_cutmix,
    draw_partners,
    paste,
)
from robustmix.methods.generators.attention import UPSAMPLES, Upsample, constant_masks, mix_sources
from robustmix.methods.generators.mix_block import (
    MaskLoss,
    MaskLossDecay,
    PairGenerator,
    adjust_masks,
    decayed_weight,
    mask_loss,
    within_margin,
)
from robustmix.methods.generators.random_grids import RandomGrids, draw_grid
from robustmix.methods.losses import BinaryLoss, label_loss, number_for, pair_loss
from robustmix.methods.method import Setup, StepResult, require, split_step, top1
from robustmix.methods.mixing import image_size
from robustmix.methods.mixup import MixupDraws, draw_mixup, mixup
from robustmix.methods.momentum_pair import (
    EMA_OPTIONS,
    MixPreview,
    MomentumPair,
    Pipeline,
    check_ema,
    check_pipeline,
    count_log,
    ema_momentum,
    sum_of_finite,
)
from robustmix.methods.step_draws import StepDraws
from robustmix.models.taps import in_eval_mode
from robustmix.upload import uploaded

ONE_MIXUP_ALPHA = 0.8
ONE_CUTMIX_ALPHA = 1.0
"""Beta parameters of the mixtures that take the clean images' place with ``head_one_mix``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairMaskConfig:
    """Options that AutoMix and SAMix share; the defaults are AutoMix's."""

    alpha: float = 2.0
    """Both parameters of the Beta distribution of either branch's lam."""

    lam_margin: float = 0.08
    """Where lam is this close to 0 or 1, the student's mixture is a plain one."""

    upsample: Upsample = "nearest"
    """How masks are enlarged to the images."""

    mask_loss: MaskLoss = "l1"
    """``l1``: distance of the mean mask from lam beyond the margin; ``l1+variance`` also rewards
    spread."""

    mask_loss_weight: float = 0.1
    """Weight of the mask loss at first; 0 leaves it out."""

    mask_loss_margin: float = 0.1
    """Deviation of the mean mask from lam that costs nothing, in [0, 1]."""

    mask_loss_decay: MaskLossDecay = "constant"
    """``linear`` falls to 0 over the run; ``compound-cosine`` is multiplied by a falling cosine at
    every step, so that little is left after a few per cent of the run."""

    no_repeat: bool = False
    """Draw partners again (at most ten times) while an image is its own partner."""

    switch_off: float = 0.0
    """Let the teacher judge only this share of the steps; 0 and 1 judge all."""

    mask_adjust: float = 0.0
    """Probability of scaling the student's masks to the mean lam, in [0, 1]."""

    ema: float = 0.999
    """Weight of the old teacher at first."""

    ema_end: float = 0.999999
    """Weight of the old teacher that the run ends with."""

    ema_start: float = 0.1
    """Share of the run before the weight begins to rise."""

    feature_stage: int = -1
    """Stage whose map the generator gets; -1 is the architecture's own."""

    pipeline: Pipeline = "mp+ce"
    """The momentum pipeline: ``mp+ce``; ``mp``: the student does not learn clean images; ``none``:
    no teacher, the one network gives the map, learns the mixtures and judges them."""

    def __post_init__(self) -> None:
        check_pipeline(self.pipeline)
        require(0 < self.alpha < float("inf"), "a finite alpha > 0", self.alpha)
        require(0 <= self.lam_margin < 1, "0 <= lam_margin < 1", self.lam_margin)
        weight = self.mask_loss_weight
        require(0 <= weight < float("inf"), "a finite mask_loss_weight >= 0", weight)
        for name in ("mask_loss_margin", "switch_off", "mask_adjust"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} in [0, 1]", value)
        for name, known in (
            ("upsample", UPSAMPLES),
            ("mask_loss", get_args(MaskLoss)),
            ("mask_loss_decay", get_args(MaskLossDecay)),
        ):
            value = getattr(self, name)
            require(value in known, f"{name}: one of {', '.join(known)}", value)
        require(self.feature_stage >= -1, "feature_stage >= -1", self.feature_stage)
        check_ema(self.ema, self.ema_end, self.ema_start)

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        found: dict[str, str] = {}
        if not self.mask_loss_weight:
            keys = ("mask_loss", "mask_loss_margin", "mask_loss_decay")
            found |= dict.fromkeys(keys, "mask_loss_weight is 0")
        if self.pipeline == "none":
            found |= dict.fromkeys((*EMA_OPTIONS, "switch_off"), "without a pipeline is no teacher")
        return found

    def mixes_clean(self) -> bool:
        """Whether the head for clean images is given mixtures too."""
        return False

    def learns_masks(self) -> bool:
        """Whether the masks are of a generator that is trained."""
        return True

    def passes(self) -> tuple[int, int]:
        """Return the forward passes of a step and the backward ones, in forward passes."""
        if self.pipeline == "none":
            return 2, 4
        student = 2 if self.pipeline == "mp+ce" else 1
        # Of the teacher only the way back to its mixtures is gone, for the generator.
        return 2 + student, 2 * student + int(self.learns_masks())

    def least_cost(self) -> int:
        """Return what a step costs in forward passes."""
        return sum(self.passes())


class AutoMixDraws(NamedTuple):
    """Everything random in one step; B images."""

    lam_mb: float
    """Weight of each image in the generator's pairs, in [0, 1]; the partner has the rest."""

    lam_bb: float
    """Weight of each image in the student's pairs."""

    index_mb: Tensor
    """int64 (B,), the partners in the generator's pairs."""

    index_bb: Tensor
    """int64 (B,), the partners in the student's pairs."""

    adjust: bool = False
    """Whether the student's masks are scaled to a mean of ``lam_mb``."""

    skip: bool = False
    """Whether the teacher does not judge this step."""

    one: MixupDraws | CutMixDraws | None = None
    """How the images for the clean head are mixed, if they are."""

    grid_mb: Tensor | None = None
    """float32 (h, w), the cells of the partners in the generator's pairs, where masks are grids."""

    grid_bb: Tensor | None = None
    """The cells of the partners in the student's pairs."""


class AutoMixStep(NamedTuple):
    """The draws of a step and what follows from them on the processor."""

    draws: AutoMixDraws

    told_mb: float | Tensor
    """What the generator is told of ``lam_mb``; random grids are told the grid."""

    told_bb: float | Tensor
    """What the generator is told of ``lam_bb``."""

    plain: bool
    """Whether the student's mixture is a plain one, for its lam is near 0 or 1."""

    plain_flag: Tensor
    """The same as a bool tensor: what it chooses between, one trace computes both of."""

    adjust_flag: Tensor | None
    """bool, whether the student's masks are scaled; None where they never are."""

    mask_weight: float | None
    """Weight of the mask loss; None leaves it out."""

    one: MixupDraws | PasteDraws | None = None
    """How the images for the clean head are mixed, if they are, as a device is told it."""


def draw_automix(
    n: int,
    size: tuple[int, int],
    config: PairMaskConfig,
    rng: np.random.Generator,
    grid: tuple[int, int] | None = None,
) -> AutoMixDraws:
    """Draw what a step mixes: lam ~ Beta(alpha, alpha) and partners, for either branch.

    Args:
        n: images in the batch.
        size: height and width of the images; of use only with ``head_one_mix``.
        config: the options.
        rng: source of the draws.
        grid: rows and columns of random grids; None draws none.
    """
    lam_mb, lam_bb = (float(lam) for lam in rng.beta(config.alpha, config.alpha, size=2))
    if config.no_repeat:
        index_bb, index_mb = draw_partners(n, rng), _unlike(n, rng)
    else:
        index_bb, index_mb = (torch.from_numpy(rng.permutation(n)) for _ in range(2))
    adjust = bool(rng.random() < config.mask_adjust)
    skip = 0 < config.switch_off < 1 and bool(rng.random() >= config.switch_off)
    one: MixupDraws | CutMixDraws | None = None
    if config.mixes_clean():
        cut = rng.random() >= 0.5
        one = (
            draw_cutmix(n, size, ONE_CUTMIX_ALPHA, rng)
            if cut
            else draw_mixup(n, ONE_MIXUP_ALPHA, rng)
        )
    draws = AutoMixDraws(lam_mb, lam_bb, index_mb, index_bb, adjust, skip, one)
    if grid is None:
        return draws
    grid_mb, grid_bb = (draw_grid(grid, lam, rng) for lam in (lam_mb, lam_bb))
    return draws._replace(grid_mb=grid_mb, grid_bb=grid_bb)


def _unlike(n: int, rng: np.random.Generator) -> Tensor:
    """Draw partners, and shift the batch by some places if ten draws all had a fixed point."""
    if isinstance(rng, StepDraws) and rng.in_parts:
        return torch.from_numpy(rng.each_part(n, lambda k, own: _unlike(k, own).numpy()))
    perm = draw_partners(n, rng)
    if n > 1 and bool((perm == torch.arange(n)).any()):
        perm = torch.arange(n).roll(int(rng.integers(1, n)))
    return perm


class AutoMixTerms(NamedTuple):
    """What one step computed; None is what it did not need. B images, K classes."""

    loss: Tensor
    """Sum of the terms, a float32 scalar; without those of masks where these learn nothing."""

    loss_one_q: Tensor | None
    """Of the student on the clean images."""

    loss_mix_q: Tensor
    """Of the student on its mixtures."""

    loss_mix_k: Tensor | None
    """Of the teacher on the generator's mixtures."""

    loss_mask: Tensor | None
    """The mask loss times its weight."""

    skipped: int | Tensor
    """Terms that were NaN and left out."""

    feature: Tensor
    """(B, C, h, w), the teacher's map."""

    mask_mb: Tensor
    """(B, 2, H, W), with a gradient to the generator. Without a teacher it is that of the one
    mixture there is, and so is ``mask_bb``."""

    mask_bb: Tensor
    """(B, 2, H, W), before ``adjust_masks`` and the margin rule."""

    mixed_mb: Tensor
    mixed_bb: Tensor
    logits_one_q: Tensor | None
    """(B, K), of the images that the clean head sees."""

    logits_mix_q: Tensor
    logits_mix_k: Tensor | None
    acc_one_q: Tensor | None
    """Share of images whose own label is predicted; of a mixture, its first image's."""

    acc_mix_q: Tensor
    acc_mix_k: Tensor | None

    def result(self) -> StepResult:
        """Return the loss and what of the step is logged.

        A term that was left out is not, where that is known, and else is NaN.
        """
        losses = {
            "loss": self.loss,
            "loss_one_q": self.loss_one_q,
            "loss_mix_q": self.loss_mix_q,
            "loss_mix_k": self.loss_mix_k,
            "loss_mask": self.loss_mask,
        }
        if isinstance(self.skipped, int) and self.skipped:
            losses = {k: v for k, v in losses.items() if v is not None and not v.isnan()}
        logs = {
            **losses,
            "acc_one_q": self.acc_one_q,
            "acc_mix_q": self.acc_mix_q,
            "acc_mix_k": self.acc_mix_k,
            "top1": self.acc_mix_q if self.acc_one_q is None else self.acc_one_q,
            "skipped": count_log(self.skipped, self.acc_mix_q),
        }
        return StepResult(self.loss, {k: v.detach() for k, v in logs.items() if v is not None})


def _pairs(index: Tensor) -> Tensor:
    """Return the sources (2, B) of pairs whose first is the image itself."""
    return torch.stack([torch.arange(len(index), device=index.device), index])


def _adjusted(masks: Tensor, adjust: Tensor | None, lam: float) -> Tensor:
    return masks if adjust is None else torch.where(adjust, adjust_masks(masks, lam), masks)


def _plain(masks: Tensor, lam: float) -> Tensor:
    return constant_masks(masks, (lam, 1 - lam))


def _one_q(
    pair: MomentumPair,
    batch: Batch,
    one: MixupDraws | PasteDraws | None,
    smoothing: float,
    bce: BinaryLoss | None,
) -> tuple[Tensor, Tensor]:
    """Return the logits and the loss of the student's head for clean images."""
    images, labels = batch.images, batch.labels
    if one is None:
        logits = pair.one_q(pair.features_q(images).pooled)
        return logits, label_loss(logits, labels, bce=bce, smoothing=smoothing)
    if isinstance(one, MixupDraws):
        mixed, lam = mixup(images, one)
    else:
        mixed, lam = paste(images, one), one.own
    logits = pair.one_q(pair.features_q(mixed).pooled)
    partners = labels[one.perm]
    return logits, pair_loss(logits, labels, partners, lam, bce=bce, smoothing=smoothing)


class PairMasks(nn.Module):
    """Student, teacher and generator of AutoMix and of SAMix, which differ in the generator.

    Args:
        network: normalised images (N, 3, H, W) -> logits (N, K); becomes the student.
        config: the options.
        setup: sources of randomness, size of the images.

    Raises:
        UsageError: the network has no map for the generator.
    """

    config: PairMaskConfig
    generator: PairGenerator | RandomGrids

    def __init__(self, network: nn.Module, config: PairMaskConfig, setup: Setup) -> None:
        super().__init__()
        self.config = config
        self.rng = setup.rng
        self.label_smoothing = setup.label_smoothing
        self.bce = setup.bce
        # The 0-based number of the next step, and steps in all, 0 until that is known.
        self.iteration, self.total = 0, 0
        self.pair = MomentumPair(
            network, setup, feature_stage=config.feature_stage, pipeline=config.pipeline
        )
        # After the pair: both draw their weights from one stream.
        self.generator = self.new_generator(self.pair.mask_factor(setup), setup.weights)

    def new_generator(self, factor: int, weights: torch.Generator) -> PairGenerator | RandomGrids:
        """Return an untrained generator.

        Args:
            factor: the masks are so many times larger than the teacher's maps.
            weights: source of its initial weights.
        """
        raise NotImplementedError

    def training_step(self, batch: Batch) -> StepResult:
        """Return the loss of student and generator for one batch, by draws of its own."""
        return split_step(self, batch)

    def draw(self, batch: Batch) -> AutoMixStep:
        """Draw what a step mixes."""
        size, generator = image_size(batch.images), self.generator
        grid = generator.size if isinstance(generator, RandomGrids) else None
        draws = draw_automix(len(batch.images), size, self.config, self.rng, grid)
        return self._step(draws, size)

    def compute(self, batch: Batch, draws: AutoMixStep) -> StepResult:
        """Return the loss of student and generator for one batch, for draws on its device."""
        return self._computed(batch, draws).result()

    def step(self, batch: Batch, draws: AutoMixDraws) -> AutoMixTerms:
        """Return everything that a step computes, for given draws on the CPU."""
        step = self._step(draws, image_size(batch.images))
        return self._computed(batch, uploaded(step, batch.images.device))

    def _step(self, draws: AutoMixDraws, size: tuple[int, int]) -> AutoMixStep:
        weight, one = self.mask_weight(), draws.one
        plain = within_margin(draws.lam_bb, self.config.lam_margin)
        adjusts = self.config.mask_adjust > 0 or draws.adjust
        return AutoMixStep(
            draws,
            told_mb=self._told(draws.lam_mb, draws.grid_mb),
            told_bb=self._told(draws.lam_bb, draws.grid_bb),
            plain=plain,
            plain_flag=torch.tensor(plain),
            adjust_flag=torch.tensor(draws.adjust) if adjusts else None,
            mask_weight=weight if weight > 0 else None,
            one=box_of(one, size) if isinstance(one, CutMixDraws) else one,
        )

    def _told(self, lam: float, grid: Tensor | None) -> float | Tensor:
        if isinstance(self.generator, RandomGrids):
            assert grid is not None
            return grid
        return self.generator.told(lam)

    def _computed(self, batch: Batch, step: AutoMixStep) -> AutoMixTerms:
        return self._terms(batch, step) if self.pair.averaged else self._joint_terms(batch, step)

    def _terms(self, batch: Batch, step: AutoMixStep) -> AutoMixTerms:
        """Return everything that a step of student and teacher computes.

        The gradient of the first two terms goes to the student and that of the other two, through
        the frozen teacher, to the generator. The order of the passes, k(x), k(x_mb), q(x), q(x_bb),
        is that of the released code, for it decides about batch statistics.

        Args:
            batch: B normalised images.
            step: its tensors and numbers are on the device of the images.

        Reference:
            Liu et al. 2022, arXiv:2103.13027, algorithm 1, as released.
        """
        config, smoothing, bce = self.config, self.label_smoothing, self.bce
        images, labels, draws = batch.images, batch.labels, step.draws
        index_mb, index_bb = draws.index_mb, draws.index_bb

        with torch.no_grad():
            feature = self.pair.features_k(images).feat
        mask_mb = self.generator.masks(feature, index_mb, step.told_mb)
        with torch.no_grad():  # after the other masks, which a batch norm would otherwise notice
            mask_bb = self.generator.masks(feature, index_bb, step.told_bb)
            # To the weight of the other branch: a slip of the released code, whose results rest
            # on it.
            used_bb = _adjusted(mask_bb, step.adjust_flag, draws.lam_mb)
            used_bb = torch.where(step.plain_flag, _plain(mask_bb, draws.lam_bb), used_bb)
            mixed_bb = mix_sources(images, _pairs(index_bb), used_bb)
        mixed_mb = mix_sources(images, _pairs(index_mb), mask_mb)

        loss_mask = loss_mix_k = logits_mix_k = acc_mix_k = None
        if step.mask_weight is not None:
            loss_mask = mask_loss(
                mask_mb, draws.lam_mb, kind=config.mask_loss, margin=config.mask_loss_margin
            )
            loss_mask = number_for(step.mask_weight, loss_mask) * loss_mask
        if not draws.skip:
            logits_mix_k = self.pair.mix_k(self.pair.features_k(mixed_mb).pooled)
            loss_mix_k = pair_loss(
                logits_mix_k, labels, labels[index_mb], draws.lam_mb, bce=bce, smoothing=smoothing
            )
            acc_mix_k = top1(logits_mix_k, labels)

        logits_one_q = loss_one_q = None
        if self.pair.two_heads:
            logits_one_q, loss_one_q = _one_q(self.pair, batch, step.one, smoothing, bce)
        logits_mix_q = self.pair.mix_q(self.pair.features_q(mixed_bb).pooled)
        loss_mix_q = pair_loss(
            logits_mix_q, labels, labels[index_bb], draws.lam_bb, bce=bce, smoothing=smoothing
        )

        terms = [loss_mix_q, loss_one_q]
        if config.learns_masks():
            terms += [loss_mix_k, loss_mask]
        loss, skipped = sum_of_finite([(1.0, term) for term in terms if term is not None])
        return AutoMixTerms(
            loss=loss,
            loss_one_q=loss_one_q,
            loss_mix_q=loss_mix_q,
            loss_mix_k=loss_mix_k,
            loss_mask=loss_mask,
            skipped=skipped,
            feature=feature,
            mask_mb=mask_mb,
            mask_bb=mask_bb,
            mixed_mb=mixed_mb,
            mixed_bb=mixed_bb,
            logits_one_q=logits_one_q,
            logits_mix_q=logits_mix_q,
            logits_mix_k=logits_mix_k,
            acc_one_q=None if logits_one_q is None else top1(logits_one_q, labels),
            acc_mix_q=top1(logits_mix_q, labels),
            acc_mix_k=acc_mix_k,
        )

    def _joint_terms(self, batch: Batch, step: AutoMixStep) -> AutoMixTerms:
        """Return everything that a step of one network and its generator computes.

        Of the draws those of the student's pairs are used. No gradient is cut off.
        """
        config, pair, draws = self.config, self.pair, step.draws
        images, labels, index, lam = batch.images, batch.labels, draws.index_bb, draws.lam_bb
        feature = pair.features_q(images).feat
        mask = self.generator.masks(feature, index, step.told_bb)
        # Not chosen by a tensor: of a plain mixture the generator has no gradient, not one of 0.
        used = _plain(mask, lam) if step.plain else _adjusted(mask, step.adjust_flag, lam)
        mixed = mix_sources(images, _pairs(index), used)
        logits = pair.mix_q(pair.features_q(mixed).pooled)
        loss_mix = pair_loss(
            logits, labels, labels[index], lam, bce=self.bce, smoothing=self.label_smoothing
        )
        loss_mask = None
        if step.mask_weight is not None:
            loss_mask = mask_loss(mask, lam, kind=config.mask_loss, margin=config.mask_loss_margin)
            loss_mask = number_for(step.mask_weight, loss_mask) * loss_mask
        terms = (loss_mix, loss_mask)
        loss, skipped = sum_of_finite([(1.0, term) for term in terms if term is not None])
        return AutoMixTerms(
            loss=loss,
            loss_one_q=None,
            loss_mix_q=loss_mix,
            loss_mix_k=None,
            loss_mask=loss_mask,
            skipped=skipped,
            feature=feature,
            mask_mb=mask,
            mask_bb=mask,
            mixed_mb=mixed,
            mixed_bb=mixed,
            logits_one_q=None,
            logits_mix_q=logits,
            logits_mix_k=None,
            acc_one_q=None,
            acc_mix_q=top1(logits, labels),
            acc_mix_k=None,
        )

    def mask_weight(self) -> float:
        """Return the weight of the mask loss in the next step."""
        config = self.config
        if not config.learns_masks():
            return 0.0
        return decayed_weight(
            config.mask_loss_weight, config.mask_loss_decay, self.iteration, self.total
        )

    def before_step(self, iteration: int, total: int) -> None:
        """Set the mask loss's weight for step ``iteration`` (0-based) of ``total``."""
        self.iteration, self.total = iteration, total

    def after_step(self, iteration: int, total: int) -> None:
        """Move the teacher after step ``iteration`` (0-based) of ``total``."""
        base, end, start = self.config.ema, self.config.ema_end, self.config.ema_start
        self.pair.update(ema_momentum(iteration, total, base=base, end=end, start=start))
        self.before_step(iteration + 1, total)

    def classifier(self) -> nn.Module:
        """Return the teacher with its head for clean images."""
        return self.pair.network_k

    @torch.no_grad()
    def preview(self, images: Tensor) -> MixPreview:
        """Mix every image half and half with the next; changes nothing."""
        index = torch.arange(len(images), device=images.device).roll(-1)
        with in_eval_mode(self.pair), in_eval_mode(self.generator):
            masks = self.generator(self.pair.features_k(images).feat, index, 0.5)
        return MixPreview(
            sources=torch.stack([images, images[index]], dim=1),
            masks=masks,
            mixed=mix_sources(images, _pairs(index), masks),
            lam=(0.5, 0.5),
        )

    def step_cost(self) -> int:
        """Return what a step costs in forward passes."""
        return self.config.least_cost()

    def passes(self) -> str:
        """Return what a step costs."""
        forward, backward = self.config.passes()
        told = f"{forward} forward, {backward} backward; nothing to save"
        return f"{self.step_cost()} F a step: {told}"

    def get_extra_state(self) -> Tensor:
        """Return the place in the run, for checkpoints."""
        return torch.tensor([self.iteration, self.total])

    def set_extra_state(self, state: Tensor) -> None:
        """Continue from a checkpoint's place."""
        self.iteration, self.total = (int(value) for value in state)
