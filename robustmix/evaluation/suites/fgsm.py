"""The published tool's FGSM, under its own name: what its tables were made with."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import ClassVar

from robustmix.attacks import input_gradient, paper_fgsm_step
from robustmix.attacks.ball import lengths
from robustmix.errors import UsageError
from robustmix.evaluation.options import option
from robustmix.evaluation.params import exact_name, recorded
from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Found,
    Part,
    Passes,
    Prepared,
    Scene,
    Suite,
)
from robustmix.evaluation.suites.attack_rows import (
    check_threat,
    headline_radius,
    only_first_note,
    parse_eps,
)
from robustmix.evaluation.suites.attack_work import (
    AttackDetails,
    shown_attack,
    single_step_warnings,
)
from robustmix.later import torch
from robustmix.metrics.definition import Definition, Numbers, share
from robustmix.report.rows import Rows
from robustmix.report.schema import Shown, SuitePart, Warn

NOTE = "eps was added to the normalised tensor and that clamped to [0, 1]: no 8/255 pixel attack"


@dataclass(frozen=True, kw_only=True)
class PreparedPaperFgsm(Prepared):
    """FGSM as the published analysis scripts compute it, and their clamp without any attack."""

    kind: ClassVar[str] = "attack"

    norm: str = "linf"
    eps: Fraction
    """What the tool adds to the normalised tensor."""

    steps: int = 1
    random_start: bool = False
    loss: str = "ce-sum"
    label: str = "true"
    space: str = "normalised"
    clamp: str = "normalised to [0, 1]"
    nonstandard: bool = True
    not_taken: tuple[Fraction, ...] = recorded((), omit_default=True)
    """Further radii that were asked for; the tool has one."""

    def parts(self, context: Context) -> list[Part]:
        """List one pass: the tool's step, and its clamp with eps 0.

        Raises:
            UsageError: the model enlarges its images, so there is no normalised tensor of their
                size.
        """
        robust = context.robust
        if robust.resize is not None and robust.resize != tuple(robust.input_size[1:]):
            raise UsageError(
                "the published tool's FGSM works on the network's own input, and this model "
                "resizes its images",
                "evaluate it with --img-size at the network's size",
                code="E-PAPER-FGSM",
            )
        return [Part("tool", ("attack", "clamp"), partial(self._rows, context))]

    def _rows(self, context: Context, batch: Batch) -> Mapping[str, Columns]:
        images, robust = batch.pixels(), context.robust
        gradient = input_gradient(context.model, images, batch.labels)
        rows = {}
        for condition, eps in (("attack", float(self.eps)), ("clamp", 0.0)):
            step = paper_fgsm_step(images, gradient, eps=eps, mean=robust.mean, std=robust.std)
            step = step.clamp(0, 1)  # mean + std may exceed 1 by rounding alone
            with torch.no_grad():
                logits = context.model(step)
            moved = step - images
            rows[condition] = {
                "logits": logits,
                "linf": lengths(moved, norm="linf"),
                "l2": lengths(moved, norm="l2"),
            }
        return rows

    def passes(self, n: int) -> Passes:
        """Count the gradient and two scorings."""
        return Passes(2, 3 * n, n)

    def numbers(self, rows: Rows) -> Numbers:
        """Define the tool's numbers; those of attacks in pixels do not apply."""
        right, clamped = (rows.column(name, "correct")[0] for name in ("attack", "clamp"))

        def clamp_only() -> Definition:
            note = "the tool's clamp with eps 0"
            return share(1 - clamped, direction="lower", note=note)

        return {
            ("", "error"): lambda: share(1 - right, direction="lower", note=NOTE),
            ("", "robust_acc"): lambda: share(right, note=NOTE),
            ("", "clean_acc"): lambda: share(rows.clean("correct"), note="without the clamp"),
            ("", "error_clamp_only"): clamp_only,
            ("", "linf"): partial(self._moved, rows, "linf"),
            ("", "l2"): partial(self._moved, rows, "l2"),
        }

    def _moved(self, rows: Rows, norm: str) -> Definition:
        return rows.average("attack", norm, unit="pixels", direction="neither", note=NOTE)

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Say that it works on the normalised tensor."""
        details = AttackDetails(norm=self.norm, eps=float(self.eps), space=self.space)
        notes = only_first_note(self.eps, self.not_taken)
        return Found(details=details.model_dump(mode="json"), notes=notes)

    def shown(self, part: SuitePart) -> Shown:
        """Show what attacks show, as far as it has it."""
        return shown_attack(part, f"{self.norm}, eps {exact_name(self.eps)}")

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        """Warn where no attack of several steps stands beside it."""
        return single_step_warnings(key, parts)


@dataclass(frozen=True, kw_only=True)
class PaperFgsm(Suite):
    """FGSM as the published analysis scripts compute it, on the normalised tensor."""

    recorded: ClassVar[type[Prepared]] = PreparedPaperFgsm
    called: ClassVar[str] = "fgsm"

    eps: tuple[Fraction, ...] | None = option(
        None, parse=parse_eps, form="8/255", shown="8/255, as the tool has it"
    )
    """What is added to the normalised tensor; of several the first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threat("linf", self.eps or ())
        headline_radius("linf", self.eps)

    def prepare(self, scene: Scene) -> PreparedPaperFgsm:
        """Take the tool's eps, which it adds to the normalised tensor."""
        eps = headline_radius("linf", self.eps)
        return PreparedPaperFgsm(eps=eps, not_taken=(self.eps or ())[1:])
