"""AdAutoMix: mixtures of several images by a generator that also works against the teacher.

Method card
    Paper: Qin et al. 2024, "Adversarial AutoMixup", ICLR 2024, arXiv:2312.11954.
    Does: the teacher's map of N images gives N masks that sum to 1 per pixel; the student learns
        the clean images, their plain convex mixture (N >= 3) and the masked mixture; the
        generator learns from the teacher's loss on another masked mixture, which it raises at
        every second step, with a cosine term, and lowers at the others. The teacher is the
        student's moving average and is what is deployed, with its head for clean images.
    Cost: 12 forward passes a step for N = 3, 9 for N = 2 (the released code takes 15 and 11).
    Deviations: this follows the released code where the paper differs. Query and key are rectified
        and the logits of the other samples are summed before the softmax. The masks depend on lam
        only with lam_concat, which the released small-image recipes leave off. The generator never
        sees the student: it minimises -beta CE + (1 - beta) cosine at the first, third, ... step
        and +CE at the others, so the cosine term drives mixed logits away from those of their
        sources. What the paper averages over the sources is one cross-entropy of the clean batch;
        the mixed labels of the student belong to a plain convex mixture. The published 81.55 % of
        ResNet-18 on CIFAR-100 in 200 epochs was most likely made with beta near 0.7, the 82.32 %
        of 800 epochs with 0.3. Options: w_adv and w_cos weigh the two adversarial terms,
        adv_mode, adv_interval and gen_loss_net choose when and against whom.
"""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.cutmix import draw_partners
from robustmix.methods.generators.adaptive_mask import AdaptiveMask
from robustmix.methods.generators.attention import UPSAMPLES, Upsample, constant_masks, mix_sources
from robustmix.methods.losses import cross_entropy, sources_cross_entropy
from robustmix.methods.method import Setup, StepResult, require, split_step, top1
from robustmix.methods.momentum_pair import (
    BatchNormReplay,
    MixPreview,
    MomentumPair,
    check_ema,
    count_log,
    ema_momentum,
    sum_of_finite,
)
from robustmix.models.taps import Features, in_eval_mode, random_forward
from robustmix.upload import uploaded

AdvMode = Literal["alternate", "always", "off"]


