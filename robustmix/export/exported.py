"""What is told of an export, and what a format must give."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from robustmix.later import RobustModel


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a format has written, and how it was checked."""

    settings: Mapping[str, JsonValue]
    """What the program that reads the file must be told, by its own names."""

    difference: float
    """Largest difference of what the file gives from what the model gives, over the scale of the
    latter."""

    compared: str
    """What was compared, in words."""

    notes: tuple[str, ...] = ()
    """What the user should know of the file, a sentence each."""


Writer = Callable[..., Written]
"""(Model on a CPU, path to write) -> what was written; programs also take ``normalisation``."""

Normalisation = Literal["inside", "beside"]
"""Whether a program normalises its images, or wants normalised ones."""


def normalisation_of(robust: RobustModel) -> dict[str, JsonValue]:
    """Give a model's normalisation, in [0, 1] pixel units."""
    sides = {"mean": robust.mean, "std": robust.std}
    # As short as the numbers were before they became float32.
    return {
        name: [float(f"{value:.7g}") for value in side.flatten().tolist()]
        for name, side in sides.items()
    }


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A model in another program's form."""

    path: Path
    format: str
    written: Written
    normalisation: str = "beside"
    """Whether images are normalised ``inside`` what was written, or ``beside``: by who calls it."""

    pushed: str | None = None
    """Address of the commit on the hub, where it was put there."""

    model: Mapping[str, JsonValue] = field(default_factory=dict)
    """What was exported: source, digest, architecture."""

    def record(self) -> dict[str, JsonValue]:
        """Give all that is told, as JSON."""
        return {
            "format": self.format,
            "file": self.path.name,
            "model": dict(self.model),
            "normalisation": self.normalisation,
            "settings": dict(self.written.settings),
            "check": {
                "compared": self.written.compared,
                "largest_relative_difference": self.written.difference,
            },
            "notes": list(self.written.notes),
            **({"pushed": self.pushed} if self.pushed is not None else {}),
        }
