"""The masking checks in words: for tables, warnings and pages."""

from collections.abc import Mapping, Sequence

from robustmix.report.schema import AttackPart, CheckPart, MaskingPart, SuitePart, Warn

MEANINGS = {
    "clean": "nothing suggests that the model hides its gradients",
    "suspicious": "the attacks may be weaker here than they look",
    "masked": "the attacks do not measure this model's robustness: it hides its gradients or does "
    "not repeat its answers",
    "not_assessable": "whether the attacks measure this model's robustness cannot be told",
}

SINGLE_STEP = (
    "FGSM is a single step: methods of the mixup family lower this error without becoming robust, "
    "as any attack of several steps shows; run the suite pgd beside it before drawing conclusions"
)


def reason(verdict: str, checks: Sequence[CheckPart]) -> str:
    """Return one sentence on a verdict and the checks it rests on."""
    blamed = [check for check in checks if check.status in ("warn", "fail")]
    said = [f"{check.id} {check.status}s: {check.text}" for check in blamed]
    return "; ".join([MEANINGS[verdict], *said])


def masking_warnings(parts: Mapping[str, SuitePart]) -> list[Warn]:
    """Return what a reader of the attack suites must be told."""
    warnings = []
    for key, part in parts.items():
        if isinstance(part, MaskingPart) and part.masking and part.masking.verdict != "clean":
            text = f"masking verdict {part.masking.verdict}: {part.masking.reason}"
            warnings.append(Warn(code="W-MASKING", suite=key, message=text))
    if stands_alone(parts):
        warnings.append(Warn(code="W-SINGLE-STEP", suite="fgsm", message=SINGLE_STEP))
    return warnings


def stands_alone(parts: Mapping[str, SuitePart]) -> bool:
    """Tell whether FGSM was run and no attack of several steps beside it."""
    done = [
        key.partition("@")[0]
        for key, part in parts.items()
        if isinstance(part, AttackPart) and part.status == "ok"
    ]
    return "fgsm" in done and not {"pgd", "autoattack"} & set(done)
