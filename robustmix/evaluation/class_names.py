"""Whether images have the classes that a model was trained on, by their names."""

import itertools
import re
from collections.abc import Sequence

from robustmix.data.images import ImageSet
from robustmix.errors import IntakeError
from robustmix.models.robust_model import RobustModel


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


def _spelled(names: Sequence[str]) -> list[str]:
    """Make names alike that differ in case and in the signs between words, where that is safe."""
    loose = [re.sub(r"[\W_]+", "_", name).casefold() for name in names]
    return loose if len(set(loose)) == len(loose) else list(names)


def _shown(names: Sequence[str], at: int) -> str:
    return repr(names[at][:80]) if at < len(names) else "missing"
