"""ImageNet's 1,000 WordNet ids: class i of ``imagenet-1k`` is the i-th of them in sorted order.

Classes are told by these ids, never by words: two classes are called "crane". Source: the folder
names of the ILSVRC 2012 training archive; torchvision's and timm's weights have the same order.
"""

import functools
from collections.abc import Iterable, Mapping
from importlib.resources import files
from types import MappingProxyType

from robustmix.errors import IntakeError


@functools.cache
def imagenet_wnids() -> tuple[str, ...]:
    """Return the 1,000 ids in sorted order, so that the index of each is its class.

    Example:
        >>> imagenet_wnids()[:2]
        ('n01440764', 'n01443537')
    """
    text = (files("robustmix.data") / "imagenet_wnids.txt").read_text(encoding="ascii")
    return tuple(text.split())


@functools.cache
def wnid_index() -> Mapping[str, int]:
    """Return the class of each id.

    Example:
        >>> wnid_index()["n15075141"]
        999
    """
    return MappingProxyType({wnid: index for index, wnid in enumerate(imagenet_wnids())})


def classes_of_wnids(wnids: Iterable[str]) -> tuple[int, ...]:
    """Return the classes of some ids among the 1,000, in the order given: for sets of a part.

    Raises:
        IntakeError: one is no class of ImageNet-1k (``E-DATA``).

    Example:
        >>> classes_of_wnids(["n15075141", "n01440764"])
        (999, 0)
    """
    index, wanted = wnid_index(), list(wnids)
    foreign = [wnid for wnid in wanted if wnid not in index]
    if foreign:
        raise IntakeError(
            f"{foreign[0]!r:.40} is none of the 1,000 WordNet ids of ImageNet-1k "
            f"({len(foreign)} of {len(wanted)} are not)",
            "check that it is a set of ImageNet classes with one folder a WordNet id",
            code="E-DATA",
        )
    return tuple(index[wnid] for wnid in wanted)
