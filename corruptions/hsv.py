"""The hexcone colour space, with ties and grey pixels settled as in the benchmark."""

import functools
from typing import NamedTuple

import torch
from torch import Tensor


class Hsv(NamedTuple):
    """Hue in [0, 1), saturation and value in [0, 1], each (N, H, W)."""

    hue: Tensor
    saturation: Tensor
    value: Tensor


def rgb_to_hsv(images: Tensor) -> Hsv:
    """Return the hue, saturation and value of images (N, 3, H, W) in [0, 1].

    Where channels tie for the maximum, blue goes before green and green before red. Grey has hue
    and saturation 0.

    Reference:
        Smith 1978, "Color gamut transform pairs".
    """
    red, green, blue = images.unbind(1)
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    grey = chroma == 0
    divisor = chroma.masked_fill(grey, 1)
    sextant = (green - blue) / divisor
    sextant = torch.where(green == value, 2 + (blue - red) / divisor, sextant)
    sextant = torch.where(blue == value, 4 + (red - green) / divisor, sextant)
    hue = (sextant / 6).remainder(1).masked_fill(grey, 0)
    # A pixel that is not grey has a value above 0; a grey one has chroma 0, whatever divides it.
    saturation = chroma / value.masked_fill(grey, 1)
    return Hsv(hue, saturation, value)


def hsv_to_rgb(hsv: Hsv) -> Tensor:
    """Return images (N, 3, H, W) in [0, 1] from their hue, saturation and value."""
    hue, saturation, value = hsv
    sextant = (hue * 6).floor()
    fraction = hue * 6 - sextant
    low = value * (1 - saturation)
    falling = value * (1 - fraction * saturation)
    rising = value * (1 - (1 - fraction) * saturation)
    levels = torch.stack([value, falling, low, rising], dim=1)
    choice = _choices(hue.device)[:, sextant.long().remainder(6)].movedim(0, 1)
    return levels.gather(1, choice)


@functools.lru_cache(maxsize=4)
def _choices(device: torch.device) -> Tensor:
    # Which of four levels red, green and blue have in each sextant of the hue circle.
    rows = [[0, 1, 2, 2, 3, 0], [3, 0, 0, 1, 2, 2], [2, 2, 3, 0, 0, 1]]
    return torch.tensor(rows).to(device)
