"""The hexcone colour space, with ties and grey pixels settled as in the benchmark."""

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
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    grey = chroma == 0
    divisor = chroma.masked_fill(grey, 1)
    sextant = (green - blue) / divisor
    sextant = torch.where(green == value, 2 + (blue - red) / divisor, sextant)
    sextant = torch.where(blue == value, 4 + (red - green) / divisor, sextant)
    # Between -1/6 and 5/6, so that one turn is enough.
    turns = sextant.div_(6)
    hue = torch.where(turns < 0, turns + 1, turns).masked_fill_(grey, 0)
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
    # Rounding may end the circle at its beginning.
    at = [(sextant == i) if i else (sextant == 0) | (sextant == 6) for i in range(6)]
    red = torch.where(at[1], falling, torch.where(at[4], rising, low))
    red = torch.where(at[0] | at[5], value, red)
    green = torch.where(at[3], falling, torch.where(at[0], rising, low))
    green = torch.where(at[1] | at[2], value, green)
    blue = torch.where(at[5], falling, torch.where(at[2], rising, low))
    blue = torch.where(at[3] | at[4], value, blue)
    return torch.stack([red, green, blue], dim=1)
