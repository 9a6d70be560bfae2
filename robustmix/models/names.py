"""Names of the architectures and normalisations; importing this needs no torch."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from robustmix.errors import UsageError
from robustmix.tables import Row, Table
from robustmix.text import plain

if TYPE_CHECKING:
    from torch import nn

Stem: TypeAlias = Literal["cifar", "imagenet"]
"""What stands before the first stage: ``cifar`` is a 3x3 convolution with stride 1, ``imagenet``
reduces the image by 4 (a 7x7 convolution and a max-pool; 4x4 patches in ConvNeXt)."""

STEMS: tuple[Stem, ...] = ("cifar", "imagenet")

Triple: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class ArchRow(Row):
    """What a listing, a mixing generator or an importer must know of an architecture."""

    params_millions: float = 0.0
    """Parameters without the classifier, with the first of ``stems``; 0: not known."""

    stems: tuple[Stem, ...] = ()
    """Empty for an architecture with only one stem."""

    stage_channels: tuple[int, ...] = ()
    """Channels of the map that each stage (or layer of a plain transformer) returns."""

    feature_stage: int | None = None
    """Index of the stage whose map feeds the generators of AutoMix and AdAutoMix; None leaves it
    to the sizes of the maps."""

    built_by: Literal["robustmix", "timm", "others"] = "others"
    """Whose layers and names of parameters it has. Initial weights of ours and of timm's are drawn
    by a rule of the recipe's; those of others are the builder's own."""

    multiple: int = 1
    """Height and width of the images are multiples of this."""

    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of the builder."""


Builder: TypeAlias = "Callable[[int, Stem | None, tuple[int, int], float], nn.Module]"
"""(number of classes, stem, height and width of the images, drop-path) -> network."""


def _adapted(name: str, row: ArchRow, thing: object) -> Builder:
    """Return a builder that gives ``thing`` what it has parameters for, besides its options."""
    if not callable(thing):
        raise UsageError(
            f"arch '{name}' is a {type(thing).__name__}",
            "give a function or class: number of classes -> network",
            code="E-REGISTER",
        )
    make: Callable[..., nn.Module] = thing
    parameters = inspect.signature(make).parameters
    by_name = "num_classes" in parameters or any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()
    )

    def build(
        num_classes: int, stem: Stem | None, size: tuple[int, int], drop_path: float
    ) -> "nn.Module":
        if drop_path and "drop_path" not in parameters:
            raise UsageError(f"{name} has no drop-path", "leave it out", code="E-DROP-PATH")
        offered = {"stem": stem, "size": size, "drop_path": drop_path}
        given = {key: value for key, value in offered.items() if key in parameters}
        if by_name:
            return make(num_classes=num_classes, **given, **row.options)
        return make(num_classes, **given, **row.options)

    return build


def _resnet(
    help: str,
    params: float,
    block: str,
    depths: tuple[int, ...],
    more: Mapping[str, Any] = MappingProxyType({}),
    stems: tuple[Stem, ...] = STEMS,
) -> ArchRow:
    width = more.get("width", 64) * (4 if block == "bottleneck" else 1)
    return ArchRow(
        "robustmix.models.resnet:ResNet",
        help,
        params_millions=params,
        stems=stems,
        stage_channels=tuple(width * 2**i for i in range(len(depths))),
        feature_stage=len(depths) - 2,
        built_by="robustmix",
        options={"block": block, "depths": depths, **more},
    )


def _timm(
    help: str, name: str, params: float, channels: tuple[int, ...], stage: int | None, **more: Any
) -> ArchRow:
    return ArchRow(
        "robustmix.models.timm_nets:build_timm_net",
        help,
        params_millions=params,
        stage_channels=channels,
        feature_stage=stage,
        built_by="timm",
        options={"name": name},
        **more,
    )


