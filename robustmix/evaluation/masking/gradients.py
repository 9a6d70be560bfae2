"""Checks G1, G9 and G16: are there gradients, and do they say where the loss rises?"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.attacks import Goal, Loss, fgsm_step, slope, standing
from robustmix.evaluation.masking.probes import (
    Evidence,
    Threat,
    check,
    columns,
    percent,
    scored,
    skipped,
    with_a_gradient,
)
from robustmix.evaluation.suite import Batch, Columns, Context, Part
from robustmix.later import Tensor, torch
from robustmix.report.schema import CheckPart

STEP = 1 / 1020
"""Length of the finite difference: a quarter of a grey level, so that what rounds shows."""

CONTRADICTED = 0.1
"""Share of the samples whose finite difference may contradict the gradient without a warning."""

SATURATED = 50.0
"""A lead of the first logit over the second beyond which float32 has no cross-entropy left."""


def gradient_parts(context: Context, threat: Threat) -> list[Part]:
    """List the part that takes the gradients; FGSM uses one of them."""
    losses: list[Loss] = ["ce", "margin"]
    if context.robust.num_classes >= 3:
        losses.append("dlr")
    conditions = (*(f"gradient-{loss}" for loss in losses), "difference", "fgsm")
    return [Part("gradients", conditions, partial(_gradients, context, threat, losses))]


def _gradients(
    context: Context, threat: Threat, losses: list[Loss], batch: Batch
) -> Mapping[str, Columns]:
    images, model = batch.pixels(), with_a_gradient(context.model)
    with torch.no_grad():
        logits = model(images)
    found: dict[str, Columns] = {}
    gradients: dict[Loss, Tensor] = {}
    for loss in losses:
        gradients[loss] = slope(model, images, Goal(loss, batch.labels)).gradient
        zero = (gradients[loss] == 0).flatten(1).float().mean(dim=1)
        found[f"gradient-{loss}"] = columns(batch, logits, value=zero, forwards=1, backwards=1)
    along = STEP * gradients["margin"].sign()
    goal = Goal("margin", batch.labels)
    up = standing(model, (images + along).clamp(0, 1), goal).loss.cpu().double()
    down = standing(model, (images - along).clamp(0, 1), goal).loss.cpu().double()
    found["difference"] = columns(batch, logits, value=up - down, forwards=3)
    raw = fgsm_step(images, gradients["ce"], eps=threat.eps, norm=threat.norm)
    found["fgsm"] = scored(model, batch, images, raw, norm=threat.norm, eps=threat.eps)
    return found


def gradient_checks(found: Evidence) -> list[CheckPart]:
    """Make G1, G9 and G16."""
    return [_zero_gradients(found), _output(found), _finite_difference(found)]


def _zero_gradients(found: Evidence) -> CheckPart:
    shares = {
        loss: float((found.rows(f"gradient-{loss}")["value"] == 1).mean())
        for loss in ("ce", "dlr")
        if found.has(f"gradient-{loss}")
    }
    told = ", ".join(f"{percent(share)} for {loss.upper()}" for loss, share in shares.items())
    return check(
        "G1",
        "input gradients that are zero everywhere",
        max(shares.values()),
        f"samples without any gradient: {told}",
        n=found.n,
        warn=0.01,
        fail=0.1,
        grain=True,
    )


def probabilities(logits: NDArray[np.floating[Any]]) -> bool:
    """Tell whether outputs are those of a softmax or a sigmoid; log-probabilities are logits."""
    # As models.checks.looks_like_probabilities says of what is not negative, without torch.
    if not logits.size or logits.shape[1] < 2 or not np.isfinite(logits).all():
        return False
    if (logits < 0).any() or (logits > 1).any():
        return False
    values = logits.astype(np.float64)
    if (np.abs(values.sum(axis=1) - 1) <= 1e-5).all():
        return True
    return values.size >= 20 and bool(((values > 0) & (values < 1)).all())


def _output(found: Evidence) -> CheckPart:
    clean = found.before("identity")
    squashed = probabilities(clean["logits"])
    saturated = float((clean["margin"] > SATURATED).mean())
    text = f"{percent(saturated)} of the samples lead by more than {SATURATED:g} in the logits"
    if squashed:
        text = "the outputs are probabilities, not logits: losses on them have flat gradients"
    return check(
        "G9",
        "outputs that flatten the loss",
        1.0 if squashed else saturated,
        text,
        n=found.n,
        warn=0.0,
        fail=0.1,
    )


def _finite_difference(found: Evidence) -> CheckPart:
    title = "gradients that finite differences contradict"
    usable = found.rows("gradient-margin")["value"] < 1
    if not usable.any():
        return skipped("G16", title, "no sample has a gradient to compare with")
    rises = found.rows("difference")["value"][usable] > 0
    return check(
        "G16",
        title,
        float((~rises).mean()),
        f"a quarter of a grey level along the gradient does not raise the loss of "
        f"{percent(float((~rises).mean()))} of the samples",
        n=int(usable.sum()),
        warn=CONTRADICTED,
        fail=0.4,
        grain=True,
    )
