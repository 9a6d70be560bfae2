"""Wide ResNet: Zagoruyko and Komodakis 2016 (arXiv:1605.07146), in two variants.

``official`` is the paper's, in the names of TRADES and of most of RobustBench's wide networks:
convolutions without a bias, ReLU, and 1x1 shortcuts that take the activated input. ``openmixup`` is
what OpenMixup trains: every convolution has a bias, ReLUs leak with slope 0.1, batch statistics
enter the running ones with weight 0.001, and only the first stage's shortcut takes the activated
input.
"""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

Variant = Literal["official", "openmixup"]

SLOPES: dict[Variant, float] = {"official": 0.0, "openmixup": 0.1}
"""Of the activation below 0; with 0 it is ReLU."""


def _norm(channels: int, variant: Variant) -> nn.BatchNorm2d:
    if variant == "official":
        return nn.BatchNorm2d(channels)
    return nn.BatchNorm2d(channels, eps=0.001, momentum=0.001)


def _activate(norm: nn.Module, x: Tensor, slope: float) -> Tensor:
    return F.leaky_relu(norm(x), slope, inplace=True)


class WideBlock(nn.Module):
    """Norm, activation and 3x3 convolution, twice, and a shortcut.

    Args:
        channels: channels of the input.
        out: channels of the output; the shortcut is a 1x1 convolution where they differ.
        stride: stride of the first convolution and of the shortcut.
        activate_first: feed that 1x1 convolution with the activated input, not with the raw one.
        variant: see the module.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        stride: int,
        activate_first: bool,
        variant: Variant = "openmixup",
    ) -> None:
        super().__init__()
        self.activate_first = activate_first
        self.slope = SLOPES[variant]
        bias = variant == "openmixup"
        self.bn1 = _norm(channels, variant)
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=bias)
        self.bn2 = _norm(out, variant)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=bias)
        self.convShortcut = (
            None if channels == out else nn.Conv2d(channels, out, 1, stride=stride, bias=bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, out, H/stride, W/stride) for x (N, channels, H, W)."""
        active = _activate(self.bn1, x, self.slope)
        out: Tensor = self.conv2(_activate(self.bn2, self.conv1(active), self.slope))
        shortcut = x
        if self.convShortcut is not None:
            shortcut = self.convShortcut(active if self.activate_first else x)
        return out + shortcut


class WideStage(nn.Module):
    """Blocks of one width, kept under the official name ``layer``."""

    def __init__(self, blocks: list[WideBlock]) -> None:
        super().__init__()
        self.layer = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of the stage."""
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """A wide residual network of three stages.

    Args:
        num_classes: outputs of the classifier ``fc``; 0 leaves it out (pooled features come back).
        depth: 6 n + 4 for n blocks a stage.
        widen: the stages have 16, 32 and 64 times as many channels.
        first_stride: stride of the first stage; the other two halve the map.
        variant: see the module.
    """

    num_stages = 3

    def __init__(
        self,
        num_classes: int,
        *,
        depth: int,
        widen: int,
        first_stride: int = 1,
        variant: Variant = "openmixup",
    ) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"expected a depth of 6 n + 4, got {depth}")
        self.arch_options: dict[str, str | int | float] = {"stem": "cifar"}
        blocks, channels = (depth - 4) // 6, 16
        self.slope = SLOPES[variant]
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=variant == "openmixup")
        for i, stage_stride in enumerate((first_stride, 2, 2)):
            out = 16 * 2**i * widen
            layer = []
            for j in range(blocks):
                stride = stage_stride if j == 0 else 1
                active = variant == "official" or i == 0
                layer.append(WideBlock(channels, out, stride, active, variant))
                channels = out
            self.add_module(f"block{i + 1}", WideStage(layer))
        self.bn1 = _norm(channels, variant)
        self.num_features = channels
        self.fc = nn.Linear(channels, num_classes) if num_classes else nn.Identity()

    @property
    def stages(self) -> tuple[nn.Module, ...]:
        """The stages in order, without the norm and activation that follow the last one."""
        return tuple(self.get_submodule(f"block{i + 1}") for i in range(3))

    def forward_stem(self, x: Tensor) -> Tensor:
        """Return the input of the first stage for normalised images (N, 3, H, W)."""
        out: Tensor = self.conv1(x)
        return out

    def forward_stage(self, index: int, x: Tensor) -> Tensor:
        """Return the map of stage ``index`` (from 0); the last one is normed and activated."""
        out: Tensor = self.stages[index](x)
        return _activate(self.bn1, out, self.slope) if index == 2 else out

    def forward_features(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the three stages for normalised images (N, 3, H, W)."""
        maps = [self.forward_stem(x)]
        for i in range(3):
            maps.append(self.forward_stage(i, maps[-1]))
        return tuple(maps[1:])

    def forward_head(self, last: Tensor) -> Tensor:
        """Return logits (N, K) for the map of the last stage."""
        logits: Tensor = self.fc(last.mean(dim=(2, 3)))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, K) for normalised images (N, 3, H, W)."""
        return self.forward_head(self.forward_features(x)[-1])
