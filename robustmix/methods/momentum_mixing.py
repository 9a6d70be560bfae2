"""MixUp and CutMix with AutoMix's momentum pipeline: a moving average is what is deployed.

Method card
    Paper: Liu et al. 2022, "AutoMix: Unveiling the Power of Mixup for Stronger Classifiers",
        arXiv:2103.13027, section 3.3 and Table 10.
    Does: with ``mp`` a teacher, the student's moving average, is validated and deployed, and the
        student learns the mixtures alone; with ``mp+ce`` it also learns the clean images, by a head
        of their own, which is the deployed one.
    Cost: 4 forward passes a step with ``mp``, 7 with ``mp+ce``; a network without batch norm saves
        the teacher's.
    Deviations: the paper does not say where the teacher's batch statistics are from, as it has no
        generator to look for here. Assumed: from a pass of the clean images a step, which is the
        first of AutoMix's teacher. The losses have the weight 1 each, as AutoMix's.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.losses import label_loss
from robustmix.methods.method import Setup, StepResult, top1
from robustmix.methods.mixing import check_alpha
from robustmix.methods.momentum_pair import (
    EMA_OPTIONS,
    MomentumPair,
    Pipeline,
    check_ema,
    check_pipeline,
    ema_momentum,
)
from robustmix.methods.pair_mixing import PairMixing


@dataclass(frozen=True, kw_only=True, slots=True)
class MomentumConfig:
    """One alpha, and options of the momentum pipeline, which is off by default."""

    alpha: float = 1.0
    """Both parameters of the Beta distribution of lam."""

    pipeline: Pipeline = "none"
    """AutoMix's momentum pipeline: ``none``; ``mp``: a moving average of the network is deployed;
    ``mp+ce``: and clean images are learned too, by a head of their own."""

    ema: float = 0.999
    """Weight of the old average at first."""

    ema_end: float = 0.999999
    """Weight of the old average that the run ends with."""

    ema_start: float = 0.1
    """Share of the run before the weight begins to rise."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        check_pipeline(self.pipeline)
        check_ema(self.ema, self.ema_end, self.ema_start)

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        return dict.fromkeys(EMA_OPTIONS, "pipeline is none") if self.pipeline == "none" else {}

    def least_cost(self) -> int:
        """Return what a step costs in forward passes, of a network with batch norm."""
        # 1 for the teacher and 3 for what the student learns, each.
        return {"none": 3, "mp": 4, "mp+ce": 7}[self.pipeline]


class MomentumMixing(PairMixing):
    """One network trained on what ``mix`` makes of each batch, or a pair of student and teacher."""

    config: MomentumConfig

    def __init__(self, network: nn.Module, config: MomentumConfig, setup: Setup) -> None:
        super().__init__(network, config, setup)
        self.pair: MomentumPair | None = None
        self._gathers = False
        """Whether the teacher makes a pass of its own, for its batch statistics."""
        if config.pipeline == "none":
            return
        del self.network  # the pair has it; its state would hold it twice
        self.pair = pair = MomentumPair(network, setup, pipeline=config.pipeline)
        self._gathers = any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
            for module in pair.network_k.modules()
        )

    def compute(self, batch: Batch, draws: Any) -> StepResult:
        """Return the loss of one batch, for draws on its device.

        With a clean head ``top1`` is of the clean images, else of the mixtures' own labels.
        """
        if self.pair is None:
            return super().compute(batch, draws)
        pair, images, labels = self.pair, batch.images, batch.labels
        if self._gathers:
            with torch.no_grad():  # for the teacher's batch statistics
                pair.features_k(images)
        loss_one = logits_one = None
        if pair.two_heads:
            logits_one = pair.one_q(pair.features_q(images).pooled)
            loss_one = label_loss(logits_one, labels, bce=self.bce, smoothing=self.label_smoothing)
        blend = self.blend(batch, draws)
        logits_mix = pair.mix_q(pair.features_q(blend.images).pooled)
        loss_mix = self.loss(logits_mix, labels, blend)
        loss = loss_mix if loss_one is None else loss_mix + loss_one
        acc_mix = top1(logits_mix, labels[blend.sources[0]])
        logs: dict[str, Tensor | None] = {
            "loss": loss,
            "loss_one_q": loss_one,
            "loss_mix_q": loss_mix,
            "acc_mix_q": acc_mix,
            "top1": acc_mix if logits_one is None else top1(logits_one, labels),
        }
        return StepResult(loss, {k: v.detach() for k, v in logs.items() if v is not None})

    def classifier(self) -> nn.Module:
        """Return the one network, or the teacher with the head that is deployed."""
        return self.network if self.pair is None else self.pair.network_k

    def before_step(self, iteration: int, total: int) -> None:
        """Do nothing: no weight of the loss changes over the run."""

    def after_step(self, iteration: int, total: int) -> None:
        """Move the teacher after step ``iteration`` (0-based) of ``total``."""
        if self.pair is not None:
            base, end, start = self.config.ema, self.config.ema_end, self.config.ema_start
            self.pair.update(ema_momentum(iteration, total, base=base, end=end, start=start))

    def step_cost(self) -> int:
        """Return what a step costs in forward passes; a backward pass counts two."""
        spared = self.pair is not None and not self._gathers
        return self.config.least_cost() - int(spared)

    def passes(self) -> str:
        """Return what a step costs."""
        told = f"{self.step_cost()} F a step"
        return f"{told}, 1 of them for the teacher's batch statistics" if self._gathers else told
