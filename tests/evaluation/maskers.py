"""A small network trained for seconds on the digits, and ways to make it look robust."""

import copy
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Split
from robustmix.models.robust_model import RobustModel


class Small(nn.Module):
    """Convolutions with batch norm; reads 16 x 16 averages, which is enough for digits."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.AvgPool2d(2)
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1, stride=2), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 16, 3, padding=1, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 16, 10),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.stem(x))  # type: ignore[no-any-return]


@cache
def digits(split: Split = "test") -> ImageSet:
    return load_dataset("digits", split)


@cache
def trained(seed: int = 0) -> nn.Module:
    """Return the network after 120 steps, in eval mode; about 96 % of the test digits are right."""
    data = digits("train")
    images = data.pixels.take(torch.arange(len(data))).float() / 255
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Small()
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        for step in range(120):
            rows = torch.arange(step * 64, (step + 1) * 64) % len(data)
            loss = F.cross_entropy(net((images[rows] - 0.5) / 0.5), data.labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return net.eval()


def robust(net: nn.Module) -> RobustModel:
    return RobustModel(net, mean=(0.5,) * 3, std=(0.5,) * 3, num_classes=10, input_size=(3, 32, 32))


class Around(nn.Module):
    """The trained network between two functions, with a flag for its mode."""

    def __init__(
        self,
        before: Callable[[Tensor], Tensor] | None = None,
        after: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.net = copy.deepcopy(trained())
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x if self.before is None else self.before(x))
        return out if self.after is None else self.after(out)


def quantised(x: Tensor) -> Tensor:
    """Round to 16 levels, with a gradient that pretends it did not."""
    return x + (((x + 1) * 7.5).round() / 7.5 - 1 - x).detach()


def rounded(x: Tensor) -> Tensor:
    """Round to 16 levels; the gradient is zero."""
    return ((x + 1) * 7.5).round() / 7.5 - 1


class BatchStatistics(nn.Module):
    """Batch norm as in training, whatever the mode says."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, self.weight, self.bias, training=True)


def with_batch_statistics() -> nn.Module:
    net = copy.deepcopy(trained())
    assert isinstance(net, Small)
    for at, layer in enumerate(net.body):
        if isinstance(layer, nn.BatchNorm2d):
            net.body[at] = BatchStatistics(layer)
    return net.eval()


class Adaptive(nn.Module):
    """Lowers the entropy of its answers by a step on its own images before it gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = copy.deepcopy(trained())

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            log_p = self.net(probe).log_softmax(dim=1)
            entropy = -(log_p.exp() * log_p).sum(dim=1)
            (gradient,) = torch.autograd.grad(entropy.sum(), probe)
        out: Tensor = self.net(x - 0.01 * gradient.sign())
        return out


def noisy(logits: Tensor) -> Tensor:
    return logits + 2 * torch.randn_like(logits)


MASKERS: dict[str, Callable[[], nn.Module]] = {
    "quantising input": lambda: Around(rounded),
    "quantising input, straight-through gradient": lambda: Around(quantised),
    "softmax fed as logits": lambda: Around(after=lambda z: z.softmax(dim=1)),
    "saturating temperature": lambda: Around(after=lambda z: 1e3 * z),
    "noise": lambda: Around(after=noisy),
    "batch statistics": with_batch_statistics,
    "stem without gradient": lambda: Around(Tensor.detach),
}
