"""A report with its per-sample record: saved, loaded, turned into tables."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import pandas as pd
from pydantic import ValidationError

from robustmix.errors import IncompatibleError, IntakeError
from robustmix.files import file_digest, write_text
from robustmix.metrics.metric import Metric
from robustmix.report.samples import Samples
from robustmix.report.schema import Artifact, ReportModel, SuitePart
from robustmix.report.schema_1 import upgraded
from robustmix.report.text import plain

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
        """Give one number, e.g. ``clean.top1`` or ``corruption.acc[fog/3]``.

        Raises:
            KeyError: the report has no such suite or metric.
        """
        suite, _, name = path.partition(".")
        found = self.content.suites[suite].number(name)
        if found is None:
            raise KeyError(path)
        return found

    def to_frame(self) -> pd.DataFrame:
        """Tabulate every number: suite, condition, metric, value, ci_low, ci_high, n, unit, ..."""
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
        return (
            json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        )

    def save(self, folder: Path | str) -> Path:
        """Write ``samples.npz`` and then ``report.json`` into a folder; return the report's path.

        Raises:
            IncompleteError: the folder cannot be written; no half-written file is left.
        """
        folder = Path(folder)
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
            IntakeError: the file is missing, damaged or not a report, or the record is not the one
                that the report was made from.
            IncompatibleError: the report was written in a newer version of the format.
        """
        path = Path(path)
        if path.is_dir():
            path = path / REPORT_FILE
        content = read_report(path)
        record = next((a for a in content.artifacts if a.kind == "samples"), None)
        # The name comes from a file that may be a stranger's: only a neighbour is ever opened.
        beside = path.parent / Path(record.path).name if record else None
        if not samples or record is None or beside is None or not _is_file(beside):
            return cls(content)
        if file_digest(beside) != record.sha256:
            raise IntakeError(
                f"{beside} is not the file that {path.name} was made from",
                "restore it or evaluate again",
                code="E-CHECKSUM",
            )
        return cls(content, Samples.load(beside))


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


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def read_report(path: Path) -> ReportModel:
    """Read and validate a report file; see ``Report.load`` for what is raised."""
    return validated(read_json(path), path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a report file of any version, unvalidated.

    Raises:
        IntakeError: it is missing, no JSON, or of another kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value: Any = json.loads(text, parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise IntakeError(f"there is no report at {path}", "check the path") from None
    except (OSError, ValueError, RecursionError) as error:
        raise IntakeError(
            f"{path} is not readable JSON ({type(error).__name__})", "restore it or evaluate again"
        ) from None
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
    try:
        return ReportModel.model_validate(upgraded(value) if major == "1" else value)
    except ValidationError as error:
        first = error.errors()[0]
        where = plain(".".join(str(part) for part in first["loc"]))
        raise IntakeError(
            f"{path} breaks the schema at {where}: {plain(first['msg'])} "
            f"({error.error_count()} fault{'s' if error.error_count() > 1 else ''})",
            "see `robustmix report schema`",
            code="E-REPORT",
        ) from None


def metrics_of(part: SuitePart) -> Iterator[tuple[str, str, Metric]]:
    """Yield (condition, name, metric) for every number of a suite; its own have condition ''."""
    for name, metric in part.metrics.items():
        yield "", name, metric
    for condition in part.conditions:
        for name, metric in condition.metrics.items():
            yield condition.name, name, metric
