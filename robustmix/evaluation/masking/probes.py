"""The rows of the masking checks: how a probe is scored, and how checks read what was stored."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from robustmix.attacks import Norm
from robustmix.attacks.ball import lengths, project
from robustmix.evaluation.suite import Batch, Columns
from robustmix.later import Tensor, torch
from robustmix.metrics.scores import score_logits
from robustmix.report.samples import Table
from robustmix.report.schema import CheckPart
from robustmix.types import Model


@dataclass(frozen=True, kw_only=True)
class Threat:
    """What the checked attacks may do."""

    norm: Norm
    eps: float
    """Radius of the ball, in [0, 1] pixel units."""

    seed: int

    @property
    def step_share(self) -> float:
        """Length of a PGD step as a share of the radius."""
        return 0.25 if self.norm == "linf" else 0.2


def with_a_gradient(model: Model) -> Model:
    """Wrap a model so that one whose logits cannot be differentiated has a gradient of zero.

    An attack refuses to begin without any, but that there is none is what the checks are to find.
    """

    def call(images: Tensor) -> Tensor:
        logits = model(images)
        if images.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            return logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)
        return logits

    return call


def scored(
    model: Model,
    batch: Batch,
    images: Tensor,
    raw: Tensor,
    *,
    norm: Norm,
    eps: float,
    value: Tensor | None = None,
    forwards: Tensor | int = 0,
    backwards: Tensor | int = 0,
) -> Columns:
    """Give a probe's columns; unlike an attack suite's, an escape from the ball is recorded.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K).
        batch: whose samples were probed.
        images: clean images, (N, C, H, W).
        raw: what the attack returned, same shape; clipped before it is scored.
        norm: norm of the ball.
        eps: its radius.
        value: what else was measured, (N,).
        forwards: passes a sample cost before the scoring.
        backwards: likewise.
    """
    clipped = raw.clamp(0, 1)
    beyond = (lengths(raw - images, norm=norm) - eps).clamp_min(0)
    out_of_range = (raw - clipped).flatten(1).abs().amax(dim=1)
    with torch.no_grad():
        logits = model(project(images, clipped, norm=norm, eps=eps + 1e-6))
    return columns(
        batch,
        logits,
        overshoot=torch.maximum(beyond, out_of_range),
        value=value,
        forwards=torch.as_tensor(forwards) + 1,
        backwards=backwards,
    )


def columns(
    batch: Batch,
    logits: Tensor,
    *,
    overshoot: Tensor | None = None,
    value: Tensor | None = None,
    forwards: Tensor | int = 0,
    backwards: Tensor | int = 0,
) -> Columns:
    """Give the columns that every condition of the suite has.

    Raises:
        IncompleteError: a logit is NaN or infinite.
    """
    n = len(logits)
    scores = score_logits(logits, batch.labels, sample_ids=batch.sample_ids)
    nothing = torch.zeros(n)
    return {
        "pred": torch.from_numpy(scores.pred).int(),
        "correct": torch.from_numpy(scores.correct),
        "nll": torch.from_numpy(scores.nll),
        "overshoot": (nothing if overshoot is None else overshoot).float(),
        "value": (nothing if value is None else value).cpu().double(),
        "forwards": torch.as_tensor(forwards).int().cpu().expand(n),
        "backwards": torch.as_tensor(backwards).int().cpu().expand(n),
    }


@dataclass(frozen=True)
class Evidence:
    """The stored rows of the checked samples."""

    table: Table
    clean: Mapping[str, NDArray[Any]]
    """Rows of suite ``clean``, with ``logits``, of all samples."""

    num_classes: int
    attacked: tuple[str, ...]
    """Conditions whose images were made by an attack."""

    def has(self, condition: str) -> bool:
        """Tell whether any sample was probed in this way."""
        return condition in self.table.conditions and bool(self.mask(condition).any())

    def mask(self, condition: str) -> NDArray[np.bool_]:
        """Tell which samples were probed in this way, (n,)."""
        return self.table.at(condition)["tested"].astype(bool)

    def rows(self, condition: str) -> dict[str, NDArray[Any]]:
        """Give the columns of the samples that were probed in this way."""
        mask = self.mask(condition)
        return {name: column[mask] for name, column in self.table.at(condition).items()}

    def before(self, condition: str) -> dict[str, NDArray[Any]]:
        """Give what suite ``clean`` has of the samples that were probed in this way."""
        mask = self.mask(condition)
        return {name: column[mask] for name, column in self.clean.items()}

    @property
    def n(self) -> int:
        """Number of checked samples."""
        return int(self.mask("identity").sum())

    def error(self, condition: str) -> float:
        """Give the share of all checked samples that a condition misclassifies."""
        rows = self.table.at(condition)
        return float((rows["tested"] & ~rows["correct"].astype(bool)).sum()) / self.n

    def error_within(self, condition: str, steps: int) -> float:
        """Give the share that a search broke within so many steps; its value is their number."""
        first = self.rows(condition)["value"]
        return float(((first >= 0) & (first <= steps)).sum()) / self.n


def check(
    id: str,
    title: str,
    value: float,
    text: str,
    *,
    n: int,
    warn: float | None,
    fail: float | None,
    grain: bool = False,
    worse: Literal["warn", "fail"] | None = None,
) -> CheckPart:
    """Make a check whose status follows from its value.

    Args:
        id: ``G1`` to ``G16``.
        title: what is checked.
        value: what was measured; more is worse.
        text: what was found.
        n: number of samples.
        warn: it warns above this value.
        fail: it fails above this value.
        grain: the value is a share of the samples: a threshold finer than one of them is raised to
            one, so that a small set does not warn of a single sample.
        worse: a status that holds whatever the value is.
    """
    if grain:
        warn, fail = (None if t is None else max(t, 1 / n) for t in (warn, fail))
    status: Literal["pass", "warn", "fail"] = "pass"
    slack = 1e-9  # shares are quotients of counts: equality must not depend on their last bit
    if worse == "fail" or (fail is not None and value > fail + slack):
        status = "fail"
    elif worse == "warn" or (warn is not None and value > warn + slack):
        status = "warn"
    return CheckPart(
        id=id, title=title, status=status, value=value, warn=warn, fail=fail, n=n, text=text
    )


def skipped(id: str, title: str, text: str) -> CheckPart:
    """Make a check that could not be made, and why."""
    return CheckPart(
        id=id, title=title, status="skip", value=None, warn=None, fail=None, n=0, text=text
    )


def percent(share: float) -> str:
    """Write a share as people read it.

    Example:
        >>> percent(0.1234)
        '12.3 %'
    """
    return f"{100 * share:.1f} %"
