"""A suite that the page has never heard of, as somebody else would write it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch

from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Found,
    Part,
    Prepared,
    Scene,
    Suite,
)
from robustmix.metrics.definition import Numbers
from robustmix.report.rows import Rows
from robustmix.report.schema import (
    CheckPart,
    CurvePart,
    Shown,
    SuitePart,
    TablePart,
    VerdictPart,
    Warn,
)


@dataclass(frozen=True, kw_only=True)
class PreparedToy(Prepared):
    """Brightnesses."""

    kind: ClassVar[str] = "toy"

    levels: tuple[float, ...]

    def parts(self, context: Context) -> list[Part]:
        return [Part("dim", tuple(map(str, self.levels)), partial(self._rows, context))]

    def _rows(self, context: Context, batch: Batch) -> Mapping[str, Columns]:
        with torch.no_grad():
            return {
                str(level): {"logits": context.model(batch.pixels() * level)}
                for level in self.levels
            }

    def numbers(self, rows: Rows) -> Numbers:
        darkest = str(self.levels[0])
        numbers: Numbers = {
            ("", "acc_dark"): partial(rows.share, darkest),
            ("", "sure_dark"): partial(rows.average, darkest, "confidence", direction="neither"),
        }
        for level in self.levels:
            numbers[str(level), "acc"] = partial(rows.share, str(level))
        return numbers

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        curve = CurvePart(
            name="dimmed",
            x_label="brightness",
            x=list(self.levels),
            at=list(map(str, self.levels)),
        )
        table = TablePart(
            name="right",
            caption="Images that are right",
            columns=["level", "right", "share", "dark"],
            rows=[
                [
                    f"level {level}",
                    int(rows.column(str(level), "correct").sum()),
                    round(float(rows.mean(str(level), "correct").mean()), 4),
                    level < 0.5,
                ]
                for level in self.levels
            ],
            units={"share": "fraction"},
        )
        check = CheckPart(
            id="D1",
            title="too dark",
            status="warn",
            value=0.25,
            warn=0.1,
            fail=0.5,
            n=7,
            text="dim",
        )
        verdict = VerdictPart(
            title="light", verdict="rather_dim", reason="the lamp is old", n=7, checks=[check]
        )
        return Found(curves=[curve], tables=[table], verdicts=[verdict])

    def shown(self, part: SuitePart) -> Shown:
        names = ["acc_dark", "sure_dark"]
        return Shown(
            headline=names, compared=names, gated=names[:1], note="2 lamps", section="Toys"
        )

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        return [Warn(code="W-LAMP", suite=key, message="the lamp flickers")]


@dataclass(frozen=True, kw_only=True)
class Toy(Suite):
    """Accuracy in the dark."""

    recorded: ClassVar[type[Prepared]] = PreparedToy

    levels: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Brightnesses, rising."""

    def prepare(self, scene: Scene) -> PreparedToy:
        return PreparedToy(levels=self.levels)
