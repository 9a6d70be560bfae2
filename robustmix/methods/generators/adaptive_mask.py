"""AdAutoMix's generator: N masks from N feature maps, each by attention to the other maps.

    N samples, B batch, C channels, T = h w tokens, D = C / reduction

Method card
    Paper: Qin et al. 2024, "Adversarial AutoMixup", arXiv:2312.11954, section 3.2.
    Deviations: as in the released code, query and key are rectified, the logits of the other
        samples are summed before the softmax, and the scale is 1 / sqrt(D).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustmix.errors import UsageError
from robustmix.methods.generators.attention import (
    Upsample,
    init_convolutions,
    row_softmax,
    tokens,
    upsample,
)
from robustmix.methods.losses import full_precision
from robustmix.methods.mixing import may_look


class Projections(NamedTuple):
    """The three convolutions of a batch of maps, before lam, norm and activation are applied."""

    query: Tensor
    """(B, D, h, w)."""

    key: Tensor
    """(B, D, h, w)."""

    value: Tensor
    """(B, 1, h, w)."""


class AdaptiveMask(nn.Module):
    """Masks for any number of samples from 2 on, all by the same three 1x1 convolutions.

    Parameters bear the names of the released code. All arithmetic is in float32, under autocast
    too.

    Args:
        channels: C of the feature maps.
        factor: the masks are so many times larger than the maps.
        reduction: D is C // reduction (of C without the lam channel).
        lam_concat: give each map its sample's weight as one more channel.
        mode: how the masks are enlarged.
        use_scale: divide the attention logits by sqrt(D).
        norm: batch norm in query and key, instead of a bias.
        guard: where a mask is NaN, compute it again in float64, and put 1 / N where it still is.
        weights: source of the initial weights, on the CPU.

    Raises:
        ValueError: an impossible size.
    """

    def __init__(
        self,
        channels: int,
        *,
        factor: int,
        reduction: int = 2,
        lam_concat: bool = False,
        mode: Upsample = "bilinear",
        use_scale: bool = True,
        norm: bool = False,
        guard: bool = False,
        weights: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        width = channels // reduction
        if width < 1 or factor < 1:
            raise ValueError(
                f"expected reduction <= channels and factor >= 1, got {reduction} for {channels} "
                f"channels and {factor}"
            )
        self.channels, self.width, self.factor = channels, width, factor
        self.lam_concat, self.mode, self.guard = lam_concat, mode, guard
        self.divisor = math.sqrt(width) if use_scale else 1.0
        inputs = channels + 1 if lam_concat else channels
        self.conv_q = _Projection(inputs, width, norm=norm)
        self.conv_k = _Projection(inputs, width, norm=norm)
        self.conv_v = nn.Conv2d(inputs, 1, 1)
        init_convolutions(self, weights)

    def project(self, feature: Tensor) -> Projections:
        """Return what the convolutions make of a batch of maps, (B, C, h, w), without lam.

        A 1x1 convolution commutes with any reordering of the batch, so this is made once, and
        ``masks`` picks rows from it for every sample of a mixture.
        """
        return self._project(feature, slice(0, self.channels))

    def masks(self, projections: Projections, index: Tensor, lam: tuple[float, ...]) -> Tensor:
        """Return the masks of mixtures, (B, N, factor h, factor w); they sum to 1 over N.

        Args:
            projections: of the B maps.
            index: int64 (N, B), whose map is the n-th sample of each mixture.
            lam: N weights; of no effect without ``lam_concat``.
        """
        return self._masks_of(
            [
                self._with_lam(Projections(*(part[row] for part in projections)), weight)
                for row, weight in zip(index, lam, strict=True)
            ]
        )

    def forward(self, features: list[Tensor], lam: tuple[float, ...]) -> Tensor:
        """Return the masks of N batches of maps, each (B, C, h, w), convolved one by one.

        As ``masks``, but to the bit, gradients included, what the released code computes.
        """
        return self._masks_of(self.samples(features, lam))

    def samples(self, features: list[Tensor], lam: tuple[float, ...]) -> list[Projections]:
        """Return the projections of every sample, lam included."""
        if not self.lam_concat:
            return [self.project(feature) for feature in features]
        channels = [torch.ones_like(features[0][:, :1]) * weight for weight in lam]
        if len(lam) == 2:
            channels[1] = 1 - channels[0]  # in float32, as published
        return [
            self._project(torch.cat([feature, channel], dim=1), slice(None))
            for feature, channel in zip(features, channels, strict=True)
        ]

    def attention(self, samples: list[Projections]) -> Tensor:
        """Return the attention of every sample to the others, (N, B, T, T); rows sum to 1."""
        queries = [_rectified(self.conv_q, sample.query) for sample in samples]
        keys = [_rectified(self.conv_k, sample.key) for sample in samples]
        # Products are added one by one, as in the released code. One product with summed keys is
        # equal but for rounding, which a few steps of training would make visible.
        rows = []
        for n, query in enumerate(queries):
            products = [query @ key.transpose(1, 2) for j, key in enumerate(keys) if j != n]
            rows.append(row_softmax(sum(products[1:], start=products[0]), self.divisor))
        return torch.stack(rows)

    def _masks_of(self, samples: list[Projections]) -> Tensor:
        with torch.autocast(samples[0].query.device.type, enabled=False):
            return self._guarded(samples) if self.guard else self._masks(samples)

    def _guarded(self, samples: list[Projections]) -> Tensor:
        """Return masks that are numbers; an accelerator is not waited for, and computes both.

        It is where there is a norm, which would notice every time that masks are computed.
        """
        if self.conv_q.bn is not None or may_look(samples[0].query):
            masks = self._masks(samples)
            return self._wide_masks(samples) if bool(masks.isnan().any()) else masks
        with torch.no_grad():
            bad = self._masks(samples).isnan().any()
        # What is not chosen is computed of zeros: the gradient of what is NaN is NaN, even times 0.
        kept, mended = (
            [Projections(*(part.masked_fill(out, 0) for part in sample)) for sample in samples]
            for out in (bad, ~bad)
        )
        return torch.where(bad, self._wide_masks(mended), self._masks(kept))

    def _wide_masks(self, samples: list[Projections]) -> Tensor:
        wide = [Projections(*(part.double() for part in sample)) for sample in samples]
        return self._masks(wide).nan_to_num(nan=1 / len(samples)).float()

    def _masks(self, samples: list[Projections]) -> Tensor:
        height, width = samples[0].value.shape[2:]
        attention_NBTT = self.attention(samples)
        # As published: the columns belong to the other samples, the values to the sample itself.
        value_NBT1 = torch.stack([tokens(sample.value) for sample in samples])
        logits = (attention_NBTT @ value_NBT1).squeeze(3).transpose(0, 1)
        logits = logits.reshape(*logits.shape[:2], height, width)
        return torch.softmax(upsample(logits, self.factor, self.mode), dim=1)

    def _with_lam(self, sample: Projections, weight: float) -> Projections:
        """Add what a constant channel gives after the convolution: its weights times lam."""
        if not self.lam_concat:
            return sample
        columns = [conv.weight[:, self.channels].view(1, -1, 1, 1) for conv in self._convolutions()]
        return Projections(*(p + c * weight for p, c in zip(sample, columns, strict=True)))

    def _project(self, feature: Tensor, channels: slice) -> Projections:
        with torch.autocast(feature.device.type, enabled=False):
            feature = full_precision(feature)
            return Projections(
                *(
                    torch.conv2d(feature, conv.weight[:, channels], conv.bias)
                    for conv in self._convolutions()
                )
            )

    def _convolutions(self) -> tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]:
        return self.conv_q.conv, self.conv_k.conv, self.conv_v


class _Projection(nn.Module):
    """A 1x1 convolution and perhaps a batch norm, under the names of the released code."""

    def __init__(self, channels: int, width: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1, bias=not norm)
        self.bn = nn.BatchNorm2d(width) if norm else None


def _rectified(projection: _Projection, maps: Tensor) -> Tensor:
    """Return the tokens (B, T, D) of a map after the norm, if there is one, and the ReLU."""
    if projection.bn is not None:
        maps = projection.bn(maps)
    return tokens(torch.relu(maps))


def load_generator(
    generator: AdaptiveMask, state: dict[str, Tensor], *, source: str = "the generator"
) -> None:
    """Load trained weights into a generator.

    Raises:
        UsageError: they belong to a generator of another kind; says which option differs.
    """
    name = "conv_v.weight"
    if name not in state:
        raise UsageError(f"{source} has no {name}", "it is no AdaptiveMask", code="E-GENERATOR")
    have, want = state[name].shape[1], generator.conv_v.weight.shape[1]
    if have != want and have in (generator.channels, generator.channels + 1):
        trained = "with" if have > generator.channels else "without"
        raise UsageError(
            f"lam_concat={str(generator.lam_concat).lower()}, but {source} was trained {trained} "
            "the lam channel",
            f"set lam_concat={'true' if have > generator.channels else 'false'}",
            code="E-GENERATOR",
        )
    try:
        generator.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{source} does not fit: {reason[:200]}", code="E-GENERATOR") from error
