"""Images as people hold them (NumPy arrays, PIL images, floats) as uint8 tensors, and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from robustmix.errors import UsageError
from robustmix.later import Image, Tensor, torch

Back = Callable[[Tensor], Any]
"""Gives a batch (N, 3, H, W) of uint8 the form of what it was made from."""


def as_batch(images: object) -> tuple[Tensor, Back]:
    """Turn an image, or images of one size, into a batch.

    Args:
        images: uint8 or floats in [0, 1]: a tensor (3, H, W) or (N, 3, H, W), or a NumPy array
            (H, W, 3) or (N, H, W, 3); or a PIL image, of which transparency and palettes are left
            behind. Floats are rounded to the nearest of the 256 levels.

    Returns:
        uint8 (N, 3, H, W), and what turns such a batch into the form given: floats for floats, one
        image for one.

    Raises:
        UsageError: it is nothing of this.
    """
    if isinstance(images, Tensor):
        return _of_tensor(images)
    if isinstance(images, np.ndarray):
        return _of_array(images)
    if isinstance(images, Image.Image):
        batch, back = _of_array(np.asarray(images.convert("RGB")))
        return batch, lambda changed: Image.fromarray(back(changed))
    raise UsageError(
        "expected images as a tensor, a NumPy array, a PIL image or a list of these, "
        f"got {type(images).__name__}"
    )


def _of_tensor(images: Tensor) -> tuple[Tensor, Back]:
    if images.dtype.is_floating_point:
        batch, back = _of_tensor(_levels(images))
        return batch, lambda changed: back(changed).to(images.dtype) / 255
    if images.dtype != torch.uint8:
        raise UsageError(f"expected images of type uint8, or floats in [0, 1], got {images.dtype}")
    if images.ndim == 3 and images.shape[0] == 3:
        return images[None], lambda changed: changed[0]
    return images, lambda changed: changed


def _levels(images: Tensor) -> Tensor:
    """Round pixels in [0, 1] to levels 0 to 255."""
    low, high = (float(end) for end in images.aminmax()) if images.numel() else (0.0, 1.0)
    if not (low >= 0 and high <= 1):  # also for NaN
        raise UsageError(f"expected floats in [0, 1], got {low:.4g} to {high:.4g}")
    return (images * 255).round().to(torch.uint8)


def _of_array(images: npt.NDArray[Any]) -> tuple[Tensor, Back]:
    if images.ndim not in (3, 4) or images.shape[-1] != 3:
        raise UsageError(
            "expected a NumPy array of shape (H, W, 3) or (N, H, W, 3), the colours last, "
            f"got {images.shape}"
        )
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise UsageError(f"expected images of type uint8, or floats in [0, 1], got {images.dtype}")
    # A copy: no tensor is made of arrays that are read-only or strided backwards.
    tensor = torch.from_numpy(np.array(images.astype(images.dtype.newbyteorder("="))))
    batch, back = _of_tensor(tensor.movedim(-1, -3))
    return batch, lambda changed: np.ascontiguousarray(back(changed).movedim(-3, -1).numpy())
