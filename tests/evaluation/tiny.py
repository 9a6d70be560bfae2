"""A tiny model and a tiny image set whose evaluation takes milliseconds."""

import torch
from torch import Tensor, nn

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.models.robust_model import RobustModel

CLASSES = 5
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Net(nn.Module):
    """Convolution, batch norm, pooling, linear: what can go wrong in a real one, but small."""

    def __init__(self, classes: int = CLASSES, seed: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6 * 16, classes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
            self.norm.running_mean.copy_(torch.randn(6, generator=generator))  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 4).flatten(1))  # type: ignore[no-any-return]


def tiny_model(net: nn.Module | None = None, classes: int = CLASSES) -> RobustModel:
    return RobustModel(
        net or Net(classes), mean=MEAN, std=STD, num_classes=classes, input_size=(3, 32, 32)
    )


def tiny_images(n: int = 103, classes: int = CLASSES, seed: int = 1) -> ImageSet:
    """Smooth random images, labelled so that ``tiny_model`` is right about two times in three."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 5, 5, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(32, 32), mode="bilinear")
    images = (smooth * 255).round().to(torch.uint8)
    with torch.no_grad():
        guess = tiny_model(classes=classes)(images.float() / 255).argmax(dim=1)
    noise = torch.randint(classes, (n,), generator=generator)
    keep = torch.rand(n, generator=generator) < 2 / 3
    return ImageSet(
        name="tiny",
        split="test",
        pixels=TensorPixels(images),
        labels=torch.where(keep, guess, noise),
        sample_ids=tuple(f"tiny/test/{i}" for i in range(n)),
        class_names=tuple(f"class {c}" for c in range(classes)),
        mean=MEAN,
        std=STD,
    )
