"""Whether a model repeats its answers: those before the evaluation are held against its rows."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from robustmix.errors import IntakeError, RobustmixError
from robustmix.models.checks import sanity_checks
from robustmix.models.robust_model import RobustModel
from robustmix.precision import ROUNDING
from robustmix.report.samples import Samples

CHECKED = 16
"""Images that are asked about."""


@dataclass(frozen=True)
class Repeats:
    """The model's answers before the evaluation."""

    passes: tuple[Tensor, Tensor]
    """Logits of two passes over the first images, each (n, K) on the CPU."""

    found: dict[str, Any]
    """What ``sanity_checks`` finds."""

    tolerance: float
    """What rounding stays below, in the model's precision."""

    @classmethod
    def ask(cls, robust: RobustModel, images: Tensor) -> "Repeats":
        """Ask about the first images (n, 3, H, W) in [0, 1], on the model's device.

        Raises:
            IntakeError: the network raises.
        """
        try:
            with torch.no_grad():
                passes = robust(images).cpu(), robust(images).cpu()
            return cls(passes, sanity_checks(robust, images), ROUNDING[robust.precision])
        except RobustmixError:
            raise
        except Exception as error:
            raise IntakeError(
                f"the model raised {type(error).__name__} on the first images: {error}"[:500],
                "mend its forward(), or give the --img-size and --device that it is for",
                code="E-FORWARD",
            ) from error

    def checks(self, samples: Samples) -> dict[str, Any]:
        """Give the ``model.checks`` of a report.

        Beside what ``sanity_checks`` gives that is ``repeat_difference``, the largest of a logit
        between two passes over the first images, relative to the largest logit, and the
        ``repeat_tolerance`` that rounding stays below. None where a logit is not finite.

        Args:
            samples: the evaluation's rows. Those of suite ``clean`` are one more pass, if they do
                not depend on the batch.
        """
        first, *others = self.passes
        if "clean" in samples.tables and self.found["batch_independent"]:
            others.append(torch.from_numpy(samples.clean_logits()[: len(first)]))
        moved = torch.stack([(other - first).abs().max() for other in others]).max()
        difference = float(moved / first.abs().max().clamp_min(1e-12))
        return self.found | {
            "repeat_difference": difference if difference < float("inf") else None,
            "repeat_tolerance": self.tolerance,
        }