def _cifar_resnets() -> dict[str, ArchRow]:
    """Return ResNets of 6 n + 2 layers, n blocks a stage, by their names."""
    millions = {20: 0.2691, 32: 0.4635, 44: 0.6579, 56: 0.8524, 110: 1.7273}
    options = {
        "": ("pad", "without weights (option A of the paper)", 0.0),
        "_b": ("conv", "of 1x1 convolutions (option B)", 0.00275),
    }
    return {
        f"resnet{depth}{end}": _resnet(
            f"ResNet-{depth} for CIFAR, 16 to 64 channels, shortcuts {what}",
            params + more,
            "basic",
            ((depth - 2) // 6,) * 3,
            {"width": 16, "shortcut": shortcut},
            stems=("cifar",),
        )
        for end, (shortcut, what, more) in options.items()
        for depth, params in millions.items()
    }


def _wide_resnet(depth: int, widen: int, params: float) -> ArchRow:
    return ArchRow(
        "robustmix.models.wide_resnet:WideResNet",
        f"Wide ResNet {depth}-{widen} as in the paper, TRADES and RobustBench",
        params_millions=params,
        stems=("cifar",),
        stage_channels=(16 * widen, 32 * widen, 64 * widen),
        feature_stage=1,
        built_by="robustmix",
        options={"depth": depth, "widen": widen, "variant": "official"},
    )


_STRIDED = "bottleneck blocks with the stride on the 3x3 convolution"
_GROUPED = {"groups": 32, "width_per_group": 4}

ARCHS: Table[Builder, ArchRow] = Table(
    "arch",
    ArchRow,
    {
        "resnet8": _resnet(
            "three stages of one basic block; for demonstrations and tests",
            0.077,
            "basic",
            (1, 1, 1),
            {"width": 16},
            stems=("cifar",),
        ),
        **_cifar_resnets(),
        "resnet18": _resnet("ResNet-18, basic blocks", 11.169, "basic", (2, 2, 2, 2)),
        "resnet34": _resnet("ResNet-34, basic blocks", 21.277, "basic", (3, 4, 6, 3)),
        "resnet50": _resnet(f"ResNet-50, {_STRIDED}", 23.500, "bottleneck", (3, 4, 6, 3)),
        "resnext50_32x4d": _resnet(
            "ResNeXt-50, 32 groups of base width 4",
            22.972,
            "bottleneck",
            (3, 4, 6, 3),
            _GROUPED,
        ),
        "resnet101": _resnet(f"ResNet-101, {_STRIDED}", 42.492, "bottleneck", (3, 4, 23, 3)),
        "resnext101_32x4d": _resnet(
            "ResNeXt-101, 32 groups of base width 4",
            42.121,
            "bottleneck",
            (3, 4, 23, 3),
            _GROUPED,
        ),
        "wrn28_8": ArchRow(
            "robustmix.models.wide_resnet:WideResNet",
            "Wide ResNet 28-8, pre-activation blocks with biases and leaky ReLU",
            params_millions=23.358,
            stems=("cifar",),
            stage_channels=(128, 256, 512),
            feature_stage=1,
            built_by="robustmix",
            options={"depth": 28, "widen": 8},
        ),
        "wrn28_10": _wide_resnet(28, 10, 36.473),
        "wrn34_10": _wide_resnet(34, 10, 46.154),
        "wrn34_20": _wide_resnet(34, 20, 184.519),
        "wrn40_2": _wide_resnet(40, 2, 2.242),
        "wrn70_16": _wide_resnet(70, 16, 266.786),
        "convnext_tiny": _timm(
            "ConvNeXt-T", "convnext_tiny", 27.818, (96, 192, 384, 768), 2, stems=STEMS
        ),
        "swin_tiny": _timm(
            "Swin-T, patches of 4x4 pixels, windows of 7x7 patches",
            "swin_tiny_patch4_window7_224",
            27.519,
            (192, 384, 768, 768),
            2,
            multiple=4,
        ),
        "deit_small": _timm(
            "DeiT-S, 12 layers over patches of 16x16 pixels and a class token",
            "deit_small_patch16_224",
            21.666,
            (384,) * 12,
            5,
            multiple=16,
        ),
        "mobilenetv2": _timm(
            "MobileNetV2, inverted residual blocks",
            "mobilenetv2_100",
            2.224,
            (16, 24, 32, 96, 320),
            None,
        ),
        "efficientnet_b0": _timm(
            "EfficientNet-B0, inverted residual blocks with squeeze and excitation",
            "efficientnet_b0",
            4.008,
            (16, 24, 40, 112, 320),
            None,
        ),
    },
    adapt=_adapted,
)
"""Architectures by name. Of number of classes, ``stem``, ``size`` and ``drop_path`` a builder is
given those that it has parameters for; a function of the number of classes is enough."""

NORM_PRESETS: Mapping[str, tuple[Triple, Triple]] = MappingProxyType(
    {
        "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
        "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        "openmixup-cifar": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    }
)
"""Mean and standard deviation, in [0, 1] pixel units, that published models were trained with."""


OWN = "module:"
"""What names of networks in a user's own code begin with (``robustmix.models.own_code``)."""


def split_own(arch: str) -> tuple[str, str]:
    """Split ``module:FILE.py:FACTORY`` or ``module:PACKAGE:FACTORY`` into place and factory.

    Raises:
        UsageError: it is of another form.

    Example:
        >>> split_own("module:nets/mine.py:small")
        ('nets/mine.py', 'small')
    """
    where, _, factory = arch.removeprefix(OWN).rpartition(":")
    fits = where and all(part.isidentifier() for part in factory.split("."))
    if not arch.startswith(OWN) or not fits:
        raise UsageError(
            f"'{plain(arch, 200)}' names no network of yours",
            "write module:FILE.py:FACTORY, or module:PACKAGE.MODULE:FACTORY",
            code="E-OWN-CODE",
        )
    return where, factory


def own_name(arch: str) -> str:
    """Return a name of ``split_own`` as records have it, without folders.

    Example:
        >>> own_name("module:/home/me/nets/mine.py:small"), own_name("module:mine.nets:small")
        ('module:mine.py:small', 'module:mine.nets:small')
    """
    where, factory = split_own(arch)
    return f"{OWN}{PurePath(where).name if where.endswith('.py') else where}:{factory}"


def split_stem(arch: str) -> tuple[str, Stem | None]:
    """Split an optional stem off an architecture's name.

    Of a network in a user's own file it gives the name that records have, see ``own_name``.

    Example:
        >>> split_stem("resnet18-cifar")
        ('resnet18', 'cifar')
        >>> split_stem("resnet18")
        ('resnet18', None)
    """
    if arch.startswith(OWN):
        return own_name(arch), None
    for stem in STEMS:
        if arch.endswith(f"-{stem}") and ":" not in arch and arch not in ARCHS:
            return arch.removesuffix(f"-{stem}"), stem
    return arch, None


def default_stem(arch: str, input_size: tuple[int, int, int]) -> Stem | None:
    """Return the stem for an image size (3, H, W): ImageNet's from 128 pixels on.

    None where there is no choice.

    Example:
        >>> default_stem("resnet18", (3, 64, 64)), default_stem("resnet18", (3, 224, 224))
        ('cifar', 'imagenet')
    """
    stems = ARCHS.row(arch).stems
    wanted: Stem = "imagenet" if min(input_size[1:]) >= 128 else "cifar"
    return wanted if wanted in stems else next(iter(stems), None)


def usual_size(arch: str, stem: Stem | None = None) -> tuple[int, int, int]:
    """Return the image size (3, H, W) that an architecture is commonly used with.

    Example:
        >>> usual_size("resnet18"), usual_size("resnet18", "imagenet"), usual_size("swin_tiny")
        ((3, 32, 32), (3, 224, 224), (3, 224, 224))
    """
    small = "cifar" in ARCHS.row(arch).stems and stem != "imagenet"
    return (3, 32, 32) if small else (3, 224, 224)
