"""What each number of a suite of a report is, over rows in a given order.

There is one definition of a number, the suite's; a comparison asks it of either report. Where what
made a number is not installed, the report may say of which column it is the mean.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from robustmix.comparison.paths import MetricPath, find_number, matching_key
from robustmix.errors import IncompatibleError, IntakeError, RobustmixError
from robustmix.metrics.definition import Definition, Numbers, Undefined
from robustmix.metrics.registry import METRICS
from robustmix.metrics.scores import IntArray
from robustmix.report.rows import Rows, rows_of
from robustmix.report.samples import Samples
from robustmix.report.schema import OriginPart, ReportModel, SuitePart
from robustmix.report.text import plain

_ABSENT = "E-PLUGIN-ABSENT"
_UNKNOWN = "E-SUITE-UNKNOWN"


@dataclass(frozen=True, eq=False)
class SuiteNumbers:
    """The numbers of one suite of a report over some of its rows."""

    part: SuitePart
    rows: Rows
    numbers: Numbers
    """Those that are defined here; none of a suite that is not installed."""

    installed: bool
    """Whether the suite is."""

    def define(self, path: MetricPath) -> tuple[Definition, float]:
        """Give a number's definition, and the number as these rows have it; NaN if undefined.

        Raises:
            Undefined: nothing installed defines it, or the rows do not hold it.
            IntakeError: the rows are damaged.
        """
        key = matching_key(self.numbers, path)
        with _readable(self.part):
            definition = self._of_column(path) if key is None else self.numbers[key]()
            definition = definition.by_rules(self.rows.rules)
            return definition, definition.estimate()

    def _of_column(self, path: MetricPath) -> Definition:
        """Define a number whose maker is not installed as the mean that the report says it is."""
        found = find_number(self.part, path)
        column = None if found is None else self.part.columns.get(found[0])
        if found is None or column is None:
            raise Undefined(self._missing(path))
        metric, values = found[1], self.rows.mean(*column)
        return Definition(
            n=len(values),
            values=values,
            unit=metric.unit,
            direction=metric.direction,
            column=column,
            # Whoever made it chose its interval, which cannot be made again here.
            interval="bootstrap",
        )

    def _missing(self, path: MetricPath) -> str:
        origin = self._absent_origin(path)
        if origin is None:
            return "this version does not define it"
        return (
            f"needs the plugin {plain(origin.module)} {plain(origin.version, 40)}, which is not "
            "installed"
        )

    def _absent_origin(self, path: MetricPath) -> OriginPart | None:
        registered = f"{self.part.kind}.{path.metric}"
        for origin in self.part.origins:
            if origin.kind == "metric" and origin.name == registered not in METRICS:
                return origin
        return self.part.origins[0] if self.part.origins and not self.installed else None


def suite_numbers(
    content: ReportModel, view: Samples, suite: str, order: IntArray | None = None
) -> SuiteNumbers:
    """Give the numbers of a suite over rows of its report.

    Args:
        content: the report.
        view: what the suite sees of the per-sample record.
        suite: its key in the report.
        order: positions in the view, (n,); None: as the suite itself takes them.

    Raises:
        Undefined: this version does not know the suite, or cannot make its numbers from the rows.
        IntakeError: the recorded parameters or the rows are damaged.
    """
    # Imported here, for the suites import torch, which takes seconds: what needs no rows, such as
    # a report against itself or a rule that cannot be judged, is spared them.
    from robustmix.evaluation.suite import all_numbers
    from robustmix.evaluation.suites.registry import read_suite

    part = content.suites[suite]
    try:
        prepared = read_suite(suite, content.protocol.params.get(suite, {}), part.origins)
    except IntakeError as error:
        if error.code == _UNKNOWN:
            raise Undefined(error.message) from None
        if error.code != _ABSENT:
            raise
        return SuiteNumbers(part, rows_of(content, view, suite, order), {}, installed=False)
    with _readable(part):
        rows = rows_of(content, view, suite, prepared.order(view) if order is None else order)
        return SuiteNumbers(part, rows, all_numbers(prepared, rows), installed=True)


@contextmanager
def _readable(part: SuitePart) -> Iterator[None]:
    """Turn what a definition raises of parameters that do not fit the rows into words."""
    try:
        yield
    except (Undefined, IntakeError, IncompatibleError):
        raise
    except RobustmixError as error:
        raise Undefined(error.message) from None
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError):
        raise Undefined("the recorded parameters do not fit the rows") from None
    except Exception as error:
        if not part.origins:
            raise
        # Others' code: what it raises is its fault, and one number's.
        raise Undefined(f"{plain(part.origins[0].module)} raised {type(error).__name__}") from error
