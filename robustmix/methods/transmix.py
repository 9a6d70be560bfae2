"""TransMix: CutMix whose labels follow a transformer's attention.

Method card
    Paper: Chen et al. 2022, "TransMix: Attend to Mix for Vision Transformers", arXiv:2111.09833,
        section 3.2.
    Does: four of five steps are CutMix, the others MixUp. On the former, the attention of the class
        token in the last block, averaged over heads, of the mixed image itself says how much of
        what is looked at is the image's own; the label weight is the mean of that and of the share
        of pixels that the image keeps.
    Cost: 3 forward passes a step.
    Deviations: none in the arithmetic. The label weight is each image's own, as in the paper and
        its code; the published implementation in OpenMixup weighs the batch's loss by the mean
        (batch_mean_lambda). CutMix's share of the steps is that of either's configurations; it is
        an option (cutmix_prob). The attention is computed a second time from the block's queries
        and keys, without gradient, for timm fuses it. Partners of CutMix are drawn again, up to
        ten times, while some image is its own; the authors mix the first image of a batch with
        its last, and so on. Networks without a class token are refused: for its figure of Swin
        the paper puts a block with a class token in the place of the last one, of which no code is
        released, and OpenMixup's configurations of Swin ask it for an attention that its code does
        not return.
"""

from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods.cutmix import (
    CutMixDraws,
    PasteDraws,
    box_of,
    draw_cutmix,
    in_boxes,
    paste,
)
from robustmix.methods.deit import DeiTConfig
from robustmix.methods.losses import full_precision
from robustmix.methods.method import Setup, StepResult, split_step, top1
from robustmix.methods.mixing import (
    Blend,
    blend_binary_loss,
    blend_cross_entropy,
    blend_pairs,
    given,
    image_size,
)
from robustmix.methods.mixup import MixupDraws, draw_mixup, mixup
from robustmix.methods.pair_mixing import PairMixing
from robustmix.models.passing import Passing
from robustmix.models.taps import in_eval_mode
from robustmix.upload import uploaded


@dataclass(frozen=True, kw_only=True, slots=True)
class TransMixConfig(DeiTConfig):
    """The two mixtures, which are DeiT's, and how CutMix's labels count."""

    cutmix_prob: float = 0.8

    batch_mean_lambda: bool = False
    """Weigh the two labels' mean losses by mean weights, not each image's by its own."""


def transmix_lam(draws: CutMixDraws, size: tuple[int, int], attention: Tensor) -> Tensor:
    """Return the weight of each image's own label, float32 (N,).

    Args:
        draws: CutMix's of this batch.
        size: height and width of the images.
        attention: what the class token of each mixed image looks at, (N, h, w), at least 0.

    Returns:
        The mean of the share of own pixels and the share of attention on own patches. A patch is
        its upper left pixel's.

    Reference:
        Chen et al. 2022, arXiv:2111.09833, equations 5 and 6.
    """
    return own_share(uploaded(box_of(draws, size), attention.device), size, attention)


def own_share(draws: PasteDraws, size: tuple[int, int], attention: Tensor) -> Tensor:
    """Return what ``transmix_lam`` does, for draws on the attention's device."""
    pasted = in_boxes(draws.box, size).float()[None, None]
    patches = F.interpolate(pasted, size=attention.shape[1:], mode="nearest")[0]
    attention = attention.float()
    total = attention.sum(dim=(1, 2))
    own = (attention * (1 - patches)).sum(dim=(1, 2)) / total
    return draws.own / 2 + own / 2


class _Attention(Protocol):
    """The part of timm's attention that is read."""

    qkv: nn.Module
    q_norm: nn.Module
    k_norm: nn.Module
    num_heads: int
    scale: float


