"""What sixteen checks say together, in one word and one sentence."""

from collections.abc import Sequence
from typing import Literal

from robustmix.evaluation.masking.behaviour import behaviour_checks
from robustmix.evaluation.masking.gradients import gradient_checks
from robustmix.evaluation.masking.probes import Evidence, percent
from robustmix.evaluation.masking.screen import found_share
from robustmix.evaluation.masking.strength import strength_checks
from robustmix.report.schema import CheckPart, VerdictPart

TITLE = "masking"
"""Of the verdicts in reports."""

Verdict = Literal["clean", "suspicious", "masked", "not_assessable"]

LEAST = 20
"""Fewer samples say nothing."""

MEANINGS: dict[Verdict, str] = {
    "clean": "nothing suggests that the model hides its gradients",
    "suspicious": "the attacks may be weaker here than they look",
    "masked": "the attacks do not measure this model's robustness: it hides its gradients or does "
    "not repeat its answers",
    "not_assessable": "whether the attacks measure this model's robustness cannot be told",
}


def judged(found: Evidence) -> VerdictPart:
    """Give the verdict on the rows of the checks, with the sentence that explains it."""
    checks = _in_order([*gradient_checks(found), *strength_checks(found), *behaviour_checks(found)])
    verdict = weigh(checks)
    blamed = [check for check in checks if check.status in ("warn", "fail")]
    said = [f"{check.id} {check.status}s: {check.text}" for check in blamed]
    reason = "; ".join([MEANINGS[verdict], *said])
    return VerdictPart(title=TITLE, verdict=verdict, reason=reason, n=found.n, checks=checks)


def cleared(checks: Sequence[CheckPart], n: int) -> VerdictPart:
    """Give the verdict of a screen that is clear.

    Args:
        checks: of the screen.
        n: number of samples that it took.
    """
    said = (
        f"so the screen found on {n} samples, which overlook what shows in "
        f"{percent(found_share(n))} of the samples once in twenty times"
    )
    return VerdictPart(
        title=TITLE,
        verdict="clean",
        reason=f"{MEANINGS['clean']}; {said}",
        n=n,
        checks=_in_order(checks),
    )


def _in_order(checks: Sequence[CheckPart]) -> list[CheckPart]:
    return sorted(checks, key=lambda check: int(check.id[1:]))


def too_few(n: int) -> VerdictPart:
    """Give the verdict where there are not enough samples to check."""
    return VerdictPart(
        title=TITLE,
        verdict="not_assessable",
        reason=f"{n} samples are classified correctly, the checks need {LEAST}",
        n=n,
    )


def weigh(checks: Sequence[CheckPart]) -> Verdict:
    """Give the verdict: any failed check means masking, any warning suspicion.

    A model that adapts itself inside the forward pass (G11) cannot be judged.
    """
    if any(check.id == "G11" and check.status == "fail" for check in checks):
        return "not_assessable"
    statuses = {check.status for check in checks}
    if "fail" in statuses:
        return "masked"
    return "suspicious" if "warn" in statuses else "clean"
