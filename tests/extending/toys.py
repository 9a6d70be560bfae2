"""The numbers that the pages of docs/extend add, made again by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

import robustmix
from robustmix.data.datasets import load_dataset
from robustmix.report.samples import Samples
from tests.extending.pages import IMAGES, Desk, Page, Said

Right = NDArray[np.bool_]
"""Of each image, whether it counts."""

Z = stats.norm.ppf(0.975)


class Session(NamedTuple):
    """A page that was followed from its first command to its last."""

    desk: Desk
    said: dict[str, Said]
    """By the command as the page has it."""

    @property
    def page(self) -> Page:
        return self.desk.page

    @property
    def evaluation(self) -> str:
        """The command that made report ``a``."""
        return next(c for c in self.page.commands if " eval " in c and "--out a" in c)

    def of(self, start: str) -> Said:
        """What the command said that starts so."""
        (found,) = (said for line, said in self.said.items() if line.startswith(start))
        return found


class Toy(NamedTuple):
    """A number that a page adds."""

    page: str
    name: str
    """Of what is added, in its table."""

    suite: str
    """Where the report has the number."""

    metric: str
    right: Callable[[nn.Module, Tensor, Tensor], Right]
    """(model, pixels uint8, labels) -> the images that count."""

    condition: str = ""

    @property
    def path(self) -> str:
        return f"{self.suite}.{self.metric}" + (f"[{self.condition}]" if self.condition else "")


def predicted(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(images.float() / 255 if images.dtype == torch.uint8 else images)
    return found


def flipped(model: nn.Module, pixels: Tensor, labels: Tensor, *, axis: int = 2) -> Right:
    return (predicted(model, pixels.flip(axis)).argmax(dim=1) == labels).numpy()


def shaded(
    model: nn.Module, pixels: Tensor, labels: Tensor, *, signs: tuple[int, ...] = (1,)
) -> Right:
    right = torch.ones(len(labels), dtype=torch.bool)
    for sign in (0, *signs):
        images = (pixels.float() / 255 + sign * 16 / 255).clamp(0, 1)
        right &= predicted(model, images).argmax(dim=1) == labels
    return right.numpy()


def surely(model: nn.Module, pixels: Tensor, labels: Tensor) -> Right:
    confidence, answer = predicted(model, pixels).softmax(dim=1).max(dim=1)
    return ((answer == labels) & (confidence > 0.5)).numpy()


def posterised(model: nn.Module, pixels: Tensor, labels: Tensor, *, severity: int = 5) -> Right:
    coarse = pixels - pixels % 2 ** (2 + severity)
    return (predicted(model, coarse).argmax(dim=1) == labels).numpy()


TOYS = (
    Toy("suite", "mirrored", "mirrored", "acc", flipped),
    Toy("attack", "shade", "shade", "robust_acc", shaded),
    Toy("metric", "clean.sure", "clean", "sure", surely),
    Toy("corruption", "posterise", "corruption", "acc", posterised, "posterise/5"),
)


class Evaluated(NamedTuple):
    """Both reports of a toy, and who is right by hand."""

    toy: Toy
    session: Session
    a: Right
    b: Right

    @property
    def desk(self) -> Desk:
        return self.session.desk

    @property
    def number(self) -> dict[str, Any]:
        """The number as report ``a`` has it."""
        part = self.desk.report("a")["suites"][self.toy.suite]
        metrics = {one["name"]: one["metrics"] for one in part["conditions"]}
        found: dict[str, Any] = {"": part["metrics"], **metrics}[self.toy.condition]
        return found[self.toy.metric]  # type: ignore[no-any-return]

    @property
    def cells(self) -> list[str]:
        """Value, interval and n as tables show them."""
        low, high = wilson(self.a)
        interval = f"[{100 * low:.2f}, {100 * high:.2f}]"
        return [f"{100 * self.a.mean():.2f} %", interval, str(IMAGES)]


def by_hand(toy: Toy, folder: Path, network: str) -> Right:
    samples = Samples.load(folder / "a" / "samples.npz")
    data = load_dataset("digits", "test")
    places = torch.tensor([data.sample_ids.index(name) for name in samples.sample_ids])
    model = robustmix.load_model(folder / network)
    return toy.right(model, data.pixels.take(places), data.labels[places])


def wilson(right: Right) -> tuple[float, float]:
    n, p = len(right), right.mean()
    middle, half = p + Z**2 / (2 * n), Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return (middle - half) / (1 + Z**2 / n), (middle + half) / (1 + Z**2 / n)
