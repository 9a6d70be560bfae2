"""What sixteen checks say together, and its way into the attack suites' parts."""

from collections.abc import Mapping, Sequence
from typing import Literal

from robustmix.evaluation.masking.behaviour import behaviour_checks
from robustmix.evaluation.masking.gradients import gradient_checks
from robustmix.evaluation.masking.probes import Found
from robustmix.evaluation.masking.strength import strength_checks
from robustmix.evaluation.masking.text import reason
from robustmix.report.schema import (
    AttackPart,
    CheckPart,
    MaskingPart,
    MaskingVerdict,
    SuitePart,
)

Verdict = Literal["clean", "suspicious", "masked", "not_assessable"]

LEAST = 20
"""Fewer samples say nothing."""


def judge(found: Found) -> MaskingVerdict:
    """Return the verdict on the rows of the checks."""
    checks = [*gradient_checks(found), *strength_checks(found), *behaviour_checks(found)]
    checks.sort(key=lambda check: int(check.id[1:]))
    verdict = weigh(checks)
    return MaskingVerdict(verdict=verdict, reason=reason(verdict, checks), n=found.n, checks=checks)


def too_few(n: int) -> MaskingVerdict:
    """Return the verdict where there are not enough samples to check."""
    return MaskingVerdict(
        verdict="not_assessable",
        reason=f"{n} samples are classified correctly, the checks need {LEAST}",
        n=n,
    )


def weigh(checks: Sequence[CheckPart]) -> Verdict:
    """Return the verdict: any failed check means masking, any warning suspicion.

    A model that adapts itself inside the forward pass (G11) cannot be judged.
    """
    if any(check.id == "G11" and check.status == "fail" for check in checks):
        return "not_assessable"
    statuses = {check.status for check in checks}
    if "fail" in statuses:
        return "masked"
    return "suspicious" if "warn" in statuses else "clean"


def share_verdict(parts: Mapping[str, SuitePart]) -> None:
    """Write the verdict of suite ``masking`` into the parts of the attack suites.

    A part under a preset gets that of the same preset, if it was checked under it.
    """
    for key, part in parts.items():
        if not isinstance(part, AttackPart) or part.status != "ok":
            continue
        preset = key.partition("@")[2]
        judged = parts.get(f"masking@{preset}") or parts.get("masking")
        if isinstance(judged, MaskingPart):
            part.masking = judged.masking
