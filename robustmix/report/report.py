"""A report with its per-sample record: saved, loaded, turned into tables."""

import difflib
import json
import os
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic import ValidationError

from robustmix.errors import IncompatibleError, IntakeError, unknown_name
from robustmix.files import expanded, file_digest, write_text
from robustmix.metrics.metric import Metric
from robustmix.report.reading import existing, read_json_file, unreadable
from robustmix.report.samples import Samples
from robustmix.report.schema import Artifact, ReportModel, SuitePart
from robustmix.report.text import plain
from robustmix.report.views import VIEWS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MOST_SUITES = 1000
MOST_FAULTS = 1000
"""Of a file against the schema, of which the first is told."""

REPORT_FILE = "report.json"
SAMPLES_FILE = "samples.npz"


class Report:
    """What an evaluation found, and the rows it was found from.

    Attributes:
        content: the report file as a pydantic model.
        samples: the per-sample record; None if a report was loaded without it.
        interrupted_by: the signal that ended the evaluation early, if one did.
    """

    def __init__(self, content: ReportModel, samples: Samples | None = None) -> None:
        self.content = content
        self.samples = samples
        self.interrupted_by: int | None = None

    def metric(self, path: str) -> Metric:
        """Give one number: ``clean.top1``, ``corruption.acc[fog/3]``, ``pgd.robust_acc[8/255]``.

        Raises:
            KeyError: the report has no such suite or metric; the nearest are named.
        """
        found = self._found(path)
        if found is None:
            near = difflib.get_close_matches(path, list(self), n=3)
            suites = ", ".join(self.content.ordered_suites())
            hint = f"did you mean {', '.join(near)}?" if near else f"suites: {suites}"
            raise KeyError(f"this report has no {plain(path)}; {hint}")
        return found

    def __getitem__(self, path: str) -> Metric:
        """Give one number, as ``metric``: ``report["clean.top1"]``."""
        return self.metric(path)

    def __iter__(self) -> Iterator[str]:
        """Go through the paths of all numbers: what ``report[path]`` takes."""
        for key, part in self.content.ordered_suites().items():
            for condition, name, _ in metrics_of(part):
                yield f"{key}.{name}[{condition}]" if condition else f"{key}.{name}"

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._found(path) is not None

    def _found(self, path: str) -> Metric | None:
        suite, _, name = path.partition(".")
        part = self.content.suites.get(suite)
        found = None if part is None else part.number(name)
        bare, bracket, asked = name.removesuffix("]").partition("[")
        if part is None or found is not None or not bracket:
            return found
        # A radius is also found by its value: 8/255 for 0.0313725.
        for condition in part.conditions:
            if same_condition(condition.name, asked):
                return condition.metrics.get(bare)
        return None

    def __repr__(self) -> str:
        """Say what was evaluated, and the first number of each suite."""
        line: str = VIEWS["line"](self)
        return f"<Report {line}>"

    def _repr_html_(self) -> str:
        """Make a table for a notebook."""
        html: str = VIEWS["html"](self)
        return html

    def show(self) -> None:
        """Print the headline numbers and the first warnings, as ``robustmix report show`` does."""
        VIEWS["terminal"](self)

    def plot(self, what: str = "overview", *, suite: str = "") -> "Figure":
        """Draw the report; the figure is matplotlib's, to be changed or saved.

        Args:
            what: ``overview``; a suite of the report; a drawing such as ``reliability``,
                ``heatmap`` or ``attack-curves``; or ``eps``, accuracy against the radius.
            suite: key of the suite, where several have the drawing.

        Raises:
            UsageError: there is no such drawing or suite.
            IntakeError: no suite of the report has what is asked for.
        """
        figure: Figure = VIEWS["figure"](self, what, suite=suite)
        return figure

    def metrics(self, *suites: str) -> "pd.DataFrame":
        """Tabulate every number, or those of some suites; see ``to_frame``.

        Raises:
            UsageError: there is no such suite.
        """
        for suite in suites:
            if suite not in self.content.suites:
                raise unknown_name("suite", suite, self.content.suites)
        frame = self.to_frame()
        return frame[frame["suite"].isin(suites)].reset_index(drop=True) if suites else frame

    def to_frame(self) -> "pd.DataFrame":
        """Tabulate every number: suite, condition, metric, value, ci_low, ci_high, n, unit, ..."""
        import pandas as pd

        rows = [
            {
                "suite": suite,
                "condition": condition,
                "metric": name,
                "value": metric.value,
                "ci_low": metric.ci[0] if metric.ci else None,
                "ci_high": metric.ci[1] if metric.ci else None,
                "n": metric.n,
                "unit": metric.unit,
                "direction": metric.direction,
                "ci_method": metric.ci_method,
                "reason": metric.reason,
            }
            for suite, part in self.content.suites.items()
            for condition, name, metric in metrics_of(part)
        ]
        return pd.DataFrame(rows)

    def to_json(self) -> str:
        """Write the text of the report file: sorted keys, two spaces, no NaN."""
        value = self.content.model_dump(mode="json")
        text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        # Names of files that are not UTF-8 hold halves of surrogate pairs, which no file can.
        return text.encode("utf-8", "replace").decode("utf-8") + "\n"

    def save(self, folder: Path | str) -> Path:
        """Write ``samples.npz`` and then ``report.json`` into a folder; return the report's path.

        Raises:
            IncompleteError: the folder cannot be written; no half-written file is left.
        """
        folder = expanded(folder)
        if self.samples is not None:
            self.samples.save(folder / SAMPLES_FILE)
            record = Artifact(
                path=SAMPLES_FILE,
                kind="samples",
                sha256=file_digest(folder / SAMPLES_FILE),
                rows=self.samples.rows,
            )
            others = [a for a in self.content.artifacts if a.kind != "samples"]
            self.content = self.content.model_copy(update={"artifacts": [*others, record]})
        write_text(folder / REPORT_FILE, self.to_json())
        return folder / REPORT_FILE

    @classmethod
    def load(cls, path: Path | str, *, samples: bool = True) -> "Report":
        """Read a report, and its per-sample record if it lies beside it.

        Args:
            path: a report file, or the folder it lies in.
            samples: whether to look for the per-sample record.

        Raises:
            IntakeError: the file is missing, damaged or not a report, the record is not the one
                that the report was made from, or one lies there that the report does not name.
            IncompatibleError: the report was written in a newer version of the format.
        """
        path = report_path(path)
        content = read_report(path)
        record = find_record(content, path) if samples else None
        if record is None:
            return cls(content)
        beside = path.parent / record.path
        existing(beside, "per-sample record")
        try:
            digest = file_digest(beside)
        except OSError as error:
            raise unreadable(beside, error) from None
        if digest != record.sha256:
            raise IntakeError(
                f"{beside} is not the file that {path.name} was made from",
                "restore it or evaluate again",
                code="E-CHECKSUM",
            )
        loaded = Samples.load(beside)
        if loaded.rows != record.rows:
            raise _record_error(f"{path} states {record.rows} rows, {beside.name} has another")
        return cls(content, loaded)


