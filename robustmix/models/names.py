"""Names of the built-in architectures and normalisations; importing this needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

Stem: TypeAlias = Literal["cifar", "imagenet"]
"""What stands before the first stage: ``cifar`` is a 3x3 convolution with stride 1, ``imagenet``
reduces the image by 4 (a 7x7 convolution and a max-pool; 4x4 patches in ConvNeXt)."""

STEMS: tuple[Stem, ...] = ("cifar", "imagenet")

Triple: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArchInfo:
    """What a listing, a mixing generator or an importer must know of a built-in architecture."""

    description: str
    params_millions: float
    """Parameters without the classifier, with the first of ``stems``."""

    stems: tuple[Stem, ...]
    """Empty for an architecture with only one stem."""

    stage_channels: tuple[int, ...]
    """Channels of the map that each stage (or layer of a plain transformer) returns."""

    feature_stage: int | None
    """Index of the stage whose map feeds the generators of AutoMix and AdAutoMix; None leaves it
    to the sizes of the maps."""

    built_by: Literal["robustmix", "timm"] = "robustmix"
    """Whose layers and names of parameters it has."""

    multiple: int = 1
    """Height and width of the images are multiples of this."""


ARCHS: Mapping[str, ArchInfo] = MappingProxyType(
    {
        "resnet8": ArchInfo(
            description="three stages of one basic block; for demonstrations and tests",
            params_millions=0.077,
            stems=("cifar",),
            stage_channels=(16, 32, 64),
            feature_stage=1,
        ),
        "resnet18": ArchInfo(
            description="ResNet-18, basic blocks",
            params_millions=11.169,
            stems=STEMS,
            stage_channels=(64, 128, 256, 512),
            feature_stage=2,
        ),
        "resnet34": ArchInfo(
            description="ResNet-34, basic blocks",
            params_millions=21.277,
            stems=STEMS,
            stage_channels=(64, 128, 256, 512),
            feature_stage=2,
        ),
        "resnet50": ArchInfo(
            description="ResNet-50, bottleneck blocks with the stride on the 3x3 convolution",
            params_millions=23.500,
            stems=STEMS,
            stage_channels=(256, 512, 1024, 2048),
            feature_stage=2,
        ),
        "resnext50_32x4d": ArchInfo(
            description="ResNeXt-50, 32 groups of base width 4",
            params_millions=22.972,
            stems=STEMS,
            stage_channels=(256, 512, 1024, 2048),
            feature_stage=2,
        ),
        "resnet101": ArchInfo(
            description="ResNet-101, bottleneck blocks with the stride on the 3x3 convolution",
            params_millions=42.492,
            stems=STEMS,
            stage_channels=(256, 512, 1024, 2048),
            feature_stage=2,
        ),
        "resnext101_32x4d": ArchInfo(
            description="ResNeXt-101, 32 groups of base width 4",
            params_millions=42.121,
            stems=STEMS,
            stage_channels=(256, 512, 1024, 2048),
            feature_stage=2,
        ),
        "wrn28_8": ArchInfo(
            description="Wide ResNet 28-8, pre-activation blocks with biases and leaky ReLU",
            params_millions=23.358,
            stems=("cifar",),
            stage_channels=(128, 256, 512),
            feature_stage=1,
        ),
        "convnext_tiny": ArchInfo(
            description="ConvNeXt-T",
            params_millions=27.818,
            stems=STEMS,
            stage_channels=(96, 192, 384, 768),
            feature_stage=2,
            built_by="timm",
        ),
        "swin_tiny": ArchInfo(
            description="Swin-T, patches of 4x4 pixels, windows of 7x7 patches",
            params_millions=27.519,
            stems=(),
            stage_channels=(192, 384, 768, 768),
            feature_stage=2,
            built_by="timm",
            multiple=4,
        ),
        "deit_small": ArchInfo(
            description="DeiT-S, 12 layers over patches of 16x16 pixels and a class token",
            params_millions=21.666,
            stems=(),
            stage_channels=(384,) * 12,
            feature_stage=5,
            built_by="timm",
            multiple=16,
        ),
        "mobilenetv2": ArchInfo(
            description="MobileNetV2, inverted residual blocks",
            params_millions=2.224,
            stems=(),
            stage_channels=(16, 24, 32, 96, 320),
            feature_stage=None,
            built_by="timm",
        ),
        "efficientnet_b0": ArchInfo(
            description="EfficientNet-B0, inverted residual blocks with squeeze and excitation",
            params_millions=4.008,
            stems=(),
            stage_channels=(16, 24, 40, 112, 320),
            feature_stage=None,
            built_by="timm",
        ),
    }
)
"""Built-in architectures; every name has its builder in ``robustmix.models.registry``."""

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


def split_stem(arch: str) -> tuple[str, Stem | None]:
    """Split an optional stem off an architecture's name.

    Example:
        >>> split_stem("resnet18-cifar")
        ('resnet18', 'cifar')
        >>> split_stem("resnet18")
        ('resnet18', None)
    """
    for stem in STEMS:
        if arch.endswith(f"-{stem}") and ":" not in arch:
            return arch.removesuffix(f"-{stem}"), stem
    return arch, None


def default_stem(arch: str, input_size: tuple[int, int, int]) -> Stem | None:
    """Return the stem for an image size (3, H, W): ImageNet's from 128 pixels on.

    None where there is no choice.

    Example:
        >>> default_stem("resnet18", (3, 64, 64)), default_stem("resnet18", (3, 224, 224))
        ('cifar', 'imagenet')
    """
    stems = ARCHS[arch].stems
    wanted: Stem = "imagenet" if min(input_size[1:]) >= 128 else "cifar"
    return wanted if wanted in stems else next(iter(stems), None)


def usual_size(arch: str, stem: Stem | None = None) -> tuple[int, int, int]:
    """Return the image size (3, H, W) that an architecture is commonly used with.

    Example:
        >>> usual_size("resnet18"), usual_size("resnet18", "imagenet"), usual_size("swin_tiny")
        ((3, 32, 32), (3, 224, 224), (3, 224, 224))
    """
    small = "cifar" in ARCHS[arch].stems and stem != "imagenet"
    return (3, 32, 32) if small else (3, 224, 224)
