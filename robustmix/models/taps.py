"""Where a mask generator looks into a classifier: one forward pass gives its map and the features.

AutoMix and AdAutoMix mix by masks that a generator makes from a map inside the network; the class
scores come from the pooled features at its end. Both are wanted of one pass. The built-in networks
and the networks of timm can be tapped.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustmix.errors import UsageError
from robustmix.models.names import ARCHS, split_stem
from robustmix.models.resnet import ResNet
from robustmix.models.wide_resnet import WideResNet

SMALLEST_MAP = 4
"""Least height and width of a map that is tapped unasked."""

Kind = Literal["built-in", "timm", "timm-swin"]


class Features(NamedTuple):
    """What one forward pass gives."""

    feat: Tensor
    """(N, C, h, w), the generator's input."""

    pooled: Tensor
    """(N, F), what the last linear layer sees."""


class _Timm(Protocol):
    """The part of timm's classifiers that a tap uses."""

    def forward_features(self, x: Tensor) -> Tensor: ...
    def forward_intermediates(
        self, x: Tensor, indices: list[int] | None
    ) -> tuple[Tensor, list[Tensor]]: ...
    def forward_head(self, x: Tensor, pre_logits: bool) -> Tensor: ...
    def get_classifier(self) -> object: ...


@dataclass(frozen=True, kw_only=True)
class Tap:
    """Where a network is tapped; holds no tensors, so it serves copies of the network too."""

    stage: int
    """Counted from 0: a stage of a convolutional network, a layer of a plain transformer."""

    channels: int
    size: tuple[int, int]
    """Height and width of the map, for the images that the tap was made for."""

    num_features: int
    """Length of the pooled features."""

    kind: Kind = "built-in"

    def __call__(self, network: nn.Module, images: Tensor) -> Features:
        """Return the map and the pooled features of normalised images (N, 3, H, W)."""
        if self.kind == "built-in":
            assert isinstance(network, ResNet | WideResNet)
            stages = network.forward_features(images)
            return Features(stages[self.stage], stages[-1].mean(dim=(2, 3)))
        if self.kind == "timm-swin":
            return _swin_pass(network, images, [self.stage])[0]
        timm = cast(_Timm, network)
        last, maps = timm.forward_intermediates(images, indices=[self.stage])
        return Features(maps[0], timm.forward_head(last, pre_logits=True))


def find_tap(
    network: nn.Module,
    input_size: tuple[int, int, int],
    *,
    arch: str = "",
    stage: int | None = None,
) -> Tap:
    """Return where the generator looks into a network.

    The network is run once or twice on one image, in eval mode and without gradients; nothing in
    it changes.

    Args:
        network: a built-in network or a classifier of timm, on any device.
        input_size: (3, H, W) of the images.
        arch: the architecture's name, if it is known.
        stage: whose map to take, from 0; the architecture's own if None. That is the last stage
            but one of the built-in networks, the sixth layer of DeiT-S, the third stage of Swin
            and ConvNeXt; for other networks of timm the middle layer if all maps are of one size,
            else the last stage but one whose map is at least 4x4.

    Raises:
        UsageError: the network cannot be tapped, or there is no such stage.

    Example:
        >>> from robustmix.models.registry import build_model
        >>> net = build_model("resnet18", num_classes=10, input_size=(3, 32, 32))
        >>> find_tap(net, (3, 32, 32), arch="resnet18").size
        (8, 8)
    """
    name = arch or type(network).__name__
    kind = _kind(network, name)
    classifier_layer(network)
    images = _probe_images(network, input_size)
    with in_eval_mode(network), torch.no_grad():
        maps, pooled = _probe(network, kind, images, name)
        if kind != "built-in":
            _check_head(network, pooled, images, name)
    chosen = _own_stage(arch, kind, maps, name) if stage is None else stage
    if not 0 <= chosen < len(maps):
        known = ", ".join(f"{i} ({_shape(m)})" for i, m in enumerate(maps))
        raise UsageError(f"{name} has no stage {chosen}", f"choose from {known}", code="E-NO-TAP")
    _, channels, height, width = maps[chosen].shape
    return Tap(
        stage=chosen,
        channels=channels,
        size=(height, width),
        num_features=pooled.shape[1],
        kind=kind,
    )


def classifier_layer(network: nn.Module) -> nn.Linear:
    """Return the last linear layer, from pooled features to logits.

    Raises:
        UsageError: the network does not end in exactly one linear layer.
    """
    layer: object = None
    if isinstance(network, ResNet | WideResNet):
        layer = network.fc
    elif hasattr(network, "get_classifier"):
        layer = cast(_Timm, network).get_classifier()
    if not isinstance(layer, nn.Linear):
        raise UsageError(
            f"{type(network).__name__} does not end in one linear layer",
            "choose another architecture",
            code="E-NO-TAP",
        )
    return layer


_RANDOM_ATTRIBUTES = ("drop_rate", "attn_drop", "proj_drop", "dropout", "attention_dropout")
"""Rates that modules of timm, torchvision and torch hand to ``F.dropout`` and its like."""