def report_path(path: Path | str) -> Path:
    """Give the report file that a path means: itself, or the one in the folder that it is."""
    path = expanded(path)
    try:
        return path / REPORT_FILE if path.is_dir() else path
    except OSError:  # what cannot even be looked at is told when it is opened
        return path


def find_record(content: ReportModel, path: Path) -> Artifact | None:
    """Find the per-sample record that belongs to a report, its path cut to a name.

    Args:
        content: the report.
        path: its file; only a neighbour of it is ever opened, for the name may be a stranger's.

    Returns:
        None where there is none.

    Raises:
        IntakeError: the report names two, or another one lies beside it: whoever drops the name of
            a record must not be rid of it.
    """
    named = [artifact for artifact in content.artifacts if artifact.kind == "samples"]
    if len(named) > 1:
        raise _record_error(f"{path} names {len(named)} per-sample records")
    name = Path(named[0].path).name if named else ""
    if name != SAMPLES_FILE and os.path.lexists(path.parent / SAMPLES_FILE):
        raise _record_error(f"{SAMPLES_FILE} lies beside {path}, which does not name it")
    if not name or not os.path.lexists(path.parent / name):
        return None
    return named[0].model_copy(update={"path": name})


def _record_error(what: str) -> IntakeError:
    return IntakeError(
        what, "restore the report and the record that belong together", code="E-RECORD"
    )


