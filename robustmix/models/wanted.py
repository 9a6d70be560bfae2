"""What the caller says of a model, and whether that agrees with what its file says."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from torch import Tensor

from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.models.layouts import Norm
from robustmix.models.names import NORM_PRESETS
from robustmix.models.openmixup import check_head_name
from robustmix.models.recorded import Recorded
from robustmix.models.registry import LARGEST_SIDE, Size, check_size
from robustmix.text import plain


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the caller says; None is left to the file."""

    arch: str | None
    num_classes: int | None
    input_size: Size | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    norm_preset: str | None
    class_map: Path | Sequence[int] | Tensor | None
    class_names: Sequence[str] | None
    head: str | None
    weights: str | None
    resize: int | tuple[int, int] | None
    override: bool = False
    """Whether it also holds where the file says otherwise."""

    backbone: bool = False
    """Whether a network without a classifier will do."""

    def __post_init__(self) -> None:
        """Raise UsageError for what no model can have."""
        if (self.mean is None) != (self.std is None):
            raise UsageError("--mean and --std go together", "give both", code="E-NORM")
        if self.norm_preset is not None and self.mean is not None:
            raise UsageError(
                "--norm-preset excludes --mean and --std", "give one of them", code="E-NORM"
            )
        if self.norm_preset is not None and self.norm_preset not in NORM_PRESETS:
            raise unknown_name("norm preset", plain(self.norm_preset, 80), NORM_PRESETS)
        if self.weights not in (None, "raw", "ema"):
            raise UsageError(
                f"unknown weights '{plain(self.weights, 80)}'",
                "choose raw or ema",
                code="E-WEIGHTS",
            )
        if self.head is not None:
            check_head_name(self.head)
        if self.num_classes is not None and not 0 < self.num_classes <= 10**6:
            raise UsageError(
                f"expected 1 to a million classes, got {plain(self.num_classes, 80)}",
                code="E-CLASSES",
            )
        if self.input_size is not None:
            check_size(self.input_size)
        _check_resize(self.resize)
        _check_norm(self.mean, self.std)

    @property
    def norm(self) -> Norm | None:
        """The normalisation that was given."""
        if self.norm_preset is not None:
            return NORM_PRESETS[self.norm_preset]
        if self.mean is None or self.std is None:
            return None
        return tuple(self.mean), tuple(self.std)

    @property
    def inner_size(self) -> tuple[int, int] | None:
        """Height and width that the images are resized to inside the model."""
        return (self.resize, self.resize) if isinstance(self.resize, int) else self.resize


def as_size(given: Sequence[int]) -> Size:
    """Return a size of images as it is kept.

    Raises:
        UsageError: it is not three integers.
    """
    size = tuple(given)
    if len(size) != 3 or not all(type(side) is int for side in size):
        raise UsageError("expected an input size (3, H, W) of integers", code="E-INPUT-SIZE")
    return size[0], size[1], size[2]


def _check_resize(resize: int | tuple[int, int] | None) -> None:
    sides = (resize,) if isinstance(resize, int) else resize or ()
    if not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides):
        raise UsageError(
            f"expected a resize from 1 to {LARGEST_SIDE} pixels, got {plain(resize, 80)}",
            code="E-INPUT-SIZE",
        )


def _check_norm(mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    if mean is None or std is None:
        return
    for name, values in (("mean", mean), ("std", std)):
        if not hasattr(values, "__len__"):
            raise UsageError(
                f"{name} {plain(values, 80)} is one number", "give one a channel", code="E-NORM"
            )
    # The bound is far above 0 to 255, and below where float32 loses an image in it.
    finite = all(math.isfinite(x) and abs(x) < 1e6 for x in (*mean, *std))
    if not finite or len(mean) != 3 or len(std) != 3 or not all(s >= 1e-6 for s in std):
        raise UsageError(
            f"mean {plain(mean, 80)} and std {plain(std, 80)} are no normalisation",
            "give finite numbers in [0, 1] pixel units, std above 0",
            code="E-NORM",
        )
    if min(mean) > 1:
        raise UsageError(
            f"mean {plain(mean, 80)} is brighter than white, which is 1",
            "give mean and std in [0, 1] pixel units: divide both by 255",
            code="E-NORM",
        )


Missing: TypeAlias = tuple[str, str, str]
"""Code of the error, what is missing, and what to do about it."""


def asked_for(name: str, missing: Sequence[Missing]) -> IntakeError:
    """Return one error for all that is missing, at least one, under the code of the first."""
    what = " and ".join(", ".join(item[1] for item in missing).rsplit(", ", 1))
    return IntakeError(
        f"{name} does not say its {what}",
        "; ".join(item[2] for item in missing),
        code=missing[0][0],
    )


def check_recorded(name: str, option: str, given: str | None, recorded: str | None) -> None:
    """Raise unless a choice that only the file can make is left to it or the same.

    Raises:
        IntakeError: it is another one.
    """
    if given is not None and given != recorded:
        raise IntakeError(
            f"{name} records {plain(recorded, 80)}, not {plain(given, 80)}",
            f"leave {option} out",
            code="E-MODEL",
        )


def contradictions(wanted: Wanted, recorded: Recorded, name: str) -> list[str]:
    """Return notes on what the caller says otherwise than the file.

    Raises:
        IntakeError: the caller does, and has not said that it overrides the file.
    """
    found = []
    size, norm, inner = wanted.input_size, wanted.norm, recorded.resize
    if size is not None and recorded.input_size is not None and size != recorded.input_size:
        found.append(
            ("W-INPUT-SIZE", "--img-size", f"trained on images {recorded.input_size}, given {size}")
        )
    if norm is not None and recorded.norm is not None and not norms_agree(norm, recorded.norm):
        option = "--norm-preset" if wanted.norm_preset else "--mean and --std"
        found.append(("W-NORM", option, f"trained with mean and std {recorded.norm}, given {norm}"))
    if wanted.inner_size is not None and inner is not None and wanted.inner_size != (inner, inner):
        found.append(
            ("W-RESIZE", "resize", f"trained on images resized to {inner}, given {wanted.resize}")
        )
    if found and not wanted.override:
        _, option, what = found[0]
        place = f"{name}, {recorded.where}" if recorded.where else name
        raise IntakeError(
            f"{option} contradicts {place}: {what}",
            f"leave {option} out, or pass --override-checkpoint",
            code="E-MODEL",
        )
    return [f"{code}: {what}" for code, _, what in found]


def norms_agree(one: Norm, other: Norm) -> bool:
    """Tell whether two normalisations are the same but for how they were written down."""
    return all(
        math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-7)
        for first, second in zip(one, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )
