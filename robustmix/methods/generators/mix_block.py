"""The Mix Blocks of AutoMix and SAMix: two masks from the maps of a pair of images.

    B batch, C channels, T = h w tokens, D = C / 2

Attention from the first sample to the second weighs a value of the second; enlarged, then squashed,
that is the second sample's mask. The first has the rest. All arithmetic is in float32, under
autocast too, and parameters bear the names of the released code, so its weights load by name.

Method card
    Paper: Liu et al. 2022, "AutoMix: Unveiling the Power of Mixup for Stronger Classifiers",
        arXiv:2103.13027; Li et al. 2021, "Boosting Discriminative Visual
        Representation Learning with Scenario-Agnostic Mixup", arXiv:2111.15454.
    Deviations: as in the released code, the attention is scaled by 1 / sqrt(D), the mask is a
        sigmoid, and the logits are enlarged before it.
"""

import functools
import math
from typing import Literal, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from robustmix.methods.generators.attention import (
    Upsample,
    init_convolutions,
    row_softmax,
    tokens,
    upsample,
)
from robustmix.methods.losses import full_precision, number_for

LARGEST_CURVATURE = 10.0
"""SAMix's k is at most this, as in the released code."""

_EPS = 1e-8
"""Mean masks this close to lam count as equal to it."""

AttentionNorm: TypeAlias = Literal["none", "layer"]
MaskLoss: TypeAlias = Literal["l1", "l1+variance"]
MaskLossDecay: TypeAlias = Literal["constant", "linear", "compound-cosine"]


