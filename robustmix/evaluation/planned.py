"""A suite with its place in a report: under which key, and over which of the samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robustmix.evaluation.engine import Suite
from robustmix.report.schema import SuitePart
from robustmix.rng import sample_keys


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A suite that is to be run."""

    suite: Suite
    preset: str | None = None
    """Behind the ``@`` of the key; None for the plain name."""

    of: tuple[str, ...] = ()
    """The presets that ask for it; none if it was asked for by itself."""

    limit: int | None = None
    """Most samples it is run over, the first of the seeded order; None: all that are evaluated."""

    @property
    def key(self) -> str:
        """Where the report has it: ``fgsm``, or ``fgsm@paper-adautomix``."""
        return self.suite.name + (f"@{self.preset}" if self.preset else "")


def seeded_subset(seed: int, sample_ids: tuple[str, ...], count: int) -> Tensor | None:
    """Return the positions of ``count`` samples, rising, int64; None if that is all of them.

    The smaller of two subsets lies in the larger one, and whether a sample is chosen depends on
    its id, so that reports over the same split pair.
    """
    if count >= len(sample_ids):
        return None
    order = sample_keys(seed, "subset", "", 0, sample_ids).argsort(stable=True)
    return torch.sort(order[:count]).values


def name_subset(part: SuitePart, n: int, of: int) -> None:
    """Say in the note of each of a suite's metrics that it is of a part of the samples.

    Args:
        part: the suite's part of the report, changed in place.
        n: samples that the suite covers.
        of: samples that were evaluated.
    """
    said = f"{n} of {of} samples, chosen by the seed"
    for name, metric in part.metrics.items():
        note = f"{metric.note}; {said}" if metric.note else said
        part.metrics[name] = metric.model_copy(update={"note": note})
