"""Numbers as CSV: ``scalars.csv`` of a training, ``suites.csv`` of an evaluation."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from robustmix.files import write_text
from robustmix.loggers.events import Event, Hook, RunStarted, Scalars, SuiteFinished
from robustmix.loggers.memory import Memory

SCALARS, SUITES = "scalars.csv", "suites.csv"


def open_csv(started: RunStarted, folder: Path, memory: Memory) -> Hook:
    """Return a logger that adds rows to a table in ``folder``; one of a step not known is cut off.

    Floats are written so that reading gives the same ones. A number that some rows lack is empty
    there.
    """
    if started.kind == "train":
        steps = CsvFile(folder / SCALARS, ("step", "epoch"))
        steps.keep(lambda row: int(row["step"]) <= memory.scalars)

        def scalars(event: Event) -> None:
            if isinstance(event, Scalars):
                steps.add([{"step": event.step, "epoch": event.epoch, **event.values}])

        return scalars
    metrics = CsvFile(folder / SUITES, ("suite", "metric", "value"))
    metrics.keep(lambda row: row["suite"] in memory.suites)

    def suites(event: Event) -> None:
        if isinstance(event, SuiteFinished):
            metrics.add(
                {"suite": event.suite, "metric": name, "value": value}
                for name, value in event.metrics.items()
            )

    return suites


class CsvFile:
    """A table that grows by rows, and now and then by a column.

    Args:
        path: the file.
        columns: the first ones.
    """

    def __init__(self, path: Path, columns: Iterable[str]) -> None:
        self.path = path
        self.columns = list(columns)

    def keep(self, wanted: Callable[[Mapping[str, str]], bool]) -> None:
        """Keep those rows that are whole and wanted; a kill may have cut the last one off."""
        rows = []
        for row in self._rows():
            try:
                if wanted(row):
                    rows.append(row)
            except (KeyError, ValueError):
                continue
        self._write(rows)

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Add rows; a column that is new is one of all rows."""
        rows = list(rows)
        new = dict.fromkeys(key for row in rows for key in row if key not in self.columns)
        if new:
            known = self._rows()
            self.columns += new
            self._write(known)
        with open(self.path, "a", encoding="utf-8", newline="") as file:
            file.write(self._text(rows))

    def _rows(self) -> list[dict[str, str]]:
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))
        header = next(lines, [])
        self.columns = list(dict.fromkeys([*self.columns, *header]))
        return [dict(zip(header, line, strict=True)) for line in lines if len(line) == len(header)]

    def _write(self, rows: Iterable[Mapping[str, object]]) -> None:
        write_text(self.path, self._text([{name: name for name in self.columns}, *rows]))

    def _text(self, rows: Iterable[Mapping[str, object]]) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writerows(rows)
        return text.getvalue()
