"""Which class is which: the order of class folders whose names are numbers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustmix.data.images import ImageSet


def are_numbers(names: Sequence[str]) -> bool:
    """Say whether all names are different whole numbers, written in decimal digits.

    Example:
        >>> are_numbers(["0", "10", "2"]), are_numbers(["1", "01"]), are_numbers(["0", "ant"])
        (True, False, False)
    """
    if not all(name.isascii() and name.isdecimal() and len(name) < 20 for name in names):
        return False
    return len({int(name) for name in names}) == len(names)


def in_class_order(names: Sequence[str]) -> list[str]:
    """Return class folders in their order: numbers by value, other names as text.

    Example:
        >>> in_class_order(["10", "9", "0"]), in_class_order(["b10", "b9"])
        (['0', '9', '10'], ['b10', 'b9'])
    """
    return sorted(names, key=int) if are_numbers(names) else sorted(names)


def order_note(classes: Sequence[str]) -> str | None:
    """Say where the order of the classes is not that of their names as text."""
    by_name = sorted(classes)
    if list(classes) == by_name:
        return None
    at = next(
        i for i, (one, other) in enumerate(zip(classes, by_name, strict=True)) if one != other
    )
    return (
        f"class folders are numbers and taken in numeric order: class {at} is '{classes[at]}', "
        f"where torchvision's ImageFolder takes '{by_name[at]}'"
    )


def in_recorded_order(images: "ImageSet", names: Sequence[str] | None) -> "ImageSet":
    """Return images with their classes in the order that a checkpoint records.

    Only numbers have two orders; whether other names are those of the model is judged elsewhere.

    Args:
        images: of a folder.
        names: of the checkpoint's classes; None where it does not say.
    """
    if names is None or list(names) == list(images.class_names):
        return images
    if not are_numbers(images.class_names) or sorted(names) != sorted(images.class_names):
        return images
    place = {name: label for label, name in enumerate(names)}
    moved = images.labels.new_tensor([place[name] for name in images.class_names])
    note = "classes are in the order that the checkpoint records, by name, not by number"
    kept = (old for old in images.notes if old != order_note(images.class_names))
    return replace(
        images, labels=moved[images.labels], class_names=tuple(names), notes=(*kept, note)
    )
