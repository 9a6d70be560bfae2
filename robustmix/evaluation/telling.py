"""What an evaluation tells its hook."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robustmix.errors import explained
from robustmix.loggers.events import Hook, RunFinished, RunStarted, SuiteFinished
from robustmix.report.report import Report, without_folders
from robustmix.report.schema import SuitePart


def tell_suite(tell: Hook, key: str, part: SuitePart) -> None:
    """Tell of a suite that came to its end; not of one that was interrupted, which goes on."""
    if part.status != "partial":
        metrics = {k: m.value for k, m in part.metrics.items() if m.value is not None}
        tell(SuiteFinished(suite=key, status=part.status, metrics=metrics))


@contextlib.contextmanager
def told_run(tell: Hook, started: RunStarted) -> Iterator[list[Report]]:
    """Tell that an evaluation begins and how it ends; its report is to be added to the list."""
    tell(started)
    made: list[Report] = []
    try:
        yield made
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        told = "" if stopped or not isinstance(error, Exception) else explained(error).line()
        tell(RunFinished(status="stopped" if stopped else "failed", error=told))
        raise
    (report,) = made
    tell(_finished(report))


def _finished(report: Report) -> RunFinished:
    run, errors = report.content.run, report.content.errors
    if run.status == "success":
        return RunFinished(status="done", report=report)
    if run.status == "interrupted":
        return RunFinished(status="stopped", report=report)
    told = "; ".join(f"{error.suite}: {error.message}" for error in errors)
    return RunFinished(status="failed", error=told, report=report)


def tell_report(tell: Hook, report: Report, folder: Path | None) -> None:
    """Tell a whole evaluation from its report, as one that was continued and had nothing left."""
    content = report.content
    started = RunStarted(
        kind="eval",
        name=content.run.name,
        run_id=content.run.fingerprint,
        folder=folder,
        config=config_of(
            model=content.model.source,
            arch=content.model.arch,
            trained_as=content.model.training.get("run_id"),
            dataset=content.dataset.name,
            seed=content.run.seed,
            suites=content.protocol.params,
        ),
        continued=True,
    )
    with told_run(tell, started) as made:
        for key, part in content.ordered_suites().items():
            tell_suite(tell, key, part)
        made.append(report)


def config_of(
    *,
    model: str,
    arch: str,
    trained_as: object,
    dataset: str,
    seed: int,
    suites: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what an evaluation is of.

    Args:
        model: its file or name.
        arch: its architecture.
        trained_as: ``run_id`` of the training, if it is known.
        dataset: its name.
        seed: of everything random.
        suites: their parameters, by key.
    """
    return {
        "model": without_folders(model),
        "arch": arch,
        "trained_as": trained_as,
        "dataset": dataset,
        "seed": seed,
        "suites": dict(suites),
    }
