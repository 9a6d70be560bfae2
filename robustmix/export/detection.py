"""Backbones of detectors: a classifier's ResNet in the names that detection libraries load.

What a detector takes over is everything but the classifier. Three libraries have three sets of
names for the same tensors; the strides of our bottlenecks are on the 3x3 convolution and the
channels are red, green, blue, which each library must be told in its own words.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from robustmix.errors import IncompleteError, UsageError
from robustmix.export.exported import Written
from robustmix.files import atomic_file
from robustmix.models.robust_model import RobustModel

DEPTHS: dict[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
"""(Whether its blocks are bottlenecks, blocks of each stage) -> what a ResNet is named by."""

TORCHVISION = {
    **{(depth, 1, 64): f"resnet{depth}" for depth in DEPTHS.values()},
    (50, 32, 4): "resnext50_32x4d",
    (101, 32, 8): "resnext101_32x8d",
    (101, 64, 4): "resnext101_64x4d",
    (50, 1, 128): "wide_resnet50_2",
    (101, 1, 128): "wide_resnet101_2",
}
"""(Depth, groups, width of a group) -> torchvision's name."""

TOLERANCE = 1e-5
"""Most that features of the library's network may differ, over the largest of them."""

STAGES = ("layer1", "layer2", "layer3", "layer4")
PROBE = (2, 3, 97, 65)
"""Shape of the random images that features are compared on."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A ResNet without its classifier, and what it is."""

    depth: int
    groups: int
    width_per_group: int
    state: Mapping[str, Tensor]
    """Parameters and running statistics by torchvision's names."""

    mean: tuple[float, ...]
    """Of the normalisation, in [0, 1] pixel units."""

    std: tuple[float, ...]
    difference: float
    """Of the features of torchvision's network with these tensors, see ``Written``."""

    def written(self, settings: Mapping[str, JsonValue], *notes: str) -> Written:
        """Tell of a file that holds it."""
        return Written(
            settings=settings,
            difference=self.difference,
            compared="features of all four stages in torchvision's network, on random images",
            notes=(
                "strides are on the 3x3 convolutions; channels are in the order red, green, blue",
                *notes,
            ),
        )


def backbone_of(robust: RobustModel) -> Backbone:
    """Take the backbone of a classifier, and compare it with torchvision's network.

    Raises:
        UsageError: the network is no ResNet or ResNeXt with the stem for large images.
        IncompleteError: torchvision's network gives other features.
    """
    net = robust.net
    try:
        stages = [list(net.get_submodule(name).children()) for name in STAGES]
        first, convolution = stages[0][0], net.get_submodule("conv1")
        inner = first.get_submodule("conv2")
        assert isinstance(convolution, nn.Conv2d)
        assert isinstance(inner, nn.Conv2d)
    except (AttributeError, IndexError, AssertionError):
        raise _unfit(robust, "it is no ResNet") from None
    bottleneck = hasattr(first, "conv3")
    depth = DEPTHS.get((bottleneck, tuple(map(len, stages))))
    if convolution.kernel_size != (7, 7):
        raise _unfit(robust, "its stem is that for small images")
    width = inner.out_channels // inner.groups
    if depth is None:
        raise _unfit(robust, "it has the blocks of no ResNet that detectors know")
    state = {
        name: tensor.detach().clone()
        for name, tensor in net.state_dict().items()
        if name.split(".")[0] in ("conv1", "bn1", *STAGES)
    }
    return Backbone(
        depth=depth,
        groups=inner.groups,
        width_per_group=width,
        state=state,
        mean=tuple(robust.mean.flatten().tolist()),
        std=tuple(robust.std.flatten().tolist()),
        difference=_difference(robust, state, (inner.groups, width)),
    )


def _unfit(robust: RobustModel, why: str) -> UsageError:
    return UsageError(
        f"{robust.info.arch} cannot be a detector's backbone here: {why}",
        "take one of " + ", ".join(TORCHVISION.values()) + ", with the stem for ImageNet",
        code="E-EXPORT",
    )


def _difference(robust: RobustModel, state: Mapping[str, Tensor], widths: tuple[int, int]) -> float:
    """Give the largest difference of the features in torchvision's network, over their scale.

    Its norms are frozen, as detectors have them; ``widths`` are the groups, and of one the width.
    """
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
    from torchvision.ops.misc import FrozenBatchNorm2d

    net = robust.net
    blocks = [len(list(net.get_submodule(stage).children())) for stage in STAGES]
    block = Bottleneck if "layer1.0.conv3.weight" in state else BasicBlock
    groups, width = widths
    try:
        theirs = ResNet(
            block, blocks, groups=groups, width_per_group=width, norm_layer=FrozenBatchNorm2d
        ).eval()
        theirs.fc = nn.Identity()
        theirs.load_state_dict(state)
    except (RuntimeError, ValueError):
        raise _unfit(robust, "its tensors are not those of torchvision's ResNet") from None
    images = torch.randn(PROBE, generator=torch.Generator().manual_seed(0))
    worst = max(
        float((ours - other).abs().max() / ours.abs().max().clamp(min=1e-30))
        for ours, other in zip(_features(net, images), _features(theirs, images), strict=True)
    )
    if not worst <= TOLERANCE:  # also for what is no number
        raise IncompleteError(
            f"torchvision's network gives other features with these weights: they differ by "
            f"{worst:.3g} of the largest",
            "nothing was written; export a network whose blocks are those of torchvision",
            code="E-EXPORT",
        )
    return worst


