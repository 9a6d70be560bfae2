"""Attacks whose images are made on another model, and shown to the one under test."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from robustmix.evaluation.params import eps_name, recorded, unrecorded
from robustmix.evaluation.suite import Batch, Columns, Context, Found
from robustmix.evaluation.suites.attack_rows import IDENTITY
from robustmix.evaluation.suites.attack_work import EachRadius, Tools
from robustmix.later import RobustModel, Tensor, torch
from robustmix.report.rows import Rows
from robustmix.report.schema import SuitePart
from robustmix.types import Model

RIGHT = "surrogate_correct"
"""Column: whether the surrogate classifies the image correctly, 0 or 1."""


@dataclass(frozen=True, kw_only=True)
class Transferred(EachRadius):
    """An attack on a surrogate, called once for every radius."""

    surrogate: str
    """Its architecture, and the file or name it came from."""

    surrogate_sha256: str
    """Of its parameters and buffers."""

    tested_otherwise: str | None = recorded(None, omit_default=True)
    """How images were prepared when the surrogate was tested, where the model's were otherwise."""

    network: RobustModel | None = unrecorded(None)
    """The surrogate itself; None in what is read from a record."""

    @cached_property
    def asked(self) -> Model:
        """The surrogate, its answer to an image the same in every batch."""
        from robustmix.models.robust_model import padded

        assert self.network is not None, "what is read from a record is not run"
        return padded(self.network)

    def tools(self, context: Context) -> Tools:
        """Open what the passes work with."""
        assert self.network is not None, "what is read from a record is not run"
        self.network.to(context.device)
        return super().tools(context)

    def given(self) -> Mapping[str, Any]:
        """Give the options, and the surrogate."""
        return {**super().given(), "surrogate": self.asked}

    def beside(self, images: Tensor, batch: Batch) -> Columns:
        """Ask the surrogate too."""
        with torch.no_grad():
            return {RIGHT: self.asked(images).argmax(dim=1) == batch.labels}

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Say how well the surrogate does, for images made on a poor one tell little."""
        made = super().found(rows, numbers)
        clean, left = (
            float(rows.column(condition, RIGHT).mean())
            for condition in (IDENTITY, eps_name(self.eps))
        )
        made.notes.append(
            f"the surrogate, {self.surrogate}, is right on {clean:.1%} of the clean images and on "
            f"{left:.1%} of those made on it"
        )
        if clean < 2 / rows.num_classes:
            made.notes.append(
                "that is hardly more than chance: see whether its classes are in this order and "
                "its normalisation is right"
            )
        if self.tested_otherwise:
            made.notes.append(f"the surrogate was tested on images {self.tested_otherwise}")
        return made
