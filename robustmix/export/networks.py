"""Which network of timm's a model is, found by building it and comparing logits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from robustmix.models.names import ARCHS, split_stem
from robustmix.models.recorded import OPTIONS
from robustmix.models.robust_model import RobustModel

TOLERANCE = 1e-6
"""Most that logits may differ, over the largest of them: the same weights in the same network."""


@dataclass(frozen=True, kw_only=True)
class TimmNetwork:
    """A network of timm's that gives a model's logits."""

    name: str
    args: Mapping[str, JsonValue]
    """What timm's factory is told beside the number of classes."""

    net: nn.Module
    difference: float
    """Of its logits, over the largest of them."""


def timm_network(robust: RobustModel) -> TimmNetwork | None:
    """Find the network of timm's with the tensors and the logits of a model, None for none."""
    import timm

    state = robust.net.state_dict()
    for name, args in _candidates(robust):
        if not timm.is_model(name):
            continue
        try:
            made = cast(
                nn.Module, timm.create_model(name, num_classes=robust.num_classes, **_told(args))
            )
            made.load_state_dict(state)
            difference = difference_of(robust, made.eval())
        except (AssertionError, RuntimeError, TypeError, ValueError):
            continue  # other tensors, no such argument, or another size
        if difference <= TOLERANCE:
            return TimmNetwork(name=name, args=args, net=made, difference=difference)
    return None


def _told(args: Mapping[str, JsonValue]) -> dict[str, Any]:
    # A list is what JSON has; timm wants the size as a tuple.
    return {key: tuple(v) if isinstance(v, list) else v for key, v in args.items()}


def _candidates(robust: RobustModel) -> Iterator[tuple[str, dict[str, JsonValue]]]:
    """Yield names and arguments that may be meant."""
    arch, size = robust.info.arch, list(robust.input_size[1:])
    bare = split_stem(arch)[0]
    name = arch.partition(":")[2]
    if not name:
        row = ARCHS.row(bare) if bare in ARCHS else None
        own = None if row is None or row.built_by != "timm" else row.options.get("name")
        name = bare if own is None else str(own)
    chosen = robust.info.arch_options
    args: dict[str, JsonValue] = {key: chosen[key] for key in OPTIONS if key in chosen}
    yield name, args
    yield name, {**args, "img_size": cast(list[JsonValue], size)}


def difference_of(robust: RobustModel, other: nn.Module) -> float:
    """Give the largest difference of logits over the largest of them, on random images."""
    images = torch.randn(3, *robust.input_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours: Tensor = robust.net(images)
        theirs: Tensor = other(images)
    if ours.shape != theirs.shape:
        raise ValueError("the logits have another shape")
    return float((ours - theirs).abs().max() / ours.abs().max().clamp(min=1e-30))
