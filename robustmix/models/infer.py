"""Guess a built-in architecture from the shapes in a state dict; only ever to suggest it."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from robustmix.models.names import Stem

_BLOCKS: dict[tuple[str, tuple[int, ...], int], str] = {
    ("basic", (1, 1, 1), 1): "resnet8",
    ("basic", (2, 2, 2, 2), 1): "resnet18",
    ("basic", (3, 4, 6, 3), 1): "resnet34",
    ("bottleneck", (3, 4, 6, 3), 1): "resnet50",
    ("bottleneck", (3, 4, 6, 3), 32): "resnext50_32x4d",
}
_LIBRARY: dict[tuple[str, tuple[int, ...], int], str] = {
    ("bottleneck", (3, 4, 23, 3), 1): "torchvision:resnet101",
    ("bottleneck", (3, 8, 36, 3), 1): "torchvision:resnet152",
    ("bottleneck", (3, 4, 23, 3), 32): "torchvision:resnext101_32x8d",
}
_FIRST_STAGE = {"resnet8": 16, "resnext50_32x4d": 128}

_HEADS = ("fc", "head.fc", "heads.head", "head", "linear", "last_linear")


def suggest_arch(state: Mapping[str, Tensor]) -> str | None:
    """Return the name to pass as ``--arch``, stem included, or None if nothing fits."""
    if "block1.layer.0.conv1.weight" in state:
        return _wide_resnet(state)
    first = state.get("layer1.0.conv1.weight")
    stem = stem_of(state)
    if first is None or first.ndim != 4 or stem is None:
        return None
    kind, groups = "basic", 1
    if "layer1.0.conv3.weight" in state:
        kind = "bottleneck"
        middle = state.get("layer1.0.conv2.weight")
        if middle is None or middle.ndim != 4 or not middle.shape[1]:
            return None
        groups = middle.shape[0] // middle.shape[1]
    shape = (kind, _blocks(state, "layer{}."), groups)
    name = _BLOCKS.get(shape)
    if name is not None and len(first) == _FIRST_STAGE.get(name, 64):
        return f"{name}-{stem}"
    return _LIBRARY.get(shape) if stem == "imagenet" else None


def stem_of(state: Mapping[str, Tensor]) -> Stem | None:
    """Return the stem that the first convolution belongs to, None if to neither."""
    first = state.get("conv1.weight")
    if first is None or first.ndim != 4:
        return None
    stems: dict[tuple[int, ...], Stem] = {(3, 3, 3): "cifar", (3, 7, 7): "imagenet"}
    return stems.get(tuple(first.shape[1:]))


def head_of(state: Mapping[str, Tensor]) -> tuple[str, int] | None:
    """Return the name of the classifier's linear layer and its outputs, None if unclear."""
    for name in (*_HEADS, *_numbered(state, "classifier"), "classifier"):
        weight = state.get(f"{name}.weight")
        if weight is not None and weight.ndim == 2:
            return name, len(weight)
    return None


def _numbered(state: Iterable[str], module: str) -> list[str]:
    """Return ``module.0``, ``module.1`` ... as far as they have weights, the last one first."""
    found = {int(m[1]) for m in (re.match(rf"{module}\.(\d+)\.weight$", k) for k in state) if m}
    return [f"{module}.{i}" for i in sorted(found, reverse=True)]


def _blocks(state: Iterable[str], stage: str) -> tuple[int, ...]:
    """Return how many blocks each stage has; ``stage`` is its prefix with room for the number."""
    keys = [*state]
    depths: list[int] = []
    while True:
        prefix = re.escape(stage.format(len(depths) + 1))
        blocks = {int(m[1]) for m in (re.match(rf"{prefix}(\d+)\.", k) for k in keys) if m}
        if not blocks:
            return tuple(depths)
        depths.append(len(blocks))


def _wide_resnet(state: Mapping[str, Tensor]) -> str | None:
    first = state["block1.layer.0.conv1.weight"]
    fits = _blocks(state, "block{}.layer.") == (4, 4, 4) and len(first) == 128
    return "wrn28_8" if fits else None
