"""Whether what a study evaluates can be had, and has the numbers that its table shows."""

from collections.abc import Sequence
from difflib import get_close_matches

from robustmix.errors import RobustmixError, UsageError
from robustmix.studies.results import CLEAN, RunResult
from robustmix.studies.study import Study


def check_measured(study: Study) -> None:
    """Refuse an evaluation that no run could have, before any is trained.

    Raises:
        UsageError: a suite, protocol or option does not exist, or a column is of a suite that is
            not run. Which numbers a suite has, only a report says.
    """
    asked = study.evaluate
    if asked is None:
        return
    from robustmix.evaluation.plan import plan

    options = {name.replace("-", "_"): value for name, value in asked.options.items()}
    try:
        planned = plan(asked.suite or None, protocols=asked.protocol, options=options)
    except RobustmixError as error:
        raise UsageError(
            f"study {study.name}, evaluate: {error.message}", error.hint, code=error.code
        ) from error
    suites = {item.key for item in planned}
    suites |= {f"{item.name}@{preset}" for item in planned for preset in item.of}
    for column in study.table.columns:
        suite = column.partition(".")[0]
        if column != CLEAN and suite not in suites:
            near = get_close_matches(suite, suites, n=1, cutoff=0.5)
            raise UsageError(
                f"study {study.name}: no suite {suite} is run for the column {column}",
                f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(suites))}",
                code="E-STUDY",
            )


def unmeasured(study: Study, results: Sequence[RunResult]) -> list[str]:
    """Say which columns no run has that is complete and evaluated, with the nearest number."""
    whole = [result for result in results if result.complete and result.reports]
    known = dict.fromkeys(path for result in whole for path in result.values)
    found = []
    for column in study.table.columns:
        if whole and all(result.find(column) is None for result in whole):
            near = get_close_matches(column, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append(f"no report has {column}{hint}")
    return found