def random_forward(network: nn.Module) -> str | None:
    """Return why a train-mode forward pass is random, e.g. ``drop-path 0.1``, or None.

    The largest rate of the first kind that is found counts; a network that drops paths and
    activations is said to drop paths.
    """
    paths, units = 0.0, 0.0
    for module in network.modules():
        if isinstance(module, nn.RReLU):
            return "random leaky ReLU"
        kind = type(module).__name__
        if kind in ("DropPath", "StochasticDepth", "DropBlock2d"):
            paths = max(paths, _rate(module, "drop_prob"), _rate(module, "p"))
        elif kind.startswith("PatchDropout"):
            units = max(units, _rate(module, "prob"))
        elif isinstance(module, nn.modules.dropout._DropoutNd):
            units = max(units, module.p)
        else:
            units = max([units, *(_rate(module, name) for name in _RANDOM_ATTRIBUTES)])
    if paths > 0:
        return f"drop-path {paths:.3g}"
    return f"dropout {units:.3g}" if units > 0 else None


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Switch a module to eval mode, and every part of it back to the mode it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def _rate(module: nn.Module, name: str) -> float:
    value = vars(module).get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _kind(network: nn.Module, name: str) -> Kind:
    if isinstance(network, ResNet | WideResNet):
        return "built-in"
    if hasattr(network, "forward_intermediates") and hasattr(network, "forward_head"):
        return "timm-swin" if type(network).__name__ == "SwinTransformer" else "timm"
    hint = "use a built-in architecture or one of timm"
    if type(network).__module__.startswith("torchvision."):
        hint += ", where most of torchvision's are found under the same name"
    raise _no_tap(name, "its maps are not to be had in one pass", hint)


def _no_tap(name: str, why: str, hint: str = "use another architecture") -> UsageError:
    return UsageError(f"{name} cannot feed a mask generator: {why}", hint, code="E-NO-TAP")


def _probe_images(network: nn.Module, input_size: tuple[int, int, int]) -> Tensor:
    """Return one random image where the network is; a zero one hides what a head does."""
    parameter = next(p for p in network.parameters() if p.is_floating_point())
    images = torch.randn(1, *input_size, generator=torch.Generator().manual_seed(0))
    return images.to(parameter.device, parameter.dtype)


def _probe(
    network: nn.Module, kind: Kind, images: Tensor, name: str
) -> tuple[Sequence[Tensor], Tensor]:
    """Return the maps of all stages and the pooled features."""
    if isinstance(network, ResNet | WideResNet):
        maps: Sequence[Tensor] = network.forward_features(images)
        return maps, maps[-1].mean(dim=(2, 3))
    try:
        if kind == "timm-swin":
            stages = [*range(len([*network.get_submodule("layers").children()]))]
            taps = _swin_pass(network, images, stages)
            maps, pooled = [tap.feat for tap in taps], taps[0].pooled
        else:
            timm = cast(_Timm, network)
            last, maps = timm.forward_intermediates(images, indices=None)
            pooled = timm.forward_head(last, pre_logits=True)
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:120] or type(error).__name__
        raise _no_tap(name, f"a pass over {_shape(images)} images failed ({why})") from error
    if not all(m.ndim == 4 for m in maps) or pooled.ndim != 2:
        raise _no_tap(name, "its stages do not return maps (N, C, h, w)")
    return maps, pooled


def _check_head(network: nn.Module, pooled: Tensor, images: Tensor, name: str) -> None:
    """Raise unless an ordinary pass feeds the last layer with these features and ends there."""
    layer = classifier_layer(network)
    with _outputs_of([layer]) as seen, _inputs_of(layer) as given:
        logits = network(images)
    alike = len(given) == 1 and len(seen) == 1 and isinstance(logits, Tensor)
    if not alike or not _equal(given[0], pooled) or not _equal(logits, seen[0]):
        raise _no_tap(name, "its logits are not one linear layer of its pooled features")


def _equal(a: Tensor, b: Tensor) -> bool:
    """Tell whether two passes agree, but for the order of sums that a GPU may change."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-2, atol=1e-3, equal_nan=True)


def _own_stage(arch: str, kind: Kind, maps: Sequence[Tensor], name: str) -> int:
    known = split_stem(arch)[0]
    stage = ARCHS.row(known).feature_stage if known in ARCHS else None
    if stage is not None:
        return stage
    if kind != "timm":
        return max(len(maps) - 2, 0)
    sizes = [m.shape[2:] for m in maps]
    if len(maps) > 1 and len(set(sizes)) == 1:
        return len(maps) // 2 - 1
    large = [i for i, size in enumerate(sizes) if min(size) >= SMALLEST_MAP]
    if not large:
        raise _no_tap(
            name, f"no map is {SMALLEST_MAP}x{SMALLEST_MAP} or larger", "use larger images"
        )
    return large[max(len(large) - 2, 0)]


def _swin_pass(network: nn.Module, images: Tensor, stages: Sequence[int]) -> list[Features]:
    """Return the maps of some stages of timm's Swin, and the pooled features, of one pass.

    OpenMixup counts the merging of patches to the stage before it and feeds the generator with a
    layer norm of the result, whose weights get no gradient: they stay 1 and 0. The last stage ends
    in the network's own norm.
    """
    # Stage by stage as timm runs them, not by hooks, which cannot be traced.
    layers = [*network.get_submodule("layers").children()]
    maps: list[Tensor] = []
    x: Tensor = network.get_submodule("patch_embed")(images)
    for number, layer in enumerate(layers):
        x = layer.get_submodule("downsample")(x)
        if number:
            maps.append(F.layer_norm(x, x.shape[3:]) if number - 1 in stages else x)
        x = layer.get_submodule("blocks")(x)
    x = network.get_submodule("norm")(x)
    maps.append(x)
    pooled = cast(_Timm, network).forward_head(x, pre_logits=True)
    return [Features(maps[i].permute(0, 3, 1, 2).contiguous(), pooled) for i in stages]


@contextmanager
def _outputs_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what the modules return, in the order in which they are run."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(output)

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _inputs_of(module: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what a module is given."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    handle = module.register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def _shape(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))
