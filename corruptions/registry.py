"""The one table of corruptions: what there is, known without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from robustmix.errors import UsageError
from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from robustmix.corruptions.corruption import Corruption

Benchmark: TypeAlias = Literal["main", "extra"]

ALIASES: Mapping[str, str] = {
    "frosted_glass_blur": "glass_blur",
    "elastic": "elastic_transform",
    "jpeg": "jpeg_compression",
}

# In the order of the benchmark, which is that of reports: name -> group and help.
_OWN: Mapping[Benchmark, Mapping[str, tuple[str, str]]] = {
    "main": {
        "gaussian_noise": ("noise", "normal noise on every value, as in low light"),
        "shot_noise": ("noise", "Poisson noise: light counted in few photons"),
        "impulse_noise": ("noise", "salt and pepper: single values become black or white"),
        "defocus_blur": ("blur", "a disk-shaped blur, as out of focus"),
        "glass_blur": (
            "blur",
            "pixels displaced at random between two blurs, as behind frosted glass",
        ),
        "motion_blur": ("blur", "a one-sided blur along a random direction"),
        "zoom_blur": ("blur", "the mean of the image at several magnifications"),
        "snow": ("weather", "falling flakes, smeared by motion, on a whitened image"),
        "frost": ("weather", "ice crystals laid over the image"),
        "fog": ("weather", "a fractal haze that also lowers contrast"),
        "brightness": ("weather", "a constant added to the HSV value"),
        "contrast": ("digital", "values drawn towards the mean of their channel"),
        "elastic_transform": ("digital", "a random affine map and small local displacements"),
        "pixelate": ("digital", "the image scaled down and up again with a box filter"),
        "jpeg_compression": ("digital", "JPEG at low quality (IJG library 9, 4:2:0)"),
    },
    "extra": {
        "speckle_noise": ("noise", "normal noise in proportion to the value"),
        "gaussian_blur": ("blur", "a blur with a Gaussian kernel"),
        "spatter": ("weather", "drops of water or splashes of mud on the lens"),
        "saturate": ("digital", "the HSV saturation lowered or raised"),
    },
}


@dataclass(frozen=True)
class CorruptionRow(Row):
    """One corruption of the table."""

    group: str = "other"
    """Those of a group share a mean. A block of the heat map has those of the benchmark's groups;
    all that is not of the benchmark stands in the last one."""

    benchmark: Benchmark | None = None
    """Of the benchmark's 15 or of its 4 for validation. None for all others: sets of a fixed name
    must not change with what is installed."""

    def __post_init__(self) -> None:
        if self.origin is not None and self.benchmark is not None:
            raise UsageError("the benchmark's corruptions are fixed", "leave benchmark out")


BENCHMARK: Mapping[str, CorruptionRow] = {
    name: CorruptionRow(f"robustmix.corruptions.{name}:CORRUPTION", text, None, group, benchmark)
    for benchmark, rows in _OWN.items()
    for name, (group, text) in rows.items()
}
"""The 19, whatever else there is."""


# Any: every corruption has its own type of draws, which only its own apply ever receives.
CORRUPTIONS: "Table[Corruption[Any], CorruptionRow]" = Table(
    "corruption",
    CorruptionRow,
    BENCHMARK,
    reserved=("main", "extra", "all", *ALIASES),
    adapt="robustmix.corruptions.corruption:as_corruption",
)
"""Every corruption by name; a plain function (images, severity) -> images may be registered too."""
