"""The tiny networks of the vectors of methods, as the reference's README describes them."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.reference.vectors import Vectors


class Tiny(nn.Module):
    """The network of Co-Mixup and SuperMix: one convolution, and a 4x4 map to a linear layer."""

    def __init__(self, case: Vectors) -> None:
        super().__init__()
        weights = case.under("w.")
        planes, classes = len(weights["conv.bias"]), len(weights["fc.bias"])
        self.conv = nn.Conv2d(3, planes, 3, padding=1)
        self.bn = nn.BatchNorm2d(planes)
        self.fc = nn.Linear(16 * planes, classes)
        self.load_state_dict(weights)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.bn(self.conv(images)))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(maps, 4).flatten(1))
        return logits


class PreActBlock(nn.Module):
    """Norm, ReLU and convolution, twice; the shortcut leaves after the first ReLU."""

    def __init__(self, before: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        if stride != 1 or before != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(before, planes, 1, stride, bias=False))

    def forward(self, maps: Tensor) -> Tensor:
        ready = torch.relu(self.bn1(maps))
        past = self.shortcut(ready) if hasattr(self, "shortcut") else maps
        found: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(ready)))) + past
        return found


class PreActNet(nn.Module):
    """The pre-activation ResNet of ManifoldMix's authors, whose stages are listed as timm's are."""

    feature_info = ({"module": "layer1"}, {"module": "layer2"})

    def __init__(self, case: Vectors) -> None:
        super().__init__()
        weights = case.under("w.")
        planes = len(weights["conv1.weight"])
        self.conv1 = nn.Conv2d(3, planes, 3, padding=1, bias=False)
        before = planes
        for stage in range(1, 5):
            depth = len({k.split(".")[1] for k in weights if k.startswith(f"layer{stage}.")})
            blocks = []
            for place in range(depth):
                width = len(weights[f"layer{stage}.{place}.conv1.weight"])
                blocks.append(PreActBlock(before, width, 2 if stage > 1 and not place else 1))
                before = width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(before, len(weights["linear.bias"]))
        self.load_state_dict(weights)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv1(images)
        for stage in range(1, 5):
            maps = self.get_submodule(f"layer{stage}")(maps)
        logits: Tensor = self.linear(F.avg_pool2d(maps, 4).flatten(1))
        return logits
