"""How a data set's training images are augmented: the choice, apart from the arithmetic."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

Interpolation: TypeAlias = Literal["bilinear", "bicubic"]
PadMode: TypeAlias = Literal["reflect", "zero"]
RandPolicy: TypeAlias = Literal["fixmatch", "increasing"]
RGB: TypeAlias = tuple[int, int, int]

CIFAR_FILL: RGB = (114, 123, 125)
"""CIFAR's mean colour with red and blue exchanged: OpenMixup fills RGB images with a BGR colour."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Training augmentation of one data set.

    Reference:
        The configurations published with OpenMixup and AdAutoMix, per data set.
    """

    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid"}  # for the manifests

    kind: Literal["none", "crop-flip", "random-resized-crop"] = "none"
    """``crop-flip`` pads and crops back to the same size; ``random-resized-crop`` cuts a box."""

    flip: bool = True
    """Whether half of the images are mirrored left to right; ``none`` never mirrors."""

    padding: int = 4
    """Pixels added on each side before the crop (``crop-flip``)."""

    mode: PadMode = "reflect"
    """What is padded with: the mirrored image, or black (``crop-flip``)."""

    size: int | None = None
    """Side of the square result in pixels; None keeps the images' own (``random-resized-crop``)."""

    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the box's share of the image area (``random-resized-crop``)."""

    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Range of the box's width divided by its height (``random-resized-crop``)."""

    interpolation: Interpolation = "bicubic"
    """How the box is resized (``random-resized-crop``)."""

    resize: int | None = None
    """Shorter side that image files are first resized to (``random-resized-crop``)."""

    drop_last: bool = False
    """Whether the published recipe leaves an incomplete last batch out."""

    rand_ops: int = 0
    """RandAugment's operations an image, after cropping and mirroring; 0 is no RandAugment."""

    rand_magnitude: float = 7.0
    """Mean of their levels, from 0 to 10."""

    rand_std: float = 0.5
    """Standard deviation of their levels."""

    rand_policy: RandPolicy = "fixmatch"
    """Operations to choose among: ``fixmatch`` is CIFAR's set, ``increasing`` ImageNet's
    (timm's ``rand-...-inc1``), whose every operation is stronger at a higher level."""

    rand_fill: RGB = CIFAR_FILL
    """Red, green and blue, from 0 to 255, of what turning, shearing and moving uncover."""

    erase_prob: float = 0.0
    """Share of the images that have one rectangle replaced by normal noise after normalisation."""

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"expected padding >= 0, got {self.padding}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"expected 0 < scale[0] <= scale[1] <= 1, got {self.scale}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"expected 0 < ratio[0] <= ratio[1], got {self.ratio}")
        self._check_rand()
        if not 0 <= self.erase_prob <= 1:
            raise ValueError(f"expected 0 <= erase_prob <= 1, got {self.erase_prob}")
        for name, value in (("size", self.size), ("resize", self.resize)):
            if value is not None and value < 1:
                raise ValueError(f"expected {name} >= 1, got {value}")

    def _check_rand(self) -> None:
        if self.rand_ops < 0:
            raise ValueError(f"expected rand_ops >= 0, got {self.rand_ops}")
        if not 0 <= self.rand_magnitude <= 10:
            raise ValueError(f"expected 0 <= rand_magnitude <= 10, got {self.rand_magnitude}")
        if not 0 <= self.rand_std < math.inf:
            raise ValueError(f"expected a finite rand_std >= 0, got {self.rand_std}")
        if self.rand_policy not in get_args(RandPolicy):
            raise ValueError(f"expected rand_policy fixmatch or increasing, got {self.rand_policy}")
        if len(self.rand_fill) != 3 or not all(0 <= value <= 255 for value in self.rand_fill):
            raise ValueError(
                f"expected rand_fill as three values from 0 to 255, got {self.rand_fill}"
            )
