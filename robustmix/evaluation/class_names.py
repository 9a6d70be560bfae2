"""Whether images have the classes that a model was trained on, by their names."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

from robustmix.data.images import ImageSet
from robustmix.data.wnids import classes_of_wnids, imagenet_wnids
from robustmix.errors import IntakeError
from robustmix.later import RobustModel, torch


def check_class_names(robust: RobustModel, images: ImageSet) -> None:
    """Refuse images of other classes, or in another order, than the checkpoint records.

    A class map says which output is which label, so that nothing is left to compare.

    Raises:
        IntakeError: they are (``E-CLASS-NAMES``); the first that differs is named.
    """
    names, others = robust.info.class_names, images.class_names
    if names is None or robust.info.class_map_sha256 is not None:
        return
    known, found = _spelled(names), _spelled(others)
    if known == found:
        return
    pairs = enumerate(itertools.zip_longest(known, found))
    at = next(i for i, (one, other) in pairs if one != other)
    what = "in the order" if sorted(known) == sorted(found) else "those"
    raise IntakeError(
        f"the classes of {images.name} are not {what} of the model: class {at} is "
        f"{_shown(others, at)}, the model's is {_shown(names, at)}",
        "give the data the model was trained on, or a --class-map",
        code="E-CLASS-NAMES",
    )


def among_imagenet(robust: RobustModel, images: ImageSet) -> ImageSet:
    """Return images of some of ImageNet's classes with their places among the 1,000 as labels.

    A folder whose class folders are WordNet ids of ImageNet-1k, and not all of them, would be
    labelled by the order of its folders; a model of 1,000 outputs knows the ids by their places.

    Args:
        robust: the model. With other outputs, a class map or class names that are no ids of
            ImageNet, the images stay as they are.
        images: of a folder.
    """
    wnids = imagenet_wnids()
    names = robust.info.class_names
    if (
        robust.num_classes != len(wnids)
        or images.num_classes >= len(wnids)
        or robust.info.class_map_sha256 is not None
        or (names is not None and tuple(names) != wnids)
        or not set(images.class_names) <= set(wnids)
    ):
        return images
    places = torch.tensor(classes_of_wnids(images.class_names))
    note = (
        f"labels are places among ImageNet's {len(wnids):,} WordNet ids, "
        f"of which {images.num_classes} have a folder"
    )
    return replace(
        images,
        labels=places[images.labels],
        class_names=wnids,
        notes=(*images.notes, note),
    )


def _spelled(names: Sequence[str]) -> list[str]:
    """Make names alike that differ in case and in the signs between words, where that is safe."""
    loose = [re.sub(r"[\W_]+", "_", name).casefold() for name in names]
    return loose if len(set(loose)) == len(loose) else list(names)


def _shown(names: Sequence[str], at: int) -> str:
    return repr(names[at][:80]) if at < len(names) else "missing"
