"""Images and labels as torch data sets give them, made uint8 RGB and whole numbers.

What could be meant in two ways is refused: normalised images, and arrays whose axes may be either.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustmix.errors import IntakeError
from robustmix.later import Tensor, torch

IMAGE_KEYS = ("image", "img", "images", "pixel_values")
LABEL_KEYS = ("label", "labels", "target")

_PLAIN = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
"""Pillow's modes of 8 bits and less."""


def pair_of(item: object, where: str) -> tuple[object, object]:
    """Return image and label of an item: a pair, or a mapping with usual names.

    Raises:
        IntakeError: it is something else.
    """
    if isinstance(item, Mapping):
        image = next((item[key] for key in IMAGE_KEYS if key in item), None)
        label = next((item[key] for key in LABEL_KEYS if key in item), None)
        if image is not None and label is not None:
            return image, label
        got = f"a mapping with {', '.join(sorted(map(str, item)))[:80]}"
    elif isinstance(item, tuple | list) and len(item) == 2:
        return item[0], item[1]
    else:
        length = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        got = type(item).__name__ + length
    raise bad(f"{where} is {got}", "give pairs (image, label)")


def label_of(label: object, where: str) -> int:
    """Return a label as a whole number.

    Raises:
        IntakeError: it is none, or negative.
    """
    if isinstance(label, Tensor | np.ndarray | np.generic):
        if label.ndim or "int" not in str(label.dtype):
            shape = f"{label.dtype}{list(label.shape)}"
            hint = "not one-hot vectors" if label.ndim else "whole numbers: labels.long()"
            raise bad(f"the label of {where} is {shape}", f"give class indices, {hint}")
        label = int(label)
    if type(label) is not int:
        raise bad(f"the label of {where} is {label!r:.40}", "give class indices, whole numbers")
    if label < 0:
        raise bad(f"the label of {where} is {label}", "leave out images without a label")
    return label


def pixels_of(image: object, where: str) -> NDArray[np.uint8]:
    """Return an image as uint8 (H, W, 3).

    Pillow's images, whatever their mode of 8 bits; tensors uint8, or float in [0, 1], of shape
    (3, H, W) or (1, H, W), floats rounded to 8 bits; numpy arrays uint8 of shape (H, W, 3),
    (H, W, 1) or (H, W), R, G, B.

    Raises:
        IntakeError: it is something else, normalised for example.
    """
    if isinstance(image, Image.Image):
        if image.mode not in _PLAIN:
            raise bad(
                f"{where} has Pillow's mode {image.mode}", "convert it to RGB in the data set"
            )
        if isinstance(image.info.get("transparency"), bytes):
            image = image.convert("RGBA")
        return np.asarray(image.convert("RGB"))
    if isinstance(image, Tensor):
        return _of_tensor(image, where)
    if isinstance(image, np.ndarray):
        return _of_array(image, where)
    raise bad(f"{where} is a {type(image).__name__}", "give a Pillow image, a tensor or an array")


def _of_tensor(image: Tensor, where: str) -> NDArray[np.uint8]:
    image = image.detach().cpu()
    if image.ndim != 3 or image.shape[0] not in (1, 3) or not image.numel():
        raise bad(f"{where} is a tensor {list(image.shape)}", "give (3, H, W) or (1, H, W)")
    if image.dtype != torch.uint8:
        image = quantised(image, where)
    return np.ascontiguousarray(image.expand(3, -1, -1).permute(1, 2, 0).numpy())


def quantised(image: Tensor, where: str) -> Tensor:
    """Return float images in [0, 1] as uint8, rounded.

    Raises:
        IntakeError: they are of another type or range.
    """
    if not image.is_floating_point():
        raise bad(f"{where} is of {image.dtype}", "give uint8, or float in [0, 1]")
    low, high = image.min().item(), image.max().item()
    if not 0 <= low <= high <= 1:  # NaN is not either
        if low >= 0 and 1 < high <= 255:
            hint = "divide by 255, or give uint8"
        else:
            hint = (
                "take Normalize out of the data set's transform and give its mean and std with the "
                "model (--mean and --std, or load_model(..., mean=, std=))"
            )
        raise bad(f"{where} has values from {low:.3g} to {high:.3g}, not in [0, 1]", hint)
    return (image.double() * 255).round().to(torch.uint8)


def _of_array(image: NDArray[np.generic], where: str) -> NDArray[np.uint8]:
    shape = image.shape if image.ndim == 3 else (*image.shape, 1)
    if image.ndim not in (2, 3) or shape[2] not in (1, 3) or not image.size:
        first = image.ndim == 3 and shape[0] in (1, 3)
        hint = "give a tensor for channels first" if first else "give (H, W, 3), R, G, B"
        raise bad(f"{where} is an array {list(image.shape)}", hint)
    if image.dtype != np.uint8:
        raise bad(f"{where} is an array of {image.dtype}", "give uint8, or a tensor in [0, 1]")
    return np.ascontiguousarray(np.broadcast_to(image.reshape(shape), (*shape[:2], 3)))


def names_of(data: object) -> tuple[str, ...] | None:
    """Return the class names that a torch data set has as ``classes``; None without them."""
    while not hasattr(data, "classes") and hasattr(data, "dataset"):
        data = data.dataset  # of a Subset
    names = getattr(data, "classes", None)
    if not isinstance(names, Sequence) or isinstance(names, str) or not names:
        return None
    return tuple(map(str, names))


def bad(what: str, hint: str) -> IntakeError:
    """Make the error for what a data set gives."""
    return IntakeError(what, hint, code="E-DATA")
