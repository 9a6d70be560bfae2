"""What mask generators share: attention between maps, in float32, and mixing by masks."""

from typing import Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Upsample: TypeAlias = Literal["bilinear", "nearest", "bicubic"]
UPSAMPLES: tuple[str, ...] = get_args(Upsample)

INIT_STD = 0.01
"""Standard deviation of the initial convolutions; masks then start near 1 / N everywhere."""

LARGEST_LOGIT = 1e25
"""Attention logits are kept within this, so that a row softmax is never inf - inf."""


def init_convolutions(generator: nn.Module, weights: torch.Generator | None) -> None:
    """Draw the weights of a generator's convolutions, in its order, and set their biases to 0.

    Args:
        generator: on the CPU.
        weights: source of the draws; by default one seeded with 0.
    """
    weights = weights or torch.Generator().manual_seed(0)
    for module in generator.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=INIT_STD, generator=weights)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def tokens(feature: Tensor) -> Tensor:
    """Return (N, h w, C) for a map (N, C, h, w)."""
    return feature.flatten(2).transpose(1, 2)


def row_softmax(logits: Tensor, divisor: float) -> Tensor:
    """Return softmax(logits / divisor) over the last axis, after keeping the logits finite.

    Args:
        logits: float32 (..., T, T), products of queries and keys.
        divisor: square root of the width of these, as a rule.
    """
    logits = logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    return torch.softmax(logits / divisor, dim=-1)


def upsample(maps: Tensor, factor: int, mode: Upsample) -> Tensor:
    """Enlarge (N, C, h, w) by a whole factor; corners are not aligned."""
    if factor == 1:
        return maps
    if mode == "nearest":
        return F.interpolate(maps, scale_factor=factor, mode=mode)
    return F.interpolate(maps, scale_factor=factor, mode=mode, align_corners=False)


def mix_sources(images: Tensor, index: Tensor, masks: Tensor) -> Tensor:
    """Return the mixtures sum_n masks[:, n] * images[index[n]].

    Args:
        images: (B, 3, H, W).
        index: int64 (N, B), which image is the n-th source of each mixture.
        masks: (B, N, H, W).

    Returns:
        float32 (B, 3, H, W).
    """
    height, width = masks.shape[2:]
    if images.shape[2:] != (height, width):
        raise ValueError(f"masks of {height}x{width} do not fit images {tuple(images.shape[2:])}")
    mixed = masks[:, :1] * images[index[0]]
    for n, row in enumerate(index[1:], start=1):
        mixed = mixed + masks[:, n : n + 1] * images[row]
    return mixed


def constant_masks(like: Tensor, lam: tuple[float, ...]) -> Tensor:
    """Return masks of the shape of ``like``, (B, N, H, W), that weigh every pixel by lam[n]."""
    weights = torch.stack([torch.as_tensor(weight, dtype=torch.float64) for weight in lam])
    return weights.to(like).view(1, -1, 1, 1).expand_as(like)
