"""The published tool's FGSM, under its own name: what its tables were made with."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Self

import torch

from robustmix.attacks import input_gradient
from robustmix.attacks.ball import lengths
from robustmix.attacks.paper_fgsm import paper_fgsm_step
from robustmix.errors import UsageError
from robustmix.evaluation.engine import Batch, Columns, Context, Part
from robustmix.metrics.intervals import clustered_mean, proportion
from robustmix.metrics.metric import Metric
from robustmix.report.samples import Samples
from robustmix.report.schema import AttackPart

NOTE = "eps was added to the normalised tensor and that clamped to [0, 1]: no 8/255 pixel attack"


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperFgsmSuite:
    """FGSM as the published analysis scripts compute it, and their clamp without any attack."""

    eps: Fraction = Fraction(8, 255)
    """What the tool adds to the normalised tensor."""

    part: ClassVar[type[AttackPart]] = AttackPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls(eps=Fraction(params["eps"]))

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "fgsm"

    @property
    def trials(self) -> int:
        """One: nothing is random."""
        return 1

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        return {
            "norm": "linf",
            "eps": str(self.eps),
            "steps": 1,
            "random_start": False,
            "loss": "ce-sum",
            "label": "true",
            "space": "normalised",
            "clamp": "normalised to [0, 1]",
            "nonstandard": True,
        }

    def parts(self, context: Context) -> list[Part]:
        """Return one pass: the tool's step, and its clamp with eps 0.

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

        def compute(batch: Batch) -> Mapping[str, Columns]:
            images = batch.pixels()
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

        return [Part("tool", ("attack", "clamp"), compute)]

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> AttackPart:
        """Make the suite's part of the report from the rows alone."""
        table = samples.tables["fgsm"]
        attack, clamp = table.at("attack"), table.at("clamp")
        clean = samples.tables["clean"].at("clean")["correct"].astype(bool)
        right = attack["correct"].astype(bool)

        def share(hits: Any, direction: Any, note: str = NOTE) -> Metric:
            return proportion(int(hits.sum()), len(hits), direction=direction, note=note)

        return AttackPart(
            status="ok",
            params=self.params(),
            eps=float(self.eps),
            space="normalised",
            metrics={
                "error": share(~right, "lower"),
                "robust_acc": share(right, "higher"),
                "clean_acc": share(clean, "higher", "without the clamp"),
                "error_clamp_only": share(
                    ~clamp["correct"].astype(bool), "lower", "the tool's clamp with eps 0"
                ),
                "linf": clustered_mean(
                    attack["linf"].astype(float), unit="pixels", direction="neither", note=NOTE
                ),
                "l2": clustered_mean(
                    attack["l2"].astype(float), unit="pixels", direction="neither", note=NOTE
                ),
            },
        )
