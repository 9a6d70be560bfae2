"""Checks G8 and G10 to G13: does the model answer the same question the same way?"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.evaluation.masking.probes import Evidence, check, columns, percent
from robustmix.evaluation.suite import Batch, Columns, Context, Done, Part
from robustmix.later import Tensor, torch
from robustmix.report.schema import CheckPart

PASSES = 5
ALONE = 32
"""Samples that are also asked about one by one."""

TOLERANCE = 1e-4
"""Largest change of a logit, relative to the sample's largest, that counts as rounding."""

IN_RANGE = 1e-5


def behaviour_parts(
    context: Context, first: NDArray[np.int64], *, passes: int = PASSES, alone: int = ALONE
) -> list[Part]:
    """List the repeated passes over all checked samples, and the passes with one image.

    Args:
        context: what is evaluated.
        first: positions of the checked samples, in random order.
        passes: how often each is asked about, at least 2.
        alone: how many are asked about one by one.
    """
    assert context.clean is not None, "the suite clean always runs first"
    before = torch.from_numpy(context.clean.at("clean")["logits"])
    some = np.sort(first[:alone])

    def few(done: Done) -> NDArray[np.int64]:
        return some

    conditions = ("identity", "repeat", "adaptation")
    return [
        Part("repeat", conditions, partial(_repeated, context, before, passes)),
        Part("alone", ("alone",), partial(_alone, context, before), select=few),
    ]


def _repeated(context: Context, before: Tensor, passes: int, batch: Batch) -> Mapping[str, Columns]:
    images = batch.pixels()
    with torch.no_grad():
        with watching() as calls:
            logits = context.model(images)
        others = [context.model(images) for _ in range(passes - 1)]
    moved = torch.stack([distance(other, logits) for other in others]).amax(dim=0)
    answers = torch.stack([other.argmax(dim=1) for other in others])
    same = (answers == logits.argmax(dim=1)).all(dim=0)
    repeat = columns(batch, logits, value=moved, forwards=passes - 1)
    adapts = torch.full((len(images),), float(len(calls)))
    return {
        "identity": columns(
            batch, logits, value=distance(logits, before[batch.indices]), forwards=1
        ),
        "repeat": repeat | {"correct": same.cpu()},
        "adaptation": columns(batch, logits, value=adapts),
    }


def _alone(context: Context, before: Tensor, batch: Batch) -> Mapping[str, Columns]:
    images = batch.pixels()
    with torch.no_grad():
        logits = torch.cat([context.model(image) for image in torch.split(images, 1)])
    moved = distance(logits, before[batch.indices])
    return {"alone": columns(batch, logits, value=moved, forwards=1)}


def distance(logits: Tensor, like: Tensor) -> Tensor:
    """Give the largest change of a logit, relative to the sample's largest, float64 (N,)."""
    change = (logits.cpu() - like.cpu()).double().abs().amax(dim=1)
    return change / like.cpu().double().abs().amax(dim=1).clamp_min(1e-12)


@contextlib.contextmanager
def watching() -> Iterator[list[str]]:
    """Collect the gradients that are taken and the optimiser steps that are made inside."""
    calls: list[str] = []

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            return real(*args, **kwargs)

        return call

    # The first is what both others come down to, however a model has imported them.
    names = [n for n in ("_engine_run_backward", "backward", "grad") if hasattr(torch.autograd, n)]
    real = {name: getattr(torch.autograd, name) for name in names}
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    hook = register_optimizer_step_pre_hook(lambda *_: calls.append("step"))
    try:
        for name in names:
            setattr(torch.autograd, name, noted(name, real[name]))
        yield calls
    finally:
        for name in names:
            setattr(torch.autograd, name, real[name])
        hook.remove()


def behaviour_checks(found: Evidence) -> list[CheckPart]:
    """Make G8 and G10 to G13."""
    return [
        _random(found),
        _batch(found),
        _adaptation(found),
        _identity(found),
        _ball(found),
    ]


def _random(found: Evidence) -> CheckPart:
    rows = found.rows("repeat")
    unsteady = float(((rows["value"] > TOLERANCE) | ~rows["correct"].astype(bool)).mean())
    return check(
        "G8",
        "answers that change from pass to pass",
        unsteady,
        f"{percent(unsteady)} of the samples get another answer in one of {PASSES} passes"
        + ("; attacks must average over the randomness (EoT)" if unsteady else ""),
        n=found.n,
        warn=0.0,
        fail=None,
    )


def _batch(found: Evidence) -> CheckPart:
    values, changed = [], 0
    for condition in ("identity", "alone"):
        rows, before = found.rows(condition), found.before(condition)
        values.append(float(rows["value"].max()))
        changed += int((rows["pred"] != before["pred"]).sum())
    return check(
        "G10",
        "answers that depend on the other images of a batch",
        max(values),
        f"alone or in other company a logit changes by {max(values):.2g} of the largest, and "
        f"{changed} predictions with it",
        n=found.n,
        warn=TOLERANCE,
        fail=None,
        worse="fail" if changed else None,
    )


def _adaptation(found: Evidence) -> CheckPart:
    calls = float(found.rows("adaptation")["value"].max())
    return check(
        "G11",
        "gradients or optimiser steps inside the forward pass",
        calls,
        "the model adapts itself to what it is shown: attacks on a fixed model do not measure it"
        if calls
        else "none were seen",
        n=found.n,
        warn=None,
        fail=0.0,
    )


def _identity(found: Evidence) -> CheckPart:
    differs = float((found.rows("identity")["pred"] != found.before("identity")["pred"]).mean())
    return check(
        "G12",
        "predictions that eps 0 changes",
        differs,
        f"{percent(differs)} of the predictions are not those of suite clean",
        n=found.n,
        warn=None,
        fail=0.0,
    )


def _ball(found: Evidence) -> CheckPart:
    farthest = max(
        float(found.rows(condition)["overshoot"].max())
        for condition in found.attacked
        if found.has(condition)
    )
    return check(
        "G13",
        "attacked images outside ball or range",
        farthest,
        f"the farthest lies {farthest:.2g} outside",
        n=found.n,
        warn=None,
        fail=IN_RANGE,
    )
