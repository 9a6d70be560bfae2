"""How test images are prepared: the choice, apart from the pixels. Nothing here needs torch."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, get_args

from robustmix.data.augment import Interpolation

LARGEST = 8192
"""Pixels that a side may have."""

_TEXT = re.compile(
    r"resize([1-9][0-9]{0,4})-([a-z]+)(?:\+centercrop([1-9][0-9]{0,4}))?"
    r"|centercrop([1-9][0-9]{0,4})"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TestTransform:
    """A resize and a central crop, in this order; without both, images stay as they are.

    Raises:
        ValueError: a side is not in 1 to 8192, the crop is larger than the resized image, or
            there is no such interpolation.
    """

    __test__ = False  # no test of pytest's
    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid"}

    resize: int | None = None
    """Pixels that the shorter side of an image file is resized to; of images in memory, both."""

    interpolation: Interpolation = "bicubic"
    """How it is resized."""

    crop: int | None = None
    """Side in pixels of the central square that is cut out."""

    def __post_init__(self) -> None:
        for name, side in (("resize", self.resize), ("crop", self.crop)):
            if side is not None and not (type(side) is int and 1 <= side <= LARGEST):
                raise ValueError(f"expected {name} from 1 to {LARGEST} pixels, got {side!r:.40}")
        known = get_args(Interpolation)
        if self.interpolation not in known:
            raise ValueError(
                f"expected interpolation {' or '.join(known)}, got {self.interpolation!r:.40}"
            )
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise ValueError(
                f"expected crop <= resize, got a crop of {self.crop} from {self.resize} pixels"
            )

    def text(self) -> str:
        """Return the name that reports give it.

        Example:
            >>> TestTransform(resize=256, interpolation="bilinear", crop=224).text()
            'resize256-bilinear+centercrop224'
            >>> TestTransform().text()
            'none'
        """
        steps = []
        if self.resize is not None:
            steps.append(f"resize{self.resize}-{self.interpolation}")
        if self.crop is not None:
            steps.append(f"centercrop{self.crop}")
        return "+".join(steps) or "none"

    @classmethod
    def parse(cls, text: str) -> "TestTransform":
        """Read what ``text`` wrote.

        Raises:
            ValueError: it is of another form.

        Example:
            >>> TestTransform.parse("resize64-bicubic")
            TestTransform(resize=64, interpolation='bicubic', crop=None)
        """
        if text == "none":
            return cls()
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(
                "expected 'none' or a form like 'resize256-bilinear+centercrop224', "
                f"got {text!r:.60}"
            )
        resize, interpolation, crop, alone = found.groups()
        crop = crop or alone
        record = {"interpolation": interpolation, "resize": resize and int(resize)}
        return cls.of_record({**record, "crop": crop and int(crop)})

    def record(self) -> dict[str, int | str]:
        """Return what is said as a table, e.g. for TOML, which has no None."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def of_record(cls, record: Mapping[str, object]) -> "TestTransform":
        """Read what ``record`` returned; keys that are absent or None have their default.

        Raises:
            ValueError: a key or a value is impossible.
        """
        unknown = set(record) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"no key of a test transform: {sorted(map(str, unknown))[0]!r:.40}")
        said = {name: value for name, value in record.items() if value is not None}
        return cls(**said)  # type: ignore[arg-type]  # __post_init__ checks what they are

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of a resized image file, as torchvision's ``Resize`` has them."""
        return (width, height) if self.resize is None else shorter_side(width, height, self.resize)

    def corner(self, width: int, height: int) -> tuple[int, int]:
        """Return left and top of the central square in an image that is resized already.

        As torchvision's ``CenterCrop`` has them; negative where the image is smaller.
        """
        if self.crop is None:
            return 0, 0
        return round((width - self.crop) / 2), round((height - self.crop) / 2)


def shorter_side(width: int, height: int, side: int) -> tuple[int, int]:
    """Return width and height of an image whose shorter side becomes ``side``.

    Example:
        >>> shorter_side(500, 375, 256)
        (341, 256)
    """
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side