class MixBlock(nn.Module):
    """AutoMix's generator: query and key are one convolution, the value is another.

    Args:
        channels: C of the maps.
        factor: the masks are so many times larger than the maps.
        lam_concat: give each map its sample's weight as one more channel.
        mode: how the masks are enlarged.
        att_norm: ``layer`` puts a layer norm over channels after the shared convolution, which
            then has no bias.
        weights: source of the initial weights, on the CPU.

    Raises:
        ValueError: an impossible size.
    """

    def __init__(
        self,
        channels: int,
        *,
        factor: int,
        lam_concat: bool = False,
        mode: Upsample = "nearest",
        att_norm: AttentionNorm = "none",
        weights: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(channels, factor)
        self.channels, self.factor, self.mode = channels, factor, mode
        self.lam_concat = lam_concat
        inputs = channels + 1 if lam_concat else channels
        self.query = _Projection(inputs, channels // 2, norm=att_norm == "layer")
        self.value = nn.Conv2d(inputs, 1, 1)
        init_convolutions(self, weights)

    def forward(self, feature: Tensor, index: Tensor, lam: float) -> Tensor:
        """Return the masks of pairs, (B, 2, factor h, factor w); they sum to 1 over the pair.

        Args:
            feature: maps of the batch, (B, C, h, w).
            index: int64 (B,), the second sample of each pair; the first is the image itself.
            lam: weight of the first sample; of no effect without ``lam_concat``.
        """
        return self.masks(feature, index, self.told(lam))

    def told(self, lam: float) -> float:
        """Return what ``masks`` wants in place of lam: lam."""
        return lam

    def masks(self, feature: Tensor, index: Tensor, lam: float | Tensor) -> Tensor:
        """Return the masks of pairs for what ``told`` makes of lam, which may be on a device."""
        with torch.autocast(feature.device.type, enabled=False):
            feature = full_precision(feature)
            value = self._convolve(self.value, feature)[index]
            value = self._with_lam(self.value, value, 1 - lam)
            attention_BTT = self.attention(feature, index, lam)
            return _masks(attention_BTT, value, self.factor, self.mode)

    def attention(self, feature: Tensor, index: Tensor, lam: float | Tensor) -> Tensor:
        """Return the attention of first to second samples, (B, T, T); rows sum to 1."""
        with torch.autocast(feature.device.type, enabled=False):
            feature = full_precision(feature)
            # A 1x1 convolution commutes with the choice of partners, so one of it serves both.
            conv = self.query.conv
            shared = self._convolve(conv, feature)
            query = self._with_lam(conv, shared, lam)
            key = self._with_lam(conv, shared[index], 1 - lam)
            return _attention(self.query.normed(query), self.query.normed(key))

    def _convolve(self, conv: nn.Conv2d, feature: Tensor) -> Tensor:
        return F.conv2d(feature, conv.weight[:, : self.channels], conv.bias)

    def _with_lam(self, conv: nn.Conv2d, maps: Tensor, lam: float | Tensor) -> Tensor:
        """Add what the constant channel lam gives after the convolution: its weights times lam."""
        if not self.lam_concat:
            return maps
        return maps + lam * conv.weight[:, self.channels].view(1, -1, 1, 1)


class SAMixBlock(nn.Module):
    """SAMix's generator: lam scales the maps, query and key see both, the value is a small network.

    Args:
        channels: C of the maps.
        factor: the masks are so many times larger than the maps.
        mode: how the masks are enlarged.
        lam_mul_k: how lam is bent before it scales, see ``bent_lam``.
        value_dropout: probability of zeroing a value in training.
        weights: source of the initial weights, on the CPU.

    Raises:
        ValueError: an impossible size.
    """

    def __init__(
        self,
        channels: int,
        *,
        factor: int,
        mode: Upsample = "bilinear",
        lam_mul_k: float = 0.25,
        value_dropout: float = 0.0,
        weights: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_sizes(channels, factor)
        self.channels, self.factor, self.mode = channels, factor, mode
        self.lam_mul_k = lam_mul_k
        self.value = _ValueNetwork(channels, value_dropout)
        self.key = _Projection(2 * channels, channels // 2)
        self.query = _Projection(2 * channels, channels // 2)
        init_convolutions(self, weights)

    def forward(self, feature: Tensor, index: Tensor, lam: float) -> Tensor:
        """Return the masks of pairs; as ``MixBlock.forward``, but they depend on ``lam``.

        In train mode the batch norm of the value network takes its statistics from the scaled
        maps of the second samples, and every call moves its running statistics.
        """
        return self.masks(feature, index, self.told(lam))

    def told(self, lam: float) -> float:
        """Return what ``masks`` wants in place of lam: lam, bent."""
        return bent_lam(lam, self.lam_mul_k)

    def masks(self, feature: Tensor, index: Tensor, bent: float | Tensor) -> Tensor:
        """Return the masks of pairs for what ``told`` makes of lam, which may be on a device."""
        with torch.autocast(feature.device.type, enabled=False):
            first, second = self._scaled(feature, index, bent)
            attention_BTT = self._attend(first, second)
            return _masks(attention_BTT, self.value(second), self.factor, self.mode)

    def attention(self, feature: Tensor, index: Tensor, lam: float) -> Tensor:
        """Return the attention within pairs, (B, T, T); rows sum to 1."""
        with torch.autocast(feature.device.type, enabled=False):
            return self._attend(*self._scaled(feature, index, self.told(lam)))

    def _attend(self, first: Tensor, second: Tensor) -> Tensor:
        both = torch.cat([first, second], dim=1)
        return _attention(self.query.conv(both), self.key.conv(both))

    def _scaled(
        self, feature: Tensor, index: Tensor, bent: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        feature = full_precision(feature)
        return feature * (1 + bent), feature[index] * (1 + (1 - bent))


PairGenerator: TypeAlias = MixBlock | SAMixBlock
"""What makes masks for pairs."""


class _Projection(nn.Module):
    """A 1x1 convolution and perhaps a layer norm, under the names of the released code."""

    def __init__(self, channels: int, width: int, *, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1, bias=not norm)
        self.ln = nn.LayerNorm(width) if norm else None

    def normed(self, maps: Tensor) -> Tensor:
        """Return maps (B, D, h, w) normalised over D at each place, if there is a norm."""
        if self.ln is None:
            return maps
        out: Tensor = self.ln(maps.movedim(1, -1))
        return out.movedim(-1, 1)


class _ConvLayer(nn.Module):
    """A 1x1 convolution without bias, followed by batch norm and ELU if it has a norm."""

    def __init__(self, channels: int, width: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1, bias=False)
        self.bn = nn.BatchNorm2d(width) if norm else None

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, width, h, w) for maps (B, channels, h, w)."""
        out: Tensor = self.conv(maps)
        return out if self.bn is None else F.elu(self.bn(out))


class _ValueNetwork(nn.Module):
    """One value a place from D hidden ones, under the names of the released code."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _ConvLayer(channels, channels // 2, norm=True),
            _ConvLayer(channels // 2, 1, norm=False),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, 1, h, w) for maps (B, C, h, w)."""
        out: Tensor = self.dropout(self.conv(maps))
        return out


def bent_lam(lam: float, k: float) -> float:
    """Return lam on SAMix's cubic from (0, 0) through (1/2, 1/2) to (1, 1).

    With kappa = k + 1 it is (4/3 lam^3 - 2 lam^2 + kappa lam) / (kappa - 2/3), steepest at the
    ends and flatter in the middle the smaller k is.

    Args:
        lam: in [0, 1].
        k: -1 leaves lam as it is; else in [0, 10].

    Reference:
        Li et al. 2021, arXiv:2111.15454; the constants are those of OpenMixup.

    Example:
        >>> round(bent_lam(0.3, 0.25), 4), bent_lam(0.3, -1)
        (0.396, 0.3)
    """
    if k == -1:
        return lam
    kappa = k + 1
    return (4 / 3 * lam**3 - 2 * lam**2 + kappa * lam) / (kappa - 2 / 3)


def mask_loss(masks: Tensor, lam: float, *, kind: MaskLoss, margin: float) -> Tensor:
    """Return how far the mean mask is from its weight, a float32 scalar before weighting.

    With m the second masks, ``l1`` is max(|1 - mean(m) - lam| - margin, 0), the mean taken over
    the whole batch; ``l1+variance`` subtracts twice the variance of m over batch and pixels.

    Args:
        masks: (B, 2, H, W), summing to 1 over the pair.
        lam: weight of the first sample.
        kind: the formula.
        margin: deviation of the mean that costs nothing.

    Reference:
        Liu et al. 2022, arXiv:2103.13027, the loss l_lambda; the variance is SAMix's.
    """
    second = full_precision(masks[:, 1])
    mean = second.mean()
    loss = ((1 - mean - number_for(lam, mean)).abs() - margin).clamp_min(0)
    if kind == "l1+variance":
        loss = loss - 2 * (second - mean).square().mean()
    return loss


def decayed_weight(weight: float, decay: MaskLossDecay, iteration: int, total: int) -> float:
    """Return the weight of the mask loss at an iteration.

    ``constant`` is ``weight``; ``linear`` falls to 0 over the run; ``compound-cosine`` multiplies
    what the iteration before had by (1 + cos(pi t / total)) / 2.

    Args:
        weight: at iteration 0.
        decay: the rule.
        iteration: t, 0-based over the whole run.
        total: iterations of the run; 0 if unknown, which keeps ``weight``.

    Reference:
        Liu et al. 2022, arXiv:2103.13027, is ``linear``; OpenMixup's annealing hook applied to its
        own result is ``compound-cosine``.

    Example:
        >>> [decayed_weight(0.1, decay, 50, 100) for decay in ("constant", "linear")]
        [0.1, 0.05]
    """
    if decay == "constant" or total == 0:
        return weight
    if decay == "linear":
        return weight * (1 - min(iteration / total, 1.0))
    curve = _compound_cosine(weight, total)
    return float(curve[iteration]) if iteration < len(curve) else 0.0


@functools.lru_cache(maxsize=4)
def _compound_cosine(weight: float, total: int) -> NDArray[np.float64]:
    """Return the weights of all iterations until they are too small for a normal number."""
    factors = (1 + np.cos(np.pi * np.arange(total) / total)) / 2
    factors[0] = weight
    curve = np.cumprod(factors, dtype=np.float64)
    return curve[curve >= np.finfo(np.float64).tiny]


def adjust_masks(masks: Tensor, lam: float) -> Tensor:
    """Scale each pair's masks so that the first one's mean is lam.

    Where the first mask is too large on average it is multiplied, and the second has the rest;
    where it is too small, the other way round. Values stay in [0, 1] and sum to 1.

    Args:
        masks: (B, 2, H, W), summing to 1 over the pair.
        lam: the wanted mean of the first mask, in (0, 1).

    Reference:
        OpenMixup, ``mask_adjust``.
    """
    first = masks[:, 0].clamp(_EPS, 1 - _EPS)
    mean = first.mean(dim=(1, 2), keepdim=True)
    # As torch divides a number by a tensor; here lam may be a tensor too.
    smaller = first * (mean.reciprocal() * lam)
    larger = 1 - (1 - first) * ((1 - mean).reciprocal() * (1 - lam))
    adjusted = torch.where(mean > lam + _EPS, smaller, masks[:, 0])
    adjusted = torch.where(mean < lam - _EPS, larger, adjusted)
    return torch.stack([adjusted, 1 - adjusted], dim=1)


def within_margin(lam: float, margin: float) -> bool:
    """Return whether lam is so close to 0 or 1 that the mixture is a plain one.

    Example:
        >>> [within_margin(lam, 0.08) for lam in (0.05, 0.5, 0.95)]
        [True, False, True]
    """
    return margin >= lam or margin >= 1 - lam


def _attention(query: Tensor, key: Tensor) -> Tensor:
    logits = tokens(query) @ key.flatten(2)
    return row_softmax(logits, math.sqrt(query.shape[1]))


def _masks(attention_BTT: Tensor, value: Tensor, factor: int, mode: Upsample) -> Tensor:
    logits = (attention_BTT @ tokens(value)).transpose(1, 2).reshape(value.shape)
    second = torch.sigmoid(upsample(logits, factor, mode))
    return torch.cat([1 - second, second], dim=1)


def _check_sizes(channels: int, factor: int) -> None:
    if channels < 2 or factor < 1:
        raise ValueError(f"expected channels >= 2 and factor >= 1, got {channels} and {factor}")
