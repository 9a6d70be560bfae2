"""ResNet and ResNeXt with the CIFAR or the ImageNet stem.

Residual networks of He et al. 2015 (arXiv:1512.03385) and Xie et al. 2016 (arXiv:1611.05431), in
the variant of torchvision and OpenMixup: the stride of a bottleneck is on its 3x3 convolution.
Parameters and buffers bear the official names, so published files load unchanged.

ResNet-20 to -110 for CIFAR (section 4.2 of the former) are three stages of basic blocks. Where a
stage widens, the paper's shortcut has no weights (option A); option B, a 1x1 convolution, is what
the paper has on ImageNet, and several collections of CIFAR models too.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustmix.models.names import Stem

Shortcut = Literal["pad", "conv"]
"""Options A and B of He et al. where a stage changes the shape of the map."""


def _conv(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(
        channels, out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
    )


def _downsample(
    channels: int, out: int, stride: int, shortcut: Shortcut = "conv"
) -> nn.Module | None:
    if stride == 1 and channels == out:
        return None
    if shortcut == "pad":
        return PaddedShortcut(channels, out, stride)
    return nn.Sequential(_conv(channels, out, 1, stride), nn.BatchNorm2d(out))


class PaddedShortcut(nn.Module):
    """Every ``stride``-th pixel, and channels of zeros: option A of He et al. 2015, section 3.3.

    The paper does not say where the zeros go. Half of them stand before the channels and half
    behind, as in the published weights that are of this form.
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.before = (out - channels) // 2
        self.behind = out - channels - self.before
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out, H/stride, W/stride) for x (N, channels, H, W)."""
        kept = x[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, self.before, self.behind))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(
        self, channels: int, planes: int, stride: int, shortcut: Shortcut = "conv"
    ) -> None:
        super().__init__()
        self.conv1 = _conv(channels, planes, 3, stride)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = _conv(planes, planes, 3)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _downsample(channels, planes, stride, shortcut)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm that ends the residual branch."""
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, planes, H/stride, W/stride) for x (N, channels, H, W)."""
        out = torch.relu_(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x if self.downsample is None else self.downsample(x)
        return torch.relu_(out)


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 (strided, perhaps grouped) and a 1x1 convolution, and a shortcut."""

    def __init__(self, channels: int, middle: int, out: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = _conv(channels, middle, 1)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = _conv(middle, middle, 3, stride, groups)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = _conv(middle, out, 1)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = _downsample(channels, out, stride)

    @property
    def last_norm(self) -> nn.BatchNorm2d:
        """The norm that ends the residual branch."""
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out, H/stride, W/stride) for x (N, channels, H, W)."""
        out = torch.relu_(self.bn1(self.conv1(x)))
        out = torch.relu_(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return torch.relu_(out)


class ResNet(nn.Module):
    """A residual network; stage i has ``depths[i]`` blocks of ``width * 2**i`` planes.

    Args:
        num_classes: outputs of the classifier ``fc``; 0 leaves it out (pooled features come back).
        block: ``basic``, or ``bottleneck`` whose output is four times as wide.
        depths: blocks of each stage; stages after the first halve the map.
        stem: ``cifar`` is a 3x3 convolution with stride 1 and no pooling, ``imagenet`` a 7x7 one
            with stride 2 followed by a 3x3 max-pool with stride 2.
        width: planes of the first stage.
        stem_width: channels after the stem; ``width`` if None.
        groups: groups of the 3x3 convolution of a bottleneck.
        width_per_group: channels of one group in the first stage; ``width`` if None.
        shortcut: of basic blocks that change the shape: ``conv`` (option B of He et al.), or
            ``pad`` without weights (option A).
    """

    def __init__(
        self,
        num_classes: int,
        *,
        block: Literal["basic", "bottleneck"],
        depths: Sequence[int],
        stem: Stem,
        width: int = 64,
        stem_width: int | None = None,
        groups: int = 1,
        width_per_group: int | None = None,
        shortcut: Shortcut = "conv",
    ) -> None:
        super().__init__()
        channels = stem_width or width
        self.arch_options: dict[str, str | int | float] = {"stem": stem}
        if stem == "cifar":
            self.conv1 = _conv(3, channels, 3)
            self.maxpool: nn.Module = nn.Identity()
        else:
            self.conv1 = _conv(3, channels, 7, 2)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.num_stages = len(depths)
        for i, depth in enumerate(depths):
            planes = width * 2**i
            middle = groups * (width_per_group or width) * 2**i
            blocks: list[nn.Module] = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                if block == "basic":
                    blocks.append(BasicBlock(channels, planes, stride, shortcut))
                    channels = planes
                else:
                    blocks.append(Bottleneck(channels, middle, 4 * planes, stride, groups))
                    channels = 4 * planes
            self.add_module(f"layer{i + 1}", nn.Sequential(*blocks))
        self.num_features = channels
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The stages in order."""
        return tuple(self.get_submodule(f"layer{i + 1}") for i in range(self.num_stages))

    def forward_stem(self, x: Tensor) -> Tensor:
        """Return the input of the first stage for normalised images (N, 3, H, W)."""
        out: Tensor = self.maxpool(torch.relu_(self.bn1(self.conv1(x))))
        return out

    def forward_stage(self, index: int, x: Tensor) -> Tensor:
        """Return the map of stage ``index`` (from 0) for the map of the one before it."""
        out: Tensor = self.stages[index](x)
        return out

    def forward_features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of all stages for normalised images (N, 3, H, W)."""
        maps = [self.forward_stem(x)]
        for i in range(self.num_stages):
            maps.append(self.forward_stage(i, maps[-1]))
        return tuple(maps[1:])

    def forward_head(self, last: Tensor) -> Tensor:
        """Return logits (N, K) for the map of the last stage."""
        logits: Tensor = self.fc(last.mean(dim=(2, 3)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) for normalised images (N, 3, H, W)."""
        return self.forward_head(self.forward_features(x)[-1])
