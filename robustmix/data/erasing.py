"""Random erasing: a rectangle of an image becomes noise, as timm's ``RandomErasing`` does it.

This is its mode ``pixel`` with one rectangle an image, for normalised images: standard normal noise
then looks like a pixel of the data set.

Reference:
    Zhong et al. 2020, arXiv:1708.04896; timm, ``data/random_erasing.py``.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.data.transforms import Box
from robustmix.rng import normal
from robustmix.upload import uploaded

ERASE_TRIALS = 10
"""Rectangles that are tried before an image is left whole."""

ERASE_UNIFORMS = 2 * ERASE_TRIALS + 3
"""Uniforms an image takes: whether, an area and an aspect for each trial, then the two offsets."""

AREA = (0.02, 1 / 3)
"""Range of the rectangle's share of the image."""

ASPECT = (0.3, 1 / 0.3)
"""Range of the rectangle's height divided by its width; its logarithm is uniform."""

NOTHING = Box(0, 0, 0, 0)


class Erasing(NamedTuple):
    """What erasing draws for one batch: everything random, nothing else."""

    uniforms: Tensor  # (n, ERASE_UNIFORMS) float64 in [0, 1)
    keys: Tensor  # (n,) int64, of each image's noise


def draw_erasing(n: int, generator: torch.Generator) -> Erasing:
    """Draw what erases in a batch.

    Args:
        n: number of images.
        generator: a CPU generator; it advances by as much for every image, erased or not.

    Returns:
        Draws on the CPU.
    """
    ends = torch.iinfo(torch.int64)
    return Erasing(
        uniforms=torch.rand(n, ERASE_UNIFORMS, generator=generator, dtype=torch.float64),
        keys=torch.randint(ends.min, ends.max, (n,), generator=generator),
    )


def erase_box(height: int, width: int, uniforms: Tensor, *, prob: float) -> Box:
    """Return the rectangle that is erased of one image.

    Args:
        height: rows of the image.
        width: columns of the image.
        uniforms: float64 (ERASE_UNIFORMS,) in [0, 1).
        prob: share of the images that are erased.

    Returns:
        The first trial that is lower and narrower than the image, else ``NOTHING``.
    """
    chance, *trials, down, across = uniforms.tolist()
    if chance >= prob:
        return NOTHING
    low, high = math.log(ASPECT[0]), math.log(ASPECT[1])
    for trial in range(ERASE_TRIALS):
        area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * trials[2 * trial])
        aspect = math.exp(low + (high - low) * trials[2 * trial + 1])
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows < height and columns < width:
            top, left = int(down * (height - rows + 1)), int(across * (width - columns + 1))
            return Box(top, left, rows, columns)
    return NOTHING


def erase(images: Tensor, draws: Erasing, *, prob: float) -> Tensor:
    """Replace a rectangle of some images by standard normal noise.

    Args:
        images: float, (n, C, H, W), normalised.
        draws: what is random, on the CPU.
        prob: share of the images that are erased.

    Returns:
        New images, same shape, dtype and device. The noise of an image depends on its own draws
        alone, and on the device in the last bit at most.
    """
    images = images.clone()
    _, channels, height, width = images.shape
    boxes = [erase_box(height, width, uniforms, prob=prob) for uniforms in draws.uniforms]
    erased = [i for i, box in enumerate(boxes) if box.height * box.width]
    if not erased:
        return images
    most = max(box.height * box.width for box in boxes)
    here = torch.tensor(erased)
    rows, keys, sides = uploaded((here, draws.keys[here], torch.tensor(boxes)[here]), images.device)
    top, left, tall, wide = sides[:, :, None, None].unbind(1)
    y, x = (torch.arange(side, device=images.device) for side in (height, width))
    down, across = y[:, None] - top, x - left
    inside = (down >= 0) & (down < tall) & (across >= 0) & (across < wide)
    noise = normal(keys, most * channels).view(-1, most, channels).to(images.dtype)
    # A rectangle's pixels take the image's noise row after row.
    place = (down * wide + across).clamp(0, most - 1).flatten(1)[:, :, None]
    chosen = noise.gather(1, place.expand(-1, -1, channels)).movedim(1, 2)
    chosen = chosen.reshape(len(erased), channels, height, width)
    images[rows] = torch.where(inside[:, None], chosen, images[rows])
    return images
