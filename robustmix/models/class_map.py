"""Read which data set label each output of a model stands for."""

import csv
from collections.abc import Sequence
from pathlib import Path

from robustmix.errors import IntakeError
from robustmix.files import regular_file
from robustmix.text import plain

MOST_BYTES = 2**24
"""Of a class map; that of 21,843 classes takes a fiftieth of it."""

MOST_CLASSES = 1_000_000


def read_class_map(path: Path, class_names: Sequence[str] | None = None) -> tuple[int, ...]:
    r"""Return the label of every model output, -1 for an output without one.

    The CSV file has either two columns, model index and label (a number, or a class name), with an
    optional header ``model_index,label``; or one column with the label names in the model's order.

    Args:
        path: the file.
        class_names: names of the data set's labels, in label order; needed for names.

    Raises:
        IntakeError: the file is missing or malformed, or a name is unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "map.csv")
        ...     _ = file.write_text("model_index,label\n0,1\n1,0\n")
        ...     read_class_map(file)
        (1, 0)
    """
    rows = [[cell.strip() for cell in row] for row in _rows(path) if any(map(str.strip, row))]
    if rows and len(rows[0]) == 2 and rows[0][0].lower() == "model_index":
        rows = rows[1:]
    if not rows:
        raise _malformed(path, "it has no rows")
    widths = {len(row) for row in rows}
    if widths == {1}:
        return tuple(_label(path, row[0], class_names, names_only=True) for row in rows)
    if widths != {2}:
        raise _malformed(path, "every row needs model_index,label")
    labels: dict[int, int] = {}
    for index_text, label in rows:
        if not index_text.isdecimal():
            raise _malformed(path, f"'{plain(index_text, 40)}' is no model index")
        index = _number(path, index_text)
        if index in labels:
            raise _malformed(path, f"model index {index} appears twice")
        labels[index] = _label(path, label, class_names, names_only=False)
    return tuple(labels.get(index, -1) for index in range(max(labels) + 1))


def _number(path: Path, text: str) -> int:
    if len(text) > 7 or int(text) >= MOST_CLASSES:
        raise _malformed(path, f"the number {plain(text, 40)} is too large")
    return int(text)


def _rows(path: Path) -> list[list[str]]:
    regular_file(path, what="class map", limit=MOST_BYTES, hint="check --class-map")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return list(csv.reader(file))
    except OSError as error:
        raise IntakeError(
            f"cannot read class map {path}: {error.strerror}", "check --class-map"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise _malformed(path, "it is no CSV text") from error


def _label(path: Path, text: str, class_names: Sequence[str] | None, *, names_only: bool) -> int:
    if class_names is not None and text in class_names:
        return list(class_names).index(text)
    if not names_only and text.lstrip("-").isdecimal():
        return -1 if text.startswith("-") else _number(path, text)
    known = "no class names are known" if class_names is None else "no class bears that name"
    raise _malformed(path, f"label '{plain(text, 40)}' is not understood, {known}")


def _malformed(path: Path, why: str) -> IntakeError:
    return IntakeError(
        f"class map {path.name}: {why}",
        "expected rows model_index,label or one label name a row",
        code="E-CLASS-MAP",
    )
