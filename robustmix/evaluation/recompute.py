"""Every aggregate of a report made again from its per-sample record."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from robustmix.errors import IntakeError
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.masking.verdict import share_verdict
from robustmix.evaluation.planned import name_subset, seeded_subset
from robustmix.evaluation.suites.paper_fgsm import PaperFgsmSuite
from robustmix.evaluation.suites.registry import suite_type
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart

TOLERANCE = 1e-9
"""Relative; sums may round differently on another machine."""


def suite_from_params(name: str, params: Mapping[str, Any]) -> Suite:
    """Return the suite whose recorded parameters these are.

    Raises:
        IntakeError: the parameters are not those of a suite of this version.
    """
    kind = suite_type(name.partition("@")[0])
    if kind is None:
        raise IntakeError(f"the report has a suite this version does not know: {name}", "update")
    if name.startswith("fgsm@") and params.get("space") == "normalised":
        kind = PaperFgsmSuite
    try:
        return kind.from_params(params)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntakeError(
            f"the recorded parameters of suite {name} are damaged ({type(error).__name__})",
            "evaluate again",
        ) from None


def remake(report: Report) -> dict[str, SuitePart]:
    """Return every completed suite of a report, made again from its rows.

    Raises:
        IntakeError: the report has no per-sample record, or it lacks the rows of a suite.
    """
    if report.samples is None:
        raise IntakeError("the report's per-sample record is not beside it", "restore samples.npz")
    content = report.content
    facts = {
        "seed": content.run.seed,
        "num_classes": content.model.num_classes,
        "input_size": list(content.model.input_size),
        "token_patch": content.model.token_patch,
        "subset": content.dataset.subset is not None,
    }
    remade: dict[str, SuitePart] = {}
    for name, part in content.suites.items():
        if part.status != "ok":
            continue
        suite = suite_from_params(name, content.protocol.params[name])
        seen, own = report.samples.view(name), facts
        if name in content.protocol.limits:
            limit = content.protocol.limits[name]
            covered = seeded_subset(content.run.seed, report.samples.sample_ids, limit)
            seen = report.samples.view(name, None if covered is None else covered.numpy())
            own = facts | {"subset": True}
        try:
            remade[name] = suite.summarise(seen, own)
            if name in content.protocol.limits:
                name_subset(remade[name], len(seen), len(report.samples))
        except (KeyError, ValueError, IndexError) as error:
            raise IntakeError(
                f"the per-sample record does not hold the rows of suite {name} "
                f"({type(error).__name__})",
                "evaluate again",
            ) from None
    share_verdict(remade)
    return remade


def recompute(report: Report) -> list[str]:
    """Return where a report differs from what its rows give; empty if nowhere.

    Args:
        report: loaded together with its per-sample record.

    Returns:
        Lines such as ``clean.metrics.top1.value: 0.81 in the report, 0.80 from the rows``.

    Raises:
        IntakeError: the report has no per-sample record, or it lacks the rows of a suite.
    """
    content = report.content
    remade = remake(report)
    differences: list[str] = []
    for name, made in remade.items():
        stated = content.suites[name].model_dump(mode="json")
        again = made.model_dump(mode="json")
        again["timing"] = stated["timing"]
        differences += _differences(stated, again, name)
    return differences


def _differences(stated: Any, again: Any, path: str) -> Iterator[str]:
    if isinstance(stated, dict) and isinstance(again, dict) and stated.keys() == again.keys():
        for key in stated:
            yield from _differences(stated[key], again[key], f"{path}.{key}")
    elif isinstance(stated, list) and isinstance(again, list) and len(stated) == len(again):
        for i, (left, right) in enumerate(zip(stated, again, strict=True)):
            yield from _differences(left, right, f"{path}[{i}]")
    elif isinstance(stated, float) and isinstance(again, float | int):
        if not math.isclose(stated, again, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            yield f"{path}: {stated} in the report, {again} from the rows"
    elif stated != again:
        yield f"{path}: {stated!r:.60} in the report, {again!r:.60} from the rows"
