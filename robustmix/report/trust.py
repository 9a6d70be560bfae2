"""Whether a model's numbers are its own: not if its answers change from pass to pass."""

from collections.abc import Mapping
from typing import Any

from robustmix.precision import ROUNDING, Precision
from robustmix.report.schema import ReportModel, Warn

NOT_REPEATABLE = "W-NOT-REPEATABLE"
BATCH_DEPENDENT = "W-BATCH-DEPENDENT"
"""Codes of warnings with which no gate is passed."""


def model_doubts(checks: Mapping[str, Any], precision: Precision = "fp32") -> list[Warn]:
    """Say what the checks of a model show that makes its numbers one draw of many.

    Args:
        checks: ``model.checks`` of a report; files of older versions have fewer.
        precision: that the network computed in.
    """
    if checks.get("output") == "nonfinite":  # NaN equals nothing, itself included
        return []
    measured = checks.get("repeat_difference")
    if "repeat_difference" in checks:
        repeats = isinstance(measured, int | float) and measured <= ROUNDING[precision]
    else:
        repeats = checks.get("deterministic") is not False
    if not repeats:
        size = f", by {measured:.2g} of the largest logit" if isinstance(measured, float) else ""
        return [
            Warn(
                code=NOT_REPEATABLE,
                suite="clean",
                message="the model's answers to the same images differ from pass to pass"
                f"{size}: its numbers are one random draw; make forward() deterministic (dropout "
                "off, no noise), or, where it is random on purpose, attack it with --eot 20 or "
                "with --suite autoattack --version rand",
            )
        ]
    if checks.get("batch_independent") is False:
        return [
            Warn(
                code=BATCH_DEPENDENT,
                suite="clean",
                message="the model's answer to an image differs with the images that come with "
                "it, so its numbers depend on the batch: make forward() independent of the batch "
                "(batch norm with running statistics)",
            )
        ]
    return []


def report_doubts(content: ReportModel) -> list[Warn]:
    """List why the numbers of a report are not the model's own: by its warnings or its checks."""
    told = [one for one in content.warnings if one.code in (NOT_REPEATABLE, BATCH_DEPENDENT)]
    found = model_doubts(content.model.checks, content.model.precision)
    return list({one.code: one for one in (*told, *found)}.values())
