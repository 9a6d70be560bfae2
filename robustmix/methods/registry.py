"""The training methods by name, and how a recipe's options become one of them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import nn

from robustmix.errors import UsageError, unknown_name
from robustmix.methods.adautomix import AdAutoMix, AdAutoMixConfig
from robustmix.methods.alignmix import AlignMix, AlignMixConfig
from robustmix.methods.attentivemix import AttentiveMix, AttentiveMixConfig
from robustmix.methods.augmix import AugMix, AugMixConfig
from robustmix.methods.automix import AutoMix, AutoMixConfig
from robustmix.methods.comixup import CoMixup, CoMixupConfig
from robustmix.methods.cutmix import CutMix, CutMixConfig
from robustmix.methods.deit import DeiT, DeiTConfig
from robustmix.methods.fmix import FMix, FMixConfig
from robustmix.methods.gridmix import GridMix, GridMixConfig
from robustmix.methods.manifoldmix import ManifoldMix, ManifoldMixConfig
from robustmix.methods.method import Setup
from robustmix.methods.mixup import Mixup, MixupConfig
from robustmix.methods.puzzlemix import PuzzleMix, PuzzleMixConfig
from robustmix.methods.resizemix import ResizeMix, ResizeMixConfig
from robustmix.methods.rsb import RSB, RSBConfig
from robustmix.methods.saliencymix import SaliencyMix, SaliencyMixConfig
from robustmix.methods.samix import SAMix, SAMixConfig
from robustmix.methods.smoothmix import SmoothMix, SmoothMixConfig
from robustmix.methods.snapmix import SnapMix, SnapMixConfig
from robustmix.methods.supermix import SuperMix, SuperMixConfig
from robustmix.methods.transmix import TransMix, TransMixConfig
from robustmix.methods.vanilla import Vanilla, VanillaConfig


@dataclass(frozen=True, slots=True)
class MethodEntry:
    """A method's config class, and the class that trains with it."""

    config: Callable[..., Any]
    build: Callable[..., nn.Module]


METHODS: dict[str, MethodEntry] = {
    "vanilla": MethodEntry(VanillaConfig, Vanilla),
    "mixup": MethodEntry(MixupConfig, Mixup),
    "cutmix": MethodEntry(CutMixConfig, CutMix),
    "manifoldmix": MethodEntry(ManifoldMixConfig, ManifoldMix),
    "saliencymix": MethodEntry(SaliencyMixConfig, SaliencyMix),
    "fmix": MethodEntry(FMixConfig, FMix),
    "resizemix": MethodEntry(ResizeMixConfig, ResizeMix),
    "gridmix": MethodEntry(GridMixConfig, GridMix),
    "smoothmix": MethodEntry(SmoothMixConfig, SmoothMix),
    "attentivemix": MethodEntry(AttentiveMixConfig, AttentiveMix),
    "puzzlemix": MethodEntry(PuzzleMixConfig, PuzzleMix),
    "co-mixup": MethodEntry(CoMixupConfig, CoMixup),
    "supermix": MethodEntry(SuperMixConfig, SuperMix),
    "alignmix": MethodEntry(AlignMixConfig, AlignMix),
    "transmix": MethodEntry(TransMixConfig, TransMix),
    "snapmix": MethodEntry(SnapMixConfig, SnapMix),
    "augmix": MethodEntry(AugMixConfig, AugMix),
    "deit": MethodEntry(DeiTConfig, DeiT),
    "rsb": MethodEntry(RSBConfig, RSB),
    "automix": MethodEntry(AutoMixConfig, AutoMix),
    "samix": MethodEntry(SAMixConfig, SAMix),
    "adautomix": MethodEntry(AdAutoMixConfig, AdAutoMix),
}


def method_config(name: str, options: Mapping[str, object]) -> Any:
    """Return the config of a method with ``options`` over its defaults.

    Raises:
        UsageError: the method or an option does not exist, or a value is impossible.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    make = METHODS[name].config
    defaults = asdict(make())
    for key in options:
        if key not in defaults:
            raise unknown_option(name, key, defaults)
    optional = {key for key, value in defaults.items() if value is None}
    try:
        return make(
            **{
                key: value
                if value is None and key in optional
                else _as(value, 0.0 if key in optional else defaults[key], f"method.{key}")
                for key, value in options.items()
            }
        )
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"method {name}: {error}", code="E-RECIPE") from error


def method_options(name: str, options: Mapping[str, object]) -> dict[str, Any]:
    """Return every option of a method, defaults filled in, as JSON-like values."""
    config = method_config(name, options)
    return {field.name: getattr(config, field.name) for field in fields(config)}


def build_method(
    name: str, network: nn.Module, options: Mapping[str, object], setup: Setup
) -> nn.Module:
    """Return the method ``name``, a ``Method`` and an ``nn.Module``, that trains ``network``.

    Args:
        name: a key of ``METHODS``.
        network: normalised images (N, 3, H, W) -> logits (N, K).
        options: fields of the method's config; the rest are defaults.
        setup: its sources of randomness, and what it must know of the images.

    Raises:
        UsageError: the method or an option does not exist, or cannot be had with this network.
    """
    return METHODS[name].build(network, method_config(name, options), setup)


def unknown_option(method: str, key: str, known: Mapping[str, object]) -> UsageError:
    """Return the error for an option that the method does not have."""
    if not known:
        return UsageError(f"method {method} has no options, got '{key}'", code="E-UNKNOWN-OPTION")
    return unknown_name(f"option of method {method}", key, known, code="E-UNKNOWN-OPTION")


def _as(value: object, default: object, key: str) -> object:
    """Return ``value`` in the type of the default; an integer may stand for a float."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        want = type(default).__name__
        raise UsageError(f"{key}: expected {want}, got {value!r}", code="E-RECIPE")
    return value
