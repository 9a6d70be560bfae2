"""How test images are prepared: the choice, apart from the pixels. Nothing here needs torch."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar, Literal, TypeAlias, get_args

LARGEST = 8192
"""Pixels that a side may have."""

TestInterpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic", "lanczos"]
CropMode: TypeAlias = Literal["center", "squash", "border"]

_SIDE = r"([1-9][0-9]{0,4})"
_LEVEL = r"([0-9]{1,3})"
_TEXT = re.compile(
    rf"resize{_SIDE}-([a-z]+)(?:-(?:(squash)|border{_LEVEL}\.{_LEVEL}\.{_LEVEL}))?"
    rf"(?:\+centercrop{_SIDE})?|centercrop{_SIDE}"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TestTransform:
    """A resize and a central crop, in this order; without both, images stay as they are.

    Raises:
        ValueError: a side is not in 1 to 8192, the crop is larger than the resized image, there is
            no such interpolation or mode, or the mode lacks what it needs.
    """

    __test__ = False  # no test of pytest's
    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid"}

    resize: int | None = None
    """Pixels that the shorter side is resized to; other ``crop_mode``s say what else."""

    interpolation: TestInterpolation = "bicubic"
    """How it is resized, as Pillow does."""

    crop: int | None = None
    """Side in pixels of the central square that is cut out."""

    crop_mode: CropMode = "center"
    """``squash`` resizes both sides to ``resize``, so nothing but the aspect is lost; ``border``
    the longer side, and fills what the crop then lacks with ``fill``."""

    fill: tuple[int, int, int] | None = None
    """Colour of the border, R, G, B from 0 to 255; timm's is the mean of the normalisation."""

    def __post_init__(self) -> None:
        for name, side in (("resize", self.resize), ("crop", self.crop)):
            if side is not None and not (type(side) is int and 1 <= side <= LARGEST):
                raise ValueError(f"expected {name} from 1 to {LARGEST} pixels, got {side!r:.40}")
        for name, value, known in (
            ("interpolation", self.interpolation, get_args(TestInterpolation)),
            ("crop_mode", self.crop_mode, get_args(CropMode)),
        ):
            if value not in known:
                raise ValueError(f"expected {name} {' or '.join(known)}, got {value!r:.40}")
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise ValueError(
                f"expected crop <= resize, got a crop of {self.crop} from {self.resize} pixels"
            )
        if self.crop_mode != "center" and self.resize is None:
            raise ValueError(f"expected resize beside crop_mode {self.crop_mode}")
        self._check_border()

    def _check_border(self) -> None:
        if self.crop_mode != "border":
            if self.fill is not None:
                raise ValueError("expected no fill: it is the colour of crop_mode border")
        elif self.crop is None:
            raise ValueError("expected crop beside crop_mode border, which fills it up")
        elif self.fill is None or not (
            len(self.fill) == 3 and all(type(v) is int and 0 <= v <= 255 for v in self.fill)
        ):
            raise ValueError(
                f"expected fill beside crop_mode border, three levels to 255, got {self.fill!r:.40}"
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
            mode = "" if self.crop_mode == "center" else f"-{self.crop_mode}"
            colour = ".".join(map(str, self.fill or ()))
            steps.append(f"resize{self.resize}-{self.interpolation}{mode}{colour}")
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
            TestTransform(resize=64, interpolation='bicubic', crop=None, crop_mode='center', \
fill=None)
        """
        if text == "none":
            return cls()
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ValueError(
                "expected 'none' or a form like 'resize256-bilinear+centercrop224', "
                f"got {text!r:.60}"
            )
        resize, interpolation, squash, red, green, blue, crop, alone = found.groups()
        crop = crop or alone
        record: dict[str, object] = {
            "interpolation": interpolation,
            "resize": resize and int(resize),
            "crop": crop and int(crop),
        }
        if squash:
            record["crop_mode"] = "squash"
        if red:
            record |= {"crop_mode": "border", "fill": (int(red), int(green), int(blue))}
        return cls.of_record(record)

    def record(self) -> dict[str, object]:
        """Return what is said as a table, e.g. for TOML, which has no None.

        The mode ``center`` is what a table means that does not name one.
        """
        said = {name: value for name, value in asdict(self).items() if value is not None}
        if self.crop_mode == "center":
            del said["crop_mode"]
        return said

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
        fill = said.get("fill")
        if isinstance(fill, list):  # as TOML and JSON have it
            said["fill"] = tuple(fill)
        return cls(**said)  # type: ignore[arg-type]  # __post_init__ checks what they are

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of a resized image.

        As torchvision's ``Resize`` has them, and timm's ``ResizeKeepRatio`` for the border.
        """
        if self.resize is None:
            return width, height
        if self.crop_mode == "squash":
            return self.resize, self.resize
        if self.crop_mode == "border":
            ratio = max(width / self.resize, height / self.resize)
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        return shorter_side(width, height, self.resize)

    def corner(self, width: int, height: int) -> tuple[int, int]:
        """Return left and top of the central square in an image that is resized already.

        As torchvision's ``CenterCrop`` has them; negative where the image is smaller.
        """
        if self.crop is None:
            return 0, 0
        return _offset(width, self.crop), _offset(height, self.crop)

    @property
    def fills(self) -> bool:
        """Whether a crop that is larger than the image is filled up."""
        return self.crop_mode == "border"


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformOptions:
    """What a user says of the preparation of test images; None leaves it as it is."""

    resize: int | None = None
    crop_pct: float | None = None
    """Share of the resized image's side that the network gets, as timm has it."""

    interpolation: str | None = None
    crop_mode: str | None = None

    @property
    def said(self) -> list[str]:
        """Names of the options that are given."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def over(
        self, base: TestTransform, side: int, mean: tuple[float, float, float]
    ) -> TestTransform:
        """Return ``base`` with what is said here, for networks that get squares of ``side``.

        ``crop_pct`` resizes to the whole part of side / crop_pct, as timm does. The border has the
        colour of ``mean``.

        Args:
            base: what would be done otherwise.
            side: of the images that the network gets, in pixels.
            mean: of the normalisation, in [0, 1] pixel units.

        Raises:
            ValueError: options exclude each other, have no effect or are impossible.

        Example:
            >>> base = TestTransform(resize=256, crop=224)
            >>> TransformOptions(crop_pct=0.95).over(base, 224, (0, 0, 0)).text()
            'resize235-bicubic+centercrop224'
        """
        if self.resize is not None and self.crop_pct is not None:
            raise ValueError("resize and crop_pct exclude each other: give one of them")
        if self.crop_pct is not None and not 0 < self.crop_pct <= 1:
            raise ValueError(f"expected 0 < crop_pct <= 1, got {self.crop_pct!r:.40}")
        resize = self.resize
        if self.crop_pct is not None:
            resize = math.floor(side / self.crop_pct)
        elif resize is None and base.resize is not None:
            resize = math.floor(side * base.resize / (base.crop or base.resize))
        if resize is None:
            raise ValueError(
                f"{self.said[0]} has no effect: nothing is resized; add resize or crop_pct"
            )
        mode = self.crop_mode or base.crop_mode
        known: dict[str, object] = {"resize": resize, "crop": side, "crop_mode": mode}
        if mode == "border":
            known["fill"] = tuple(round(255 * level) for level in mean)
        return TestTransform.of_record(
            {**known, "interpolation": self.interpolation or base.interpolation}
        )


def _offset(extent: int, crop: int) -> int:
    return round((extent - crop) / 2) if extent >= crop else -((crop - extent) // 2)


def shorter_side(width: int, height: int, side: int) -> tuple[int, int]:
    """Return width and height of an image whose shorter side becomes ``side``.

    Example:
        >>> shorter_side(500, 375, 256)
        (341, 256)
    """
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side