class ClassAttention:
    """Reads what the class token looks at in the last block of a transformer of timm.

    Args:
        network: the transformer.
        arch: its name, for messages.

    Raises:
        UsageError: the network has no such token or block.
    """

    def __init__(self, network: nn.Module, arch: str = "") -> None:
        name = arch or type(network).__name__
        vit = cast(Any, network)
        blocks = getattr(network, "blocks", None)
        layer = blocks[-1].attn if isinstance(blocks, nn.Sequential) and len(blocks) else None
        has_parts = all(hasattr(layer, part) for part in ("qkv", "num_heads", "scale", "q_norm"))
        if layer is None or not has_parts or not getattr(network, "has_class_token", False):
            raise UsageError(
                f"{name} has no attention of a class token",
                "use deit_small, or a plain vision transformer of timm",
                code="E-NO-ATTENTION",
            )
        self.layer = cast(_Attention, layer)
        self.prefix = int(vit.num_prefix_tokens)
        self.grid = tuple(vit.patch_embed.grid_size)
        self.place = Passing(self.layer.qkv)

    def logits(self, network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return a pass's logits (N, K) and its attention over the patches, (N, h, w)."""
        seen: list[Tensor] = []

        def kept(output: Tensor) -> Tensor:
            seen.append(output.detach())
            return output

        with self.place.changed_by(kept):
            logits: Tensor = network(images)
        assert len(seen) == 1, "the last block ran more than once"
        return logits, self._attention(seen[0])

    @torch.no_grad()
    def _attention(self, qkv: Tensor) -> Tensor:
        n, tokens, _ = qkv.shape
        heads = self.layer.num_heads
        queries, keys, _ = full_precision(qkv).view(n, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys = self.layer.q_norm(queries[:, :, :1]), self.layer.k_norm(keys)
        weights = (queries * self.layer.scale @ keys.transpose(2, 3)).softmax(dim=3)
        attention: Tensor = weights.mean(dim=1)[:, 0, self.prefix :].reshape(n, *self.grid)
        return attention


class TransMix(PairMixing):
    """One transformer trained on batches that its own attention weighs.

    Raises:
        UsageError: the network has no attention of a class token.
    """

    config: TransMixConfig

    def __init__(self, network: nn.Module, config: TransMixConfig, setup: Setup) -> None:
        super().__init__(network, config, setup)
        self.attention = ClassAttention(network, setup.arch)

    def mix(self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None) -> Blend:
        """Paste the box of each image's partner and weigh it by a pass in eval mode."""
        draws = uploaded(self._box(batch, lam=lam, perm=perm), batch.images.device)
        images = paste(batch.images, draws)
        with in_eval_mode(self.network), torch.no_grad():
            _, attention = self.attention.logits(self.network, images)
        return self._weighed(images, draws, attention)

    def training_step(self, batch: Batch) -> StepResult:
        """Return the mixed loss of one batch; ``top1`` counts an image's own label only."""
        return split_step(self, batch)

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> PasteDraws | MixupDraws:
        """Draw which of the two, then its draws."""
        if self.rng.uniform() < self.config.cutmix_prob:
            return self._box(batch, lam=lam, perm=perm)
        draws = draw_mixup(len(batch.images), self.config.mixup_alpha, self.rng)
        return draws._replace(**given(lam=lam, perm=perm))

    def compute(self, batch: Batch, draws: PasteDraws | MixupDraws) -> StepResult:
        """Return the mixed loss of one batch, for draws on its device."""
        if isinstance(draws, MixupDraws):
            mixed, lam = mixup(batch.images, draws)
            return self.result(self.network(mixed), batch, blend_pairs(mixed, draws.perm, lam))
        images = paste(batch.images, draws)
        logits, attention = self.attention.logits(self.network, images)
        blend = self._weighed(images, draws, attention)
        smoothing, mean = self.label_smoothing, self.config.batch_mean_lambda
        if self.bce is None:
            loss = blend_cross_entropy(
                logits, batch.labels, blend, smoothing=smoothing, batch_mean_lambda=mean
            )
        else:
            loss = blend_binary_loss(
                logits, batch.labels, blend, self.bce, smoothing=smoothing, batch_mean_lambda=mean
            )
        return StepResult(loss, {"loss": loss.detach(), "top1": top1(logits, batch.labels)})

    def _box(self, batch: Batch, *, lam: float | None, perm: Tensor | None) -> PasteDraws:
        size = image_size(batch.images)
        draws = draw_cutmix(len(batch.images), size, self.config.cutmix_alpha, self.rng)
        return box_of(draws._replace(**given(lam=lam, perm=perm)), size)

    @staticmethod
    def _weighed(images: Tensor, draws: PasteDraws, attention: Tensor) -> Blend:
        lam = own_share(draws, image_size(images), attention)
        return blend_pairs(images, draws.perm, lam)
