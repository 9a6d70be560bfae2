"""A box of an image resized into a box of another, by numbers that are tensors.

``F.interpolate`` and slices want the boxes' sizes as numbers, so that a compiled step would be
traced for every box anew. Here each place of an axis is told, on the processor, between which two
places of the source it lies.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robustmix.methods.cutmix import Box, in_boxes


class Taps(NamedTuple):
    """For each place of an axis, which two places of the source it is made of."""

    first: Tensor
    """int64 (side,)."""

    second: Tensor
    """int64 (side,)."""

    share: Tensor
    """float32 (side,), of the second, in [0, 1]; the first has the rest."""


class TracedBox(NamedTuple):
    """Where a box is, and what it is filled with."""

    box: Tensor
    """int64 (4,), a ``Box``; empty if it or its source is."""

    rows: Taps
    cols: Taps


def traced_box(box: Box, source: Box, size: tuple[int, int], *, align_corners: bool) -> TracedBox:
    """Return how a box of images of a height and width is filled with another one, bilinearly.

    Args:
        box: what is filled.
        source: what it is filled with.
        size: height and width of both images.
        align_corners: as ``F.interpolate`` has it.
    """
    spans = ((box[:2], source[:2]), (box[2:], source[2:]))
    rows, cols = (
        _taps(side, span, of, align_corners) for side, (span, of) in zip(size, spans, strict=True)
    )
    filled = all(end > start for pair in spans for start, end in pair)
    return TracedBox(torch.tensor(box if filled else Box(0, 0, 0, 0)), rows, cols)


def _taps(side: int, span: tuple[int, ...], source: tuple[int, ...], align_corners: bool) -> Taps:
    """Return the taps of an axis; float32 as in torch's kernels, so that shares are the same."""
    (start, end), (low, high) = span, source
    first, second = np.zeros(side, dtype=np.int64), np.zeros(side, dtype=np.int64)
    share = np.zeros(side, dtype=np.float32)
    if end > start and high > low:
        places = np.arange(end - start, dtype=np.float32)
        if align_corners:
            step = np.float32(high - low - 1) / np.float32(max(end - start - 1, 1))
            at = places * step
        else:
            step = np.float32(high - low) / np.float32(end - start)
            at = np.maximum(step * (places + np.float32(0.5)) - np.float32(0.5), 0)
        whole = np.minimum(at.astype(np.int64), high - low - 1)
        first[start:end] = low + whole
        second[start:end] = low + np.minimum(whole + 1, high - low - 1)
        share[start:end] = at - whole.astype(np.float32)
    return Taps(*(torch.from_numpy(values) for values in (first, second, share)))


def filled_box(images: Tensor, partners: Tensor, traced: TracedBox) -> Tensor:
    """Return copies of images (N, C, H, W) whose box shows their partners' one, on one device."""
    shown = _between(_between(partners, 2, traced.rows), 3, traced.cols)
    height, width = images.shape[2:]
    return torch.where(~in_boxes(traced.box, (height, width)), images, shown)


def _between(images: Tensor, axis: int, taps: Taps) -> Tensor:
    share = taps.share.to(images.dtype).view(-1, *[1] * (3 - axis))
    first, second = (images.index_select(axis, places) for places in taps[:2])
    return first * (1 - share) + second * share
