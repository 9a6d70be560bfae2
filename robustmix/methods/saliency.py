"""Fine-grained static saliency: how much a pixel differs from its surroundings, at six scales.

Montabone and Soto 2010 ("Human detection using a mobile platform and novel features derived from a
visual saliency mechanism", Image and Vision Computing 28), with the constants, the order of
operations and the truncations of OpenCV-contrib's ``StaticSaliencyFineGrained``, which SaliencyMix
uses. A whole batch at once, on its own device.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

REACHES = (12, 24, 48, 28, 56, 112)
"""A surround goes this many pixels, less one, to the left and up, and this many to the right and
down; clipped to the image."""

CACHED = 2**17
"""Pixels that a CPU works on at once, lest its caches overflow; two to three times as fast."""

_GREY = (9798, 19235, 3735)  # 2^15 times Rec. 601's weights of red, green and blue
_FLOAT_GREY: tuple[float, ...] = tuple(
    torch.tensor([0.114, 0.587, 0.299]).tolist()
)  # of red, green, blue: float32


def fine_grained_saliency(images: Tensor) -> Tensor:
    """Return the saliency of images of whole grey levels.

    Args:
        images: uint8 (N, 3, H, W) in RGB, sides of at least 2 pixels.

    Returns:
        uint8 (N, H, W); each map's largest value is 255 unless the image is flat (all 0).
    """
    at_once = max(CACHED // images[0, 0].numel(), 1) if images.device.type == "cpu" else len(images)
    return torch.cat([_of_levels(some) for some in torch.split(images, at_once)])


def _of_levels(images: Tensor) -> Tensor:
    red, green, blue = images.int().unbind(1)
    grey = (red * _GREY[0] + green * _GREY[1] + blue * _GREY[2] + 2**14) >> 15
    for _ in range(2):
        grey = _smooth_levels(grey)
    return _combine(grey.int(), grey.float(), wrap=False)


def float_bytes_saliency(images: Tensor) -> Tensor:
    """Return what OpenCV returns when it is given float32 images, as SaliencyMix's code gives it.

    OpenCV reads the grey image as bytes wherever it wants the value of a single pixel. Of a float32
    image that makes the centre of pixel (y, x) the x-th byte of row y: one byte of the float at
    column x // 4. The map then has little to do with what the image shows.

    Args:
        images: float32 (N, 3, H, W), sides of at least 2 pixels, on a little-endian machine.

    Returns:
        uint8 (N, H, W).
    """
    grey = _float_grey(images)
    for _ in range(2):
        grey = _smooth(grey)
    width = grey.shape[2]
    raw = grey.contiguous().view(torch.uint8)[:, :, :width]
    return _combine(grey.double(), raw.float(), wrap=True)


def peaks(maps: Tensor) -> Tensor:
    """Return row and column of the first largest value of each map, int64 (N, 2)."""
    place = maps.flatten(1).to(torch.int64).argmax(dim=1)
    return torch.stack([place // maps.shape[2], place % maps.shape[2]], dim=1)


def _combine(grey: Tensor, centre: Tensor, *, wrap: bool) -> Tensor:
    """Add up centre minus surround and surround minus centre over all scales, and scale both.

    Args:
        grey: what surrounds are averaged over, (N, H, W); int32 levels, or float64.
        centre: what stands at their centre, float32 (N, H, W) of whole numbers.
        wrap: let values above 255 begin at 0 again, as in C.
    """
    _, height, width = grey.shape
    sums = F.pad(grey.cumsum(1, dtype=grey.dtype).cumsum(2, dtype=grey.dtype), (1, 0, 1, 0))
    on, both = torch.zeros_like(centre), torch.zeros_like(centre)
    for reach in REACHES:
        top, bottom = _surround(height, reach, grey.device)
        left, right = _surround(width, reach, grey.device)
        rows = sums.index_select(1, bottom).sub_(sums.index_select(1, top))
        total = rows.index_select(2, right).sub_(rows.index_select(2, left))
        others = ((bottom - top)[:, None] * (right - left) - 1).clamp_min(1)
        surround = (total - centre).div_(others).float()
        contrast = (centre - surround).trunc_()
        if wrap:  # differences of grey levels are below 256
            contrast.fmod_(256)
        both += contrast.abs()
        on += contrast.clamp_min_(0)
    on, off = _to_byte_range(on, wrap), _to_byte_range(both - on, wrap)
    largest = torch.maximum(on.amax((1, 2)), off.amax((1, 2)))[:, None, None]
    scaled = 255 * (on + off).double() / largest.clamp_min(1)
    return _byte(scaled, wrap).to(torch.uint8)


def _surround(size: int, reach: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the first row of each row's surround, and the first one after it."""
    places = torch.arange(size, device=device)
    return (places - reach + 1).clamp(0, size), (places + reach + 1).clamp(0, size)


def _to_byte_range(values: Tensor, wrap: bool) -> Tensor:
    """Scale every map so that its largest value is 255."""
    largest = values.amax(dim=(1, 2), keepdim=True).clamp_min(1)
    share = (values.float() / largest.float()).double()
    return _byte(255 * share, wrap)


def _byte(values: Tensor, wrap: bool) -> Tensor:
    """Cut off what is behind the point, then keep a byte or stop at 255; float64."""
    whole = values.double().trunc()
    return whole.remainder(256) if wrap else whole.clamp(0, 255)


def _float_grey(images: Tensor) -> Tensor:
    """Return the grey image, float32 (N, H, W), as OpenCV's fused additions round it.

    It takes RGB for BGR, so red has the weight of blue.
    """
    first, second, third = _FLOAT_GREY
    a, b, c = images.double().unbind(1)  # a product of two floats is exact in float64
    total = (b * second).float()
    total = (a * first + total).float()
    return (c * third + total).float()


def _smooth(grey: Tensor) -> Tensor:
    """Weigh every pixel 1 : 2 : 1 with its neighbours, along rows, then along columns."""
    padded = F.pad(grey[:, None], (1, 1, 1, 1), mode="reflect")[:, 0]
    rows = padded[:, :, 1:-1] * 0.5 + (padded[:, :, :-2] + padded[:, :, 2:]) * 0.25
    return rows[:, 1:-1] * 0.5 + (rows[:, :-2] + rows[:, 2:]) * 0.25


def _smooth_levels(grey: Tensor) -> Tensor:
    """Smooth whole grey levels and round to whole ones, int32 (N, H, W)."""
    # Sixteenths of a level are exact in float32.
    return (_smooth(grey.float()) + 0.5).int()
