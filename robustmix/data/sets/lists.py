"""Annotation files of data sets, read within bounds: lines of fields, names of files in folders."""

import os
from collections.abc import Iterator
from pathlib import Path

from robustmix.data.listing import EXTENSIONS, unreadable
from robustmix.data.sets.image_set import damaged
from robustmix.files import regular_file

MOST_BYTES = 2**30
"""Of a list; the longest official one, of Places205, has less than 200 million."""


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list without their ends, empty ones left out.

    Raises:
        IntakeError: it is not there, too large, or not UTF-8.
    """
    regular_file(path, what="list", limit=MOST_BYTES, hint="unpack it again", code="E-DATA")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise damaged(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    return [line for raw in text.split("\n") if (line := raw.strip("\r"))]


def read_fields(
    path: Path, count: int, separator: str | None = None, *, most: int | None = None
) -> Iterator[list[str]]:
    r"""Yield the fields of each line of a list.

    Args:
        path: the list.
        count: fewest fields that a line has.
        separator: between them; None is any white space.
        most: fields at which splitting stops, so that the last holds the rest; None splits all.

    Raises:
        IntakeError: see ``read_lines``; or a line has fewer fields.
    """
    splits = -1 if most is None else most - 1
    for number, line in enumerate(read_lines(path), 1):
        row = line.split(separator, splits)
        if len(row) < count:
            raise damaged(f"{path}:{number}: expected {count} fields, got {line!r:.80}")
        yield row


def whole_number(text: str, path: Path) -> int:
    """Return a whole number of a list.

    Raises:
        IntakeError: it is none.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise damaged(f"{path}: expected a whole number, got {text!r:.40}")
    return int(text)


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files in a folder, sorted; hidden ones left out.

    Raises:
        IntakeError: the folder cannot be read.
    """
    return sorted(name for name in _names(folder) if name.lower().endswith(EXTENSIONS))


def folder_names(folder: Path) -> list[str]:
    """Return the names of what lies in a folder but files with endings of images, sorted.

    A folder that is not there has none.

    Raises:
        IntakeError: the folder cannot be read.
    """
    if not folder.is_dir():
        return []
    others = (name for name in _names(folder) if not name.lower().endswith(EXTENSIONS))
    return sorted(name for name in others if (folder / name).is_dir())


def _names(folder: Path) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if name[0] != "."]
    except OSError as error:
        raise unreadable(folder, error) from error