@dataclass(frozen=True, kw_only=True, slots=True)
class AdAutoMixConfig:
    """Options of AdAutoMix; the defaults are those of ResNet-18 on CIFAR-100."""

    alpha: float = 1.0
    """Both parameters of the Beta distribution of the weights; for N >= 3 they are normalised."""

    mix_samples: int = 3
    """N, images in a mixture; at least 2."""

    random_samples: bool = False
    """Draw the number of images anew at every step, from 2 to ``mix_samples``."""

    beta: float = 0.3
    """Weight of the raised cross-entropy in an adversarial step; the cosine has 1 - beta."""

    linear_ratio: float = 0.5
    """Share of the plain convex mixture in the student's clean loss (N >= 3), in [0, 1]."""

    lam_margin: float = 0.03
    """Where the first weight is this close to 0 or 1, the student's mixture is a plain one."""

    lam_concat: bool = False
    """Whether the generator is told the weights, by one more channel."""

    upsample: Upsample = "bilinear"
    """How masks are enlarged to the images."""

    reduction: int = 2
    """The generator's attention has so many times fewer channels than the map."""

    use_scale: bool = True
    """Divide the attention logits by the root of their width."""

    att_norm: bool = False
    """Batch norm in the generator's query and key, as for ImageNet's ResNet-50."""

    mask_guard: bool = False
    """Compute masks with NaN again in float64; a GPU computes both always, or is waited for at
    every step with ``att_norm``."""

    no_repeat: bool = False
    """Draw permutations again (at most ten times) while an image stays in its place."""

    switch_off: float = 0.0
    """Train the generator at this share of the steps only; 0 and 1 train it at every step."""

    ema: float = 0.999
    """Weight of the old teacher at first."""

    ema_end: float = 0.999999
    """Weight of the old teacher that the run ends with."""

    ema_start: float = 0.1
    """Share of the run before the weight begins to rise."""

    adv_mode: AdvMode = "alternate"
    """Which steps are adversarial: every ``adv_interval``-th, all, or none."""

    adv_interval: int = 2
    """With ``alternate``, steps 0, adv_interval, 2 adv_interval, ... are adversarial."""

    w_adv: float | None = None
    """Weight of the raised cross-entropy; none is ``beta``."""

    w_cos: float | None = None
    """Weight of the cosine, negative to reward likeness; none is 1 - ``beta``."""

    gen_loss_net: Literal["teacher", "student"] = "teacher"
    """Whose loss the generator learns from; the paper's formula may be read as the student's."""

    passes: Literal["auto", "plain"] = "auto"
    """``plain`` makes every forward pass of the released code, also those that are known."""

    feature_stage: int = -1
    """Stage whose map the generator gets; -1 is the architecture's own."""

    def __post_init__(self) -> None:
        require(0 < self.alpha < float("inf"), "a finite alpha > 0", self.alpha)
        require(self.mix_samples >= 2, "mix_samples >= 2", self.mix_samples)
        for name in ("beta", "linear_ratio", "switch_off"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{name} in [0, 1]", value)
        require(0 <= self.lam_margin < 1, "0 <= lam_margin < 1", self.lam_margin)
        require(self.reduction >= 1, "reduction >= 1", self.reduction)
        require(self.adv_interval >= 1, "adv_interval >= 1", self.adv_interval)
        require(self.feature_stage >= -1, "feature_stage >= -1", self.feature_stage)
        for name, known in (
            ("upsample", UPSAMPLES),
            ("adv_mode", get_args(AdvMode)),
            ("gen_loss_net", ("teacher", "student")),
            ("passes", ("auto", "plain")),
        ):
            value = getattr(self, name)
            require(value in known, f"{name}: one of {', '.join(known)}", value)
        check_ema(self.ema, self.ema_end, self.ema_start)

    def weights(self) -> tuple[float, float]:
        """Return the weights of the raised cross-entropy and of the cosine."""
        adv = self.beta if self.w_adv is None else self.w_adv
        return adv, 1 - self.beta if self.w_cos is None else self.w_cos

    def adversarial(self, iteration: int) -> bool:
        """Return whether the step after ``iteration`` others is adversarial."""
        if self.adv_mode == "alternate":
            return iteration % self.adv_interval == 0
        return self.adv_mode == "always"

    def least_cost(self) -> int:
        """Return what a step costs in forward passes where none must be made twice."""
        student = 2 if self.mix_samples == 2 else 3
        return 2 + student + 2 * student + 1

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        found: dict[str, str] = {}
        if self.mix_samples == 2:
            found |= dict.fromkeys(("random_samples", "linear_ratio"), "mix_samples is 2")
        if self.adv_mode != "alternate":
            found["adv_interval"] = f"adv_mode is {self.adv_mode}"
        if self.adv_mode == "off":
            found |= dict.fromkeys(("beta", "w_adv", "w_cos"), "adv_mode is off")
        elif self.w_adv is not None and self.w_cos is not None:
            found["beta"] = "w_adv and w_cos say both weights"
        return found


class AdAutoMixDraws(NamedTuple):
    """Everything random in one step; B images, N sources."""

    lam_mb: tuple[float, ...]
    """N weights of the generator's mixture, summing to 1."""

    lam_bb: tuple[float, ...]
    """N weights of the student's mixture; for N >= 3 the same ones."""

    index_mb: Tensor
    """int64 (N, B), the sources of the generator's mixtures; for N = 2 the first is the image."""

    index_bb: Tensor
    """int64 (N, B), the sources of the student's mixtures."""

    skip: bool = False
    """Whether the generator is left alone in this step."""


class AdAutoMixStep(NamedTuple):
    """The draws of a step and what follows from them on the processor."""

    draws: AdAutoMixDraws

    adversarial: bool
    """Whether the generator works against the teacher."""

    plain: Tensor
    """bool, whether the student's mixture is a plain one, for its first weight is near 0 or 1."""


def draw_adautomix(n: int, config: AdAutoMixConfig, rng: np.random.Generator) -> AdAutoMixDraws:
    """Draw what a step mixes.

    For N = 2 the two branches have a weight and a permutation each. For N >= 3 they share N
    weights, Beta(alpha, alpha) divided by their sum, and each has N permutations, so that no
    source is the image itself but by chance.

    Args:
        n: images in the batch.
        config: alpha, N, and how permutations are drawn.
        rng: source of the draws.
    """
    samples = config.mix_samples
    if config.random_samples:
        samples = int(rng.integers(2, samples, endpoint=True))
    skip = 0 < config.switch_off < 1 and float(rng.random()) >= config.switch_off
    raw = rng.beta(config.alpha, config.alpha, size=samples)
    if samples == 2:
        own = torch.arange(n)
        index_mb, index_bb = (torch.stack([own, _permutation(n, config, rng)]) for _ in range(2))
        mb, bb = (float(lam) for lam in raw)
        return AdAutoMixDraws((mb, 1 - mb), (bb, 1 - bb), index_mb, index_bb, skip)
    lam = tuple(float(weight) for weight in raw / raw.sum())
    index_mb, index_bb = (
        torch.stack([_permutation(n, config, rng) for _ in range(samples)]) for _ in range(2)
    )
    return AdAutoMixDraws(lam, lam, index_mb, index_bb, skip)


def _permutation(n: int, config: AdAutoMixConfig, rng: np.random.Generator) -> Tensor:
    if config.no_repeat:
        return draw_partners(n, rng)
    return torch.from_numpy(rng.permutation(n))


class StudentTerms(NamedTuple):
    """The student's side of a step."""

    logits_one: Tensor
    logits_linear: Tensor | None
    """Of the plain convex mixture; None for N = 2."""

    logits_mix: Tensor
    loss_one: Tensor
    loss_linear: Tensor | None
    loss_mix: Tensor


class GeneratorTerms(NamedTuple):
    """The generator's side of a step."""

    logits_mix: Tensor
    """What the teacher says of the mixtures, (B, K)."""

    loss_mix: Tensor
    """Cross-entropy of these."""

    cosine: Tensor
    """Mean likeness of mixed logits and those of their sources, in [-1, 1]."""

    loss: Tensor
    """What the generator minimises."""


class Terms(NamedTuple):
    """Everything that one step computed."""

    loss: Tensor
    adversarial: bool
    skipped: int | Tensor
    """Terms of the loss that were NaN and left out."""

    mask_mb: Tensor | None
    """(B, N, H, W), with a gradient to the generator; None if it was left alone."""

    mask_bb: Tensor
    """(B, N, H, W), before the margin rule."""

    mixed_mb: Tensor | None
    mixed_bb: Tensor
    student: StudentTerms
    generator: GeneratorTerms | None


def within_margin(lam: tuple[float, ...], margin: float) -> bool:
    """Return whether the first weight is so close to 0 or 1 that the mixture is a plain one.

    Two sources: margin >= lam or margin >= 1 - lam. More: the second is a strict inequality, as in
    the released code.
    """
    rest = 1 - lam[0]
    return margin >= lam[0] or (margin >= rest if len(lam) == 2 else margin > rest)


class AdAutoMix(nn.Module):
    """Student, teacher and generator of AdAutoMix.

    Args:
        network: normalised images (N, 3, H, W) -> logits (N, K); becomes the student.
        config: the options.
        setup: sources of randomness, size of the images.

    Raises:
        UsageError: the network has no map for the generator.
    """

    config: AdAutoMixConfig

    def __init__(self, network: nn.Module, config: AdAutoMixConfig, setup: Setup) -> None:
        super().__init__()
        self.config = config
        self.rng = setup.rng
        self.label_smoothing = setup.label_smoothing
        self.iteration = 0
        self.pair = MomentumPair(network, setup, feature_stage=config.feature_stage)
        self.generator = AdaptiveMask(
            self.pair.tap.channels,
            factor=self.pair.mask_factor(setup),
            reduction=config.reduction,
            lam_concat=config.lam_concat,
            mode=config.upsample,
            use_scale=config.use_scale,
            norm=config.att_norm,
            guard=config.mask_guard,
            weights=setup.weights,
        )
        self.replay = BatchNormReplay(self.pair.network_k)
        self._pending = 0
        self.plain_because = self._why_plain()
        self.eager_because = (
            "mask_guard with att_norm looks at its masks"
            if config.mask_guard and config.att_norm
            else None
        )

    def training_step(self, batch: Batch) -> StepResult:
        """Return the loss of student and generator for one batch, by draws of its own.

        ``top1`` is the student's on the clean batch; the accuracies of mixtures count the label of
        the first source.
        """
        return split_step(self, batch)

    def draw(self, batch: Batch) -> AdAutoMixStep:
        """Draw what a step mixes; counts the step."""
        self.settle()
        return self._step(draw_adautomix(len(batch.labels), self.config, self.rng))

    def compute(self, batch: Batch, draws: AdAutoMixStep) -> StepResult:
        """Return the loss of student and generator for one batch, for draws on its device."""
        terms = self._terms(batch.images, batch.labels, draws)
        student, generator = terms.student, terms.generator
        first_mb, first_bb = draws.draws.index_mb[0], draws.draws.index_bb[0]
        logs = {
            "loss": terms.loss,
            "loss_one_q": student.loss_one,
            "loss_linear_q": student.loss_linear,
            "loss_mix_q": student.loss_mix,
            "top1": top1(student.logits_one, batch.labels),
            "acc_mix_q": top1(student.logits_mix, batch.labels[first_bb]),
            "skipped": count_log(terms.skipped, terms.loss),
        }
        if generator is not None:
            logs |= {
                "loss_gen": generator.loss,
                "loss_mix_k": generator.loss_mix,
                "cosine": generator.cosine,
                "acc_mix_k": top1(generator.logits_mix, batch.labels[first_mb]),
            }
        return StepResult(terms.loss, {k: v.detach() for k, v in logs.items() if v is not None})

    def step(self, images: Tensor, labels: Tensor, draws: AdAutoMixDraws) -> Terms:
        """Return everything that a step computes, for given draws on the CPU; counts the step."""
        self.settle()
        return self._terms(images, labels, uploaded(self._step(draws), images.device))

    def _step(self, draws: AdAutoMixDraws) -> AdAutoMixStep:
        adversarial = self.config.adversarial(self.iteration)
        self.iteration += 1
        plain = within_margin(draws.lam_bb, self.config.lam_margin)
        return AdAutoMixStep(draws, adversarial, torch.tensor(plain))

    def _terms(self, images: Tensor, labels: Tensor, step: AdAutoMixStep) -> Terms:
        """Return everything that a step computes.

        Args:
            images: normalised, (B, 3, H, W).
            labels: int64 (B,).
            step: its tensors and numbers are on the device of the images.

        Reference:
            Qin et al. 2024, equations 3 and 4, in the signs of the released code.
        """
        draws, adversarial = step.draws, step.adversarial
        index_mb, index_bb = draws.index_mb, draws.index_bb
        recorded = self.replay.recorded() if self.plain_because is None else nullcontext()
        with torch.no_grad(), recorded:
            teacher = self.pair.features_k(images)
        mask_mb, mask_bb = self._masks(teacher.feat, index_mb, index_bb, draws)
        mixed_mb = None if mask_mb is None else mix_sources(images, index_mb, mask_mb)
        with torch.no_grad():
            used = torch.where(step.plain, constant_masks(mask_bb, draws.lam_bb), mask_bb)
            mixed_bb = mix_sources(images, index_bb, used)
        clean = self.pair.features_q(images)
        generator = None
        if mixed_mb is not None:
            generator = self._generator_terms(
                images, labels, mixed_mb, index_mb, draws.lam_mb, adversarial, teacher, clean
            )
        student = self._student_terms(images, labels, mixed_bb, index_bb, draws.lam_bb, clean)
        loss, skipped = sum_of_finite(self._weighted(student, generator))
        return Terms(
            loss, adversarial, skipped, mask_mb, mask_bb, mixed_mb, mixed_bb, student, generator
        )

    def _masks(
        self, feature: Tensor, index_mb: Tensor, index_bb: Tensor, draws: AdAutoMixDraws
    ) -> tuple[Tensor | None, Tensor]:
        """Return the masks of the generator's branch, unless skipped, and the student's.

        Only the first carry a gradient.
        """
        generator, mask_mb = self.generator, None
        if self.config.passes == "plain":
            if not draws.skip:
                mask_mb = generator([feature[row] for row in index_mb], draws.lam_mb)
            with torch.no_grad():
                return mask_mb, generator([feature[row] for row in index_bb], draws.lam_bb)
        projections = generator.project(feature)
        if not draws.skip:
            mask_mb = generator.masks(projections, index_mb, draws.lam_mb)
        with torch.no_grad():
            return mask_mb, generator.masks(projections, index_bb, draws.lam_bb)

    def _student_terms(
        self,
        images: Tensor,
        labels: Tensor,
        mixed: Tensor,
        index: Tensor,
        lam: tuple[float, ...],
        clean: Features,
    ) -> StudentTerms:
        """Return the losses of the clean batch, its convex mixture (N >= 3) and the masked one."""
        pair, eps = self.pair, self.label_smoothing
        logits_one = pair.one_q(clean.pooled)
        logits_linear = loss_linear = None
        if len(lam) > 2:
            linear = constant_masks(images.new_empty(1, len(lam), *images.shape[2:]), lam)
            logits_linear = pair.mix_q(pair.features_q(mix_sources(images, index, linear)).pooled)
            loss_linear = sources_cross_entropy(logits_linear, labels[index], lam, smoothing=eps)
        logits_mix = pair.mix_q(pair.features_q(mixed).pooled)
        return StudentTerms(
            logits_one=logits_one,
            logits_linear=logits_linear,
            logits_mix=logits_mix,
            loss_one=cross_entropy(logits_one, labels, smoothing=eps),
            loss_linear=loss_linear,
            loss_mix=sources_cross_entropy(logits_mix, labels[index], lam, smoothing=eps),
        )

    def _generator_terms(
        self,
        images: Tensor,
        labels: Tensor,
        mixed: Tensor,
        index: Tensor,
        lam: tuple[float, ...],
        adversarial: bool,
        teacher: Features,
        clean: Features,
    ) -> GeneratorTerms:
        """Return what the generator is judged by; the judging network gets no gradient."""
        pair = self.pair
        if self.config.gen_loss_net == "student":
            logits = pair.without_gradients(mixed)
            with torch.no_grad():
                of_batch = pair.mix_q(clean.pooled)
                sources = [of_batch[row] for row in index]
        else:
            logits = pair.mix_k(pair.features_k(mixed).pooled)
            with torch.no_grad():
                sources = self._source_logits(images, index, teacher)
        loss_mix = sources_cross_entropy(logits, labels[index], lam, smoothing=self.label_smoothing)
        likeness = [
            weight * F.cosine_similarity(logits, source, dim=1, eps=1e-8)
            for weight, source in zip(lam, sources, strict=True)
        ]
        cosine = torch.stack(likeness).sum(dim=0).mean()
        adv, cos = self.config.weights()
        loss = cos * cosine - adv * loss_mix if adversarial else loss_mix
        return GeneratorTerms(logits, loss_mix, cosine, loss)

    def _source_logits(self, images: Tensor, index: Tensor, teacher: Features) -> list[Tensor]:
        """Return the teacher's mixed-head logits of every source, N of (B, K).

        In train mode they are those of the whole batch, reordered: batch statistics know no
        order. What the passes would do to the running statistics is made up for after the
        backward pass.
        """
        if self.plain_because is not None:
            return [self.pair.mix_k(self.pair.features_k(images[row]).pooled) for row in index]
        self._pending = len(index)
        of_batch = self.pair.mix_k(teacher.pooled)
        return [of_batch[row] for row in index]

    def _weighted(
        self, student: StudentTerms, generator: GeneratorTerms | None
    ) -> list[tuple[float, Tensor]]:
        share = self.config.linear_ratio
        terms = [(1.0, student.loss_mix)]
        if student.loss_linear is None:
            terms.append((1.0, student.loss_one))
        else:
            terms += [(1 - share, student.loss_one), (share, student.loss_linear)]
        if generator is not None:
            terms.append((1.0, generator.loss))
        return terms

    def before_step(self, iteration: int, total: int) -> None:
        """Do nothing: no weight of the loss changes over the run."""

    def after_step(self, iteration: int, total: int) -> None:
        """Make up for the passes that were saved, then move the teacher towards the student."""
        self.settle()
        config = self.config
        self.pair.update(
            ema_momentum(
                iteration, total, base=config.ema, end=config.ema_end, start=config.ema_start
            )
        )

    def settle(self) -> None:
        """Bring the teacher's batch statistics to where all passes of the step would have."""
        if self._pending:
            self.replay.replay(self._pending)
            self._pending = 0

    def classifier(self) -> nn.Module:
        """Return the teacher with its head for clean images."""
        return self.pair.network_k

    def preview(self, images: Tensor) -> MixPreview:
        """Mix every image with those after it, by weights that are always the same."""
        lam = draw_adautomix(len(images), self.config, np.random.default_rng(0)).lam_mb
        places = torch.arange(len(images), device=images.device)
        index = torch.stack([places.roll(-n) for n in range(len(lam))])
        with torch.no_grad(), in_eval_mode(self):
            feature = self.pair.features_k(images).feat
            masks = self.generator.masks(self.generator.project(feature), index, lam)
        sources = images[index].transpose(0, 1)
        return MixPreview(sources, masks, mix_sources(images, index, masks), lam)

    def step_cost(self) -> int:
        """Return what a step costs in forward passes; the plain way makes N more."""
        more = 0 if self.plain_because is None else self.config.mix_samples
        return self.config.least_cost() + more

    def passes(self) -> str:
        """Return the cost of a step in forward passes, and why it is not the least possible."""
        told = f"{self.step_cost()} F a step"
        if self.plain_because is None:
            return told
        return f"{told} instead of {self.config.least_cost()}: {self.plain_because}"

    def _why_plain(self) -> str | None:
        """Return why every forward pass must be made, or None."""
        if self.config.passes == "plain":
            return "passes = plain"
        reason = random_forward(self.pair.network_k)
        if reason is not None:
            return f"{reason} makes every forward pass differ"
        return None if self.replay.possible() else "batch norm without a fixed momentum"

    def get_extra_state(self) -> Tensor:
        """Return how many steps were counted; every second one is adversarial."""
        return torch.tensor(self.iteration)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on counting from a saved state."""
        self.iteration = int(state)
