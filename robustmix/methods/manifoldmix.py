"""ManifoldMix: MixUp of the images or of the maps after one of the first two stages.

Method card
    Paper: Verma et al. 2019, "Manifold Mixup: Better Representations by Interpolating Hidden
        States", arXiv:1806.05236, section 2.
    Does: one lam ~ Beta(alpha, alpha), one permutation and one of three places a batch: the images,
        the maps after the first stage, or those after the second. What is there is mixed as lam h +
        (1 - lam) h[perm] and the pass goes on; the loss is lam CE(own) + (1 - lam) CE(partner).
    Cost: 3 forward passes a step.
    Deviations: none in the arithmetic of residual networks. The loss is OpenMixup's, with which
        the benchmark's tables were made; the authors' code learns the mixed labels by the binary
        cross-entropy of the softmax's shares (loss = "softmax-bce"). As in both, the third stage
        is never chosen, and an image may be its own partner. The authors' network is a
        pre-activation ResNet. In networks of timm a stage is what their feature list names; in a
        plain transformer, that is a block, whose tokens are mixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods.losses import softmax_binary_cross_entropy
from robustmix.methods.method import Setup, StepResult, require, split_step
from robustmix.methods.mixing import Blend, blend_pairs, check_alpha, given, soft_targets
from robustmix.methods.mixup import MixupDraws, mixup
from robustmix.methods.pair_mixing import PairMixing
from robustmix.models.passing import Passing
from robustmix.models.resnet import ResNet
from robustmix.models.wide_resnet import WideResNet
from robustmix.upload import uploaded

Loss = Literal["ce", "softmax-bce"]

PLACES = 3
"""The images, and the maps after the first two stages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifoldMixConfig:
    """How much is mixed, and how the mixed labels are learned."""

    alpha: float = 2.0
    """Both parameters of the Beta distribution of lam; 2 is the CIFAR benchmark's value."""

    loss: Loss = "ce"
    """``ce``: cross-entropy, as OpenMixup has it; ``softmax-bce``: the binary cross-entropy of
    every class's share in the softmax, as the authors have it."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        known = get_args(Loss)
        require(self.loss in known, f"loss: one of {', '.join(known)}", self.loss)


class ManifoldMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    layer: int
    """What is mixed: 0 the images, 1 or 2 the maps after that many stages."""

    lam: float
    """Weight of the image itself, in [0, 1]."""

    perm: Tensor
    """int64 (N,), whom each image is mixed with."""


def draw_manifoldmix(n: int, alpha: float, rng: np.random.Generator) -> ManifoldMixDraws:
    """Draw the place, lam ~ Beta(alpha, alpha), then a uniform permutation of ``n`` images."""
    return ManifoldMixDraws(
        layer=int(rng.integers(PLACES)),
        lam=float(rng.beta(alpha, alpha)),
        perm=torch.from_numpy(rng.permutation(n)),
    )


def manifold_stages(network: nn.Module, arch: str = "") -> tuple[nn.Module, ...]:
    """Return the first two stages of a network, whose outputs can be mixed.

    Raises:
        UsageError: the network does not say what its stages are.
    """
    if isinstance(network, ResNet | WideResNet):
        return network.stages[: PLACES - 1]
    listed = cast(Any, network).feature_info if hasattr(network, "feature_info") else []
    # timm's residual networks list their stem too, as an activation.
    names = [str(entry["module"]) for entry in listed if not str(entry["module"]).startswith("act")]
    if len(names) < PLACES - 1:
        raise UsageError(
            f"{arch or type(network).__name__} cannot be mixed inside: its stages are not known",
            "use a built-in architecture or one of timm",
            code="E-NO-STAGES",
        )
    return tuple(network.get_submodule(name) for name in names[: PLACES - 1])


def manifold_places(network: nn.Module, arch: str = "") -> tuple[Passing, ...]:
    """Return where a network's maps can be mixed on their way, after each of its first two stages.

    There are none in a built-in network, which is run stage by stage.

    Raises:
        UsageError: the network does not say what its stages are.
    """
    stages = manifold_stages(network, arch)
    return () if isinstance(network, ResNet | WideResNet) else tuple(map(Passing, stages))


def mixed_if(here: bool, maps: Tensor, draws: ManifoldMixDraws) -> Tensor:
    """Return maps, mixed as drawn if this is the place."""
    return mixup(maps, MixupDraws(draws.lam, draws.perm)).images if here else maps


def manifoldmix_logits(
    network: nn.Module, places: Sequence[Passing], images: Tensor, draws: ManifoldMixDraws
) -> Tensor:
    """Return the logits of a batch that is mixed somewhere on its way.

    Args:
        network: normalised images (N, 3, H, W) -> logits (N, K).
        places: of the network, as ``manifold_places`` returns them.
        images: the batch.
        draws: where, how much, and with whom.

    Reference:
        Verma et al. 2019, arXiv:1806.05236, section 2, steps 1 to 4.
    """
    logits: Tensor
    if isinstance(network, ResNet | WideResNet):
        maps = mixed_if(draws.layer == 0, images, draws)
        maps = network.forward_stem(maps)
        for stage in range(len(network.stages)):
            maps = mixed_if(draws.layer == stage + 1, network.forward_stage(stage, maps), draws)
        return network.forward_head(maps)
    draws = draws._replace(perm=draws.perm.to(images.device))
    if draws.layer == 0:
        logits = network(mixed_if(True, images, draws))
        return logits
    passes = 0

    def mixed(maps: Tensor) -> Tensor:
        nonlocal passes
        passes += 1
        return mixed_if(True, maps, draws)

    with places[draws.layer - 1].changed_by(mixed):
        logits = network(images)
    assert passes == 1, f"the stage ran {passes} times in a pass"
    return logits


class ManifoldMix(PairMixing):
    """One network trained on batches that are mixed somewhere on their way through it.

    Raises:
        UsageError: the network's stages are not known, or there are two losses.
    """

    config: ManifoldMixConfig

    def __init__(self, network: nn.Module, config: ManifoldMixConfig, setup: Setup) -> None:
        if config.loss != "ce" and setup.bce is not None:
            raise UsageError(
                f"method.loss={config.loss} and loss=bce exclude each other",
                "leave one of them out",
                code="E-RECIPE",
            )
        super().__init__(network, config, setup)
        self.places = manifold_places(network, setup.arch)

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Mix as if the images were drawn as the place, which is what can be looked at."""
        draws = uploaded(self.draw(batch, lam=lam, perm=perm), batch.images.device)
        images, own = mixup(batch.images, MixupDraws(draws.lam, draws.perm))
        return blend_pairs(images, draws.perm, own)

    def training_step(self, batch: Batch) -> StepResult:
        """Return the mixed loss of one batch, which is mixed at the place that is drawn."""
        return split_step(self, batch)

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> ManifoldMixDraws:
        """Draw the place, lam and partners."""
        draws = draw_manifoldmix(len(batch.images), self.config.alpha, self.rng)
        return draws._replace(**given(lam=lam, perm=perm))

    def compute(self, batch: Batch, draws: ManifoldMixDraws) -> StepResult:
        """Return the mixed loss of one batch, for draws on its device."""
        logits = manifoldmix_logits(self.network, self.places, batch.images, draws)
        return self.result(logits, batch, blend_pairs(batch.images, draws.perm, draws.lam))

    def loss(self, logits: Tensor, labels: Tensor, blend: Blend) -> Tensor:
        """Return the cross-entropy of mixed images, or the authors' loss."""
        if self.config.loss == "ce":
            return super().loss(logits, labels, blend)
        eps, classes = self.label_smoothing, logits.shape[1]
        targets = (1 - eps) * soft_targets(blend, labels, classes) + eps / classes
        return softmax_binary_cross_entropy(logits, targets)
