"""How widely used collections name the tensors of networks that are built here under other names.

A network is told from its twin by its tensors, not by what they are called. So names are translated
only where a file has not one place with the architecture's own, and what then loads must fit it to
the last tensor.
"""

import re
from collections.abc import Iterable
from dataclasses import replace

from torch import Tensor

from robustmix.models.layouts import Dialect, Place

_LAYERS = {0: "conv1", 1: "bn1", 3: "conv2", 4: "bn2", 6: "conv3", 7: "bn3"}
"""Places in a sequence that has activations between."""

DIALECTS = (
    Dialect(
        name="pytorch-cifar100",
        marks=("conv2_x.0.residual_function.0.weight", "fc.weight"),
        rules=(
            (r"conv1\.0\.", "conv1."),
            (r"conv1\.1\.", "bn1."),
            *((rf"conv{stage + 1}_x\.", f"layer{stage}.") for stage in (1, 2, 3, 4)),
            *((rf"residual_function\.{at}\.", f"{name}.") for at, name in _LAYERS.items()),
            (r"shortcut\.", "downsample."),
        ),
        norm="--norm-preset cifar100",
    ),
    Dialect(
        name="pytorch-cifar",
        marks=("layer1.0.conv1.weight", "layer4.0.conv1.weight", "linear.weight"),
        rules=((r"shortcut\.", "downsample."), (r"linear\.", "fc.")),
        norm="--norm-preset openmixup-cifar",
    ),
    Dialect(
        name="pytorch_resnet_cifar10",
        marks=("layer1.0.conv1.weight", "linear.weight"),
        rules=((r"shortcut\.", "downsample."), (r"linear\.", "fc.")),
        norm="--norm-preset imagenet",
    ),
    Dialect(
        name="TRADES",
        marks=("block1.layer.0.conv1.weight", "sub_block1.layer.0.conv1.weight"),
        unused=r"sub_block1\.",
        norm="--norm-preset none",
    ),
)
"""The more particular first: the first whose marks are there is the one."""


def dialect_of(names: Iterable[str]) -> Dialect | None:
    """Return the collection whose names these are, whatever stands before them; None if none's.

    Example:
        >>> found = dialect_of(["module.layer1.0.conv1.weight", "module.linear.weight"])
        >>> found.name, found.norm
        ('pytorch_resnet_cifar10', '--norm-preset imagenet')
    """
    known = [*names]
    for dialect in DIALECTS:
        if all(any(_ends(name, mark) for name in known) for mark in dialect.marks):
            return dialect
    return None


def _ends(name: str, mark: str) -> bool:
    return name == mark or name.endswith(f".{mark}")


def spelled(place: Place) -> Place:
    """Return a place in the names that architectures have here; the same one if it has them."""
    dialect = dialect_of(place.state)
    if dialect is None:
        return place
    used = {
        key: tensor
        for key, tensor in place.state.items()
        if not dialect.unused or not re.search(rf"(?:^|\.){dialect.unused}", key)
    }
    state: dict[str, Tensor] = {_translated(key, dialect): used[key] for key in used}
    # Two names that become one are of no network of that collection.
    return replace(place, state=state, dialect=dialect) if len(state) == len(used) else place


def _translated(key: str, dialect: Dialect) -> str:
    for pattern, name in dialect.rules:
        key = re.sub(rf"(^|\.){pattern}", rf"\g<1>{name}", key)
    return key
