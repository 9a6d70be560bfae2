"""Guess a built-in architecture from the shapes in a state dict; only ever to suggest it."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from torch import Tensor

from robustmix.models.names import ARCHS, Stem

State: TypeAlias = Mapping[str, Tensor]

_BLOCKS: dict[tuple[str, tuple[int, ...], int], str] = {
    ("basic", (1, 1, 1), 1): "resnet8",
    ("basic", (3, 3, 3), 1): "resnet20",
    ("basic", (5, 5, 5), 1): "resnet32",
    ("basic", (7, 7, 7), 1): "resnet44",
    ("basic", (9, 9, 9), 1): "resnet56",
    ("basic", (18, 18, 18), 1): "resnet110",
    ("basic", (2, 2, 2, 2), 1): "resnet18",
    ("basic", (3, 4, 6, 3), 1): "resnet34",
    ("bottleneck", (3, 4, 6, 3), 1): "resnet50",
    ("bottleneck", (3, 4, 6, 3), 32): "resnext50_32x4d",
    ("bottleneck", (3, 4, 23, 3), 1): "resnet101",
    ("bottleneck", (3, 4, 23, 3), 32): "resnext101_32x4d",
}
_LIBRARY: dict[tuple[str, tuple[int, ...], int], str] = {
    ("bottleneck", (3, 8, 36, 3), 1): "torchvision:resnet152",
    ("bottleneck", (3, 4, 23, 3), 32): "torchvision:resnext101_32x8d",
}
_FIRST_STAGE = {
    **dict.fromkeys(("resnet8", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"), 16),
    **dict.fromkeys(("resnext50_32x4d", "resnext101_32x4d"), 128),
}
"""Channels of the first convolution of the first stage; 64 where nothing is said."""

_WIDE: dict[tuple[int, int, bool], str] = {
    (4, 128, True): "wrn28_8",
    (4, 160, False): "wrn28_10",
    (5, 160, False): "wrn34_10",
    (5, 320, False): "wrn34_20",
    (6, 32, False): "wrn40_2",
    (11, 256, False): "wrn70_16",
}
"""Blocks a stage, channels of the first, and whether convolutions have a bias."""

_TIMM: dict[str, tuple[dict[str, tuple[int, ...]], str, tuple[int, ...]]] = {
    "convnext_tiny": (
        {"stages.0.blocks.0.conv_dw.weight": (96, 1, 7, 7)},
        "stages.{}.blocks.",
        (3, 3, 9, 3),
    ),
    "swin_tiny": (
        {"layers.0.blocks.0.attn.relative_position_bias_table": (169, 3), "norm.weight": (768,)},
        "layers.{}.blocks.",
        (2, 2, 6, 2),
    ),
    "deit_small": (
        {"cls_token": (1, 1, 384), "patch_embed.proj.weight": (384, 3, 16, 16)},
        "blocks.",
        (12,),
    ),
    "mobilenetv2": (
        {"conv_head.weight": (1280, 320, 1, 1), "blocks.0.0.conv_dw.weight": (32, 1, 3, 3)},
        "blocks.{}.",
        (1, 2, 3, 4, 3, 3, 1),
    ),
    "efficientnet_b0": (
        {"conv_head.weight": (1280, 320, 1, 1), "blocks.0.0.se.conv_reduce.weight": (8, 32, 1, 1)},
        "blocks.{}.",
        (1, 2, 2, 3, 3, 4, 1),
    ),
}
"""Name -> shapes of some tensors, prefix of the blocks, blocks of each stage."""

MOST_STAGES = 12
"""Stages that are counted; no architecture here has as many."""

_HEADS = ("fc", "head.fc", "heads.head", "head", "linear", "last_linear")


_FIRST = (
    "block1.layer.0.conv1.weight",
    "layer1.0.conv1.weight",
    *(name for shapes, _, _ in _TIMM.values() for name in shapes),
)
"""Names of which every architecture that can be suggested has one."""


def suggest_below(state: Mapping[str, Tensor], prefixes: Iterable[str]) -> tuple[str, State] | None:
    """Return the name to pass as ``--arch`` and the tensors below the prefix that it is seen at."""
    for prefix in prefixes:
        if any(prefix + name in state for name in _FIRST):
            below = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            guess = suggest_arch(below)
            if guess is not None:
                return guess, below
    return None


def suggest_arch(state: Mapping[str, Tensor]) -> str | None:
    """Return the name to pass as ``--arch``, stem included, or None if nothing fits."""
    if "block1.layer.0.conv1.weight" in state:
        return _wide_resnet(state)
    for name, (shapes, prefix, depths) in _TIMM.items():
        fits = all(k in state and state[k].shape == shape for k, shape in shapes.items())
        if fits and _blocks(state, prefix, start=0) == depths:
            stem = stem_of(state)
            return f"{name}-{stem}" if ARCHS.row(name).stems and stem else name
    return _resnet(state)


def _resnet(state: Mapping[str, Tensor]) -> str | None:
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
        optional = f"{name}_b" in ARCHS and "layer2.0.downsample.0.weight" in state
        return f"{name}_b-{stem}" if optional else f"{name}-{stem}"
    return _LIBRARY.get(shape) if stem == "imagenet" else None


def stem_of(state: Mapping[str, Tensor]) -> Stem | None:
    """Return the stem that the first convolution belongs to, None if to neither."""
    first = state.get("conv1.weight", state.get("stem.0.weight"))
    if first is None or first.ndim != 4:
        return None
    stems: dict[tuple[int, ...], Stem] = {
        (3, 3, 3): "cifar",
        (3, 7, 7): "imagenet",
        (3, 4, 4): "imagenet",
    }
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
    found = {
        int(m[1]) for m in (re.match(rf"{module}\.(\d{{1,4}})\.weight$", k) for k in state) if m
    }
    return [f"{module}.{i}" for i in sorted(found, reverse=True)]


def _blocks(state: Iterable[str], stage: str, *, start: int = 1) -> tuple[int, ...]:
    """Return how many blocks each stage has; ``stage`` is its prefix with room for the number."""
    keys = [*state]
    depths: list[int] = []
    while len(depths) < MOST_STAGES:
        prefix = re.escape(stage.format(len(depths) + start))
        blocks = {int(m[1]) for m in (re.match(rf"{prefix}(\d{{1,4}})\.", k) for k in keys) if m}
        if not blocks:
            return tuple(depths)
        depths.append(len(blocks))
        if "{}" not in stage:
            break
    return tuple(depths)


def _wide_resnet(state: Mapping[str, Tensor]) -> str | None:
    depths = _blocks(state, "block{}.layer.")
    if len(depths) != 3 or len({*depths}) > 1:
        return None
    first = state["block1.layer.0.conv1.weight"]
    width = len(first) if first.ndim else 0
    return _WIDE.get((depths[0], width, "block1.layer.0.conv1.bias" in state))