def _features(net: nn.Module, images: Tensor) -> list[Tensor]:
    """Give what the four stages of a ResNet give, each (N, C, H, W)."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: object, features: Tensor) -> None:
        seen.append(features.clone())

    hooks = [net.get_submodule(stage).register_forward_hook(keep) for stage in STAGES]
    try:
        with torch.no_grad():
            net(images)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def detectron2(robust: RobustModel, path: Path) -> Written:
    """Write the pickle that Detectron2's checkpointer matches to the names of its own networks.

    Reference:
        Detectron2's names: ``stem`` and ``res2`` to ``res5``, the norm inside its convolution.
    """
    backbone = backbone_of(robust)
    state = {
        detectron2_name(name): tensor.numpy()
        for name, tensor in backbone.state.items()
        if not name.endswith("num_batches_tracked")  # its norms are frozen
    }
    with atomic_file(path) as file:
        pickle.dump({"model": state, "__author__": "robustmix", "matching_heuristics": True}, file)
    return backbone.written(
        {
            "MODEL.WEIGHTS": str(path),
            "MODEL.RESNETS.DEPTH": backbone.depth,
            "MODEL.RESNETS.STRIDE_IN_1X1": False,
            "MODEL.RESNETS.NUM_GROUPS": backbone.groups,
            "MODEL.RESNETS.WIDTH_PER_GROUP": backbone.width_per_group,
            "MODEL.PIXEL_MEAN": _levels(backbone.mean),
            "MODEL.PIXEL_STD": _levels(backbone.std),
            "INPUT.FORMAT": "RGB",
        },
        *(
            ["Detectron2 needs MODEL.RESNETS.RES2_OUT_CHANNELS 64 for this depth"]
            if backbone.depth < 50
            else []
        ),
    )


def detectron2_name(name: str) -> str:
    """Translate torchvision's name of a tensor.

    Example:
        >>> detectron2_name("layer1.0.downsample.1.running_mean")
        'res2.0.shortcut.norm.running_mean'
        >>> detectron2_name("bn1.weight"), detectron2_name("layer4.2.bn3.bias")
        ('stem.conv1.norm.weight', 'res5.2.conv3.norm.bias')
    """
    name = re.sub(r"^layer(\d)", lambda found: f"res{int(found[1]) + 1}", name)
    name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
    name = re.sub(r"(^|\.)bn(\d)", r"\1conv\2.norm", name)
    return name if name.startswith("res") else f"stem.{name}"


def torchvision_detection(robust: RobustModel, path: Path) -> Written:
    """Write a state dict that torchvision's detectors load, the rest of theirs left as it is."""
    backbone = backbone_of(robust)
    name = TORCHVISION.get((backbone.depth, backbone.groups, backbone.width_per_group))
    if name is None:
        raise _unfit(robust, "torchvision builds no detector on a ResNet of its widths")
    state = {
        f"backbone.body.{name}": tensor
        for name, tensor in backbone.state.items()
        if not name.endswith("num_batches_tracked")  # its norms are frozen
    }
    with atomic_file(path) as file:
        torch.save(state, file)
    return backbone.written(
        {
            "backbone_name": name,
            "image_mean": [round(value, 7) for value in backbone.mean],
            "image_std": [round(value, 7) for value in backbone.std],
        },
        "load it with load_state_dict(..., strict=False): the heads of the detector are not in it",
    )


def mmdet(robust: RobustModel, path: Path) -> Written:
    """Write a checkpoint that MMDetection takes as the pretrained weights of its backbone."""
    backbone = backbone_of(robust)
    with atomic_file(path) as file:
        torch.save({"meta": {}, "state_dict": dict(backbone.state)}, file)
    shape: dict[str, JsonValue] = {"type": "ResNet", "depth": backbone.depth, "style": "pytorch"}
    if (backbone.groups, backbone.width_per_group) != (1, 64):
        shape |= {
            "type": "ResNeXt",
            "groups": backbone.groups,
            "base_width": backbone.width_per_group,
        }
    return backbone.written(
        {
            "backbone": {**shape, "init_cfg": {"type": "Pretrained", "checkpoint": str(path)}},
            "data_preprocessor": {
                "mean": _levels(backbone.mean),
                "std": _levels(backbone.std),
                "bgr_to_rgb": True,
            },
        }
    )


def _levels(values: tuple[float, ...]) -> list[JsonValue]:
    """Give a normalisation in units of 8-bit pixels."""
    return [round(255 * value, 4) for value in values]
