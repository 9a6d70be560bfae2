"""Small models and images whose answers are known."""

import torch
from torch import Tensor, nn

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.models.robust_model import RobustModel

SIZE = (3, 5, 7)
"""Of the images: sides are small, different and prime, so that no two can be exchanged unseen."""

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Linear(nn.Module):
    """Two classes whose margin is weight . x, so every optimum is known."""

    def __init__(self, size: tuple[int, int, int] = SIZE) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(size, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 2)."""
        margin = (x * self.weight).flatten(1).sum(dim=1)
        return torch.stack([margin, torch.zeros_like(margin)], dim=1)


class Convolutional(nn.Module):
    """Convolution, batch norm, dropout, a classifier: training mode would change the logits."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(6, classes)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
            assert isinstance(self.norm.running_mean, Tensor)
            self.norm.running_mean.copy_(torch.randn(6, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        x = torch.relu(self.norm(self.conv(x))).mean(dim=(2, 3))
        return self.fc(self.drop(x))  # type: ignore[no-any-return]


def linear_model(device: torch.device) -> RobustModel:
    """Return the linear problem as every suite would see it."""
    return RobustModel(Linear(), mean=MEAN, std=STD, num_classes=2, input_size=SIZE).to(device)


def convolutional_model(device: torch.device, size: tuple[int, int, int] = SIZE) -> RobustModel:
    """Return the network with batch norm as every suite would see it."""
    with torch.random.fork_rng(devices=[]):  # the layers' own initialisation draws
        net = Convolutional()
    return RobustModel(net, mean=MEAN, std=STD, num_classes=5, input_size=size).to(device)


def pixels(n: int, size: tuple[int, int, int] = SIZE) -> Tensor:
    """Return random images on the 8-bit grid, uint8 (n, 3, H, W), black and white among them."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (n, *size), generator=generator, dtype=torch.uint8)
    images[0, :, 0], images[0, :, 1] = 0, 255
    return images


def unit_images(n: int, device: torch.device, size: tuple[int, int, int] = SIZE) -> Tensor:
    """Return ``pixels`` as float32 in [0, 1], on the device."""
    return pixels(n, size).to(device).float() / 255


def inner_images(n: int, device: torch.device) -> Tensor:
    """Return images of mid-grey, so that a ball of 0.2 around them stays in [0, 1]."""
    return 0.4 + 0.2 * unit_images(n, device)


def image_set(n: int = 23) -> ImageSet:
    """Return a small labelled set of 16x16 images."""
    return ImageSet(
        name="doctor",
        split="test",
        pixels=TensorPixels(pixels(n, (3, 16, 16))),
        labels=torch.arange(n) % 5,
        sample_ids=tuple(f"doctor/test/{i}" for i in range(n)),
        class_names=tuple("abcde"),
        mean=MEAN,
        std=STD,
    )