Value = TypeVar("Value")


def without_folders(value: Value) -> Value:
    """Cut absolute paths in a JSON-like value to their last name: reports are published.

    Example:
        >>> without_folders(["eval", "/home/me/last.pth", "--out=/tmp/x", "8/255"])
        ['eval', 'last.pth', '--out=x', '8/255']
    """
    cut: Any = value
    if isinstance(value, str):
        cut = re.sub(r"(^|[=:])/(?:[^/]+/)*([^/]*)/?$", r"\1\2", value)
    elif isinstance(value, list):
        cut = [without_folders(item) for item in value]
    elif isinstance(value, dict):
        cut = {key: without_folders(item) for key, item in value.items()}
    return cast(Value, cut)


def read_report(path: Path) -> ReportModel:
    """Read and validate a report file; see ``Report.load`` for what is raised."""
    return validated(read_json(path), path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a report file of any version, unvalidated.

    Raises:
        IntakeError: it is missing, not readable within bounds, no JSON, or of another kind.
    """
    value = read_json_file(path)
    if not isinstance(value, dict) or value.get("kind") != "robustmix.report":
        raise IntakeError(f"{path} is not a robustmix report", "give the report.json of an eval")
    return value


def validated(value: dict[str, Any], path: Path) -> ReportModel:
    """Give the content of a report file, of schema 1.x too; see ``Report.load`` for the errors."""
    version = str(value.get("schema_version", ""))
    major = version.partition(".")[0]
    if major not in ("1", "2"):
        raise IncompatibleError(
            f"{path} has schema version {plain(version, 20) or 'none'}, this program reads 1.x "
            "and 2.x",
            "update robustmix",
            code="E-SCHEMA",
        )
    suites = value.get("suites")
    if isinstance(suites, dict) and len(suites) > MOST_SUITES:
        raise IntakeError(
            f"{path} has {len(suites)} suites, no report has more than {MOST_SUITES}",
            "evaluate again",
            code="E-REPORT",
        )
    try:
        if major == "1":
            from robustmix.report.schema_1 import upgraded  # dozens of models, of old files alone

            value = upgraded(value)
        return ReportModel.model_validate(value)
    except ValidationError as error:
        raise IntakeError(
            f"{path} breaks the schema {_faults(error)}",
            "see `robustmix report schema`",
            code="E-REPORT",
        ) from None


def _faults(error: ValidationError) -> str:
    count = error.error_count()
    if count > MOST_FAULTS:  # to list them takes longer than to find them
        return f"in {count} places"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = plain(".".join(str(part) for part in first["loc"]))
    return f"at {where}: {plain(first['msg'])} ({count} fault{'s' if count > 1 else ''})"


def same_condition(written: str, asked: str) -> bool:
    """Tell whether two conditions are one: equal text, or equal numbers to five digits."""
    if written == asked:
        return True
    left, right = as_number(written), as_number(asked)
    return left is not None and right is not None and abs(left - right) <= 1e-5 * max(1, abs(left))


def as_number(text: str) -> float | None:
    """Read ``8/255`` or ``0.25``; None for other text."""
    try:
        return float(Fraction(text)) if len(text) < 40 else None
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def metrics_of(part: SuitePart) -> Iterator[tuple[str, str, Metric]]:
    """Yield (condition, name, metric) for every number of a suite; its own have condition ''."""
    for name, metric in part.metrics.items():
        yield "", name, metric
    for condition in part.conditions:
        for name, metric in condition.metrics.items():
            yield condition.name, name, metric
