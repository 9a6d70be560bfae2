"""Where the objects of pictures really are: boxes by sample id, in pixels of the stored pictures.

Three forms are read: CUB-200-2011's lists, a folder of ImageNet's XML files, and a list of lines
``path,x0,y0,x1,y1``, several a picture where it has several objects. All of them may be strangers'.
"""

import csv
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar
from xml.parsers import expat

from robustmix.data.listing import EXTENSIONS
from robustmix.errors import IntakeError
from robustmix.files import expanded, file_digest, regular_file
from robustmix.saliency.missing_samples import told_missing
from robustmix.saliency.object_regions import CUB_BOXES, MOST_TEXT, cub_boxes
from robustmix.text import plain

MOST_XML = 2**20
"""Bytes of one XML file; the official ones have less than 20,000."""

MOST_BOXES = 1000
"""Of one picture."""

LARGEST = 2**24
"""Pixels that a coordinate may be."""

HINT = (
    "give --boxes with a list of lines path,x0,y0,x1,y1, CUB's folder, or the folder of "
    "ImageNet's XML files"
)

Value = TypeVar("Value")

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class Objects(NamedTuple):
    """The objects of one picture."""

    boxes: tuple[Box, ...]
    """At least one."""

    size: tuple[int, int] | None = None
    """Width and height that the boxes go by, where the file says it; else the picture's own."""


@dataclass(frozen=True, eq=False)
class TrueBoxes:
    """The boxes of some samples."""

    name: str
    sha256: str
    """Of the file, or over all files of a folder that belong to the samples."""

    of: Mapping[str, Objects]
    """By sample id."""

    def check(self, sample_ids: Sequence[str]) -> None:
        """Refuse samples without a box.

        Raises:
            IntakeError: there are some; the first is named.
        """
        missing = told_missing("box", sample_ids, self.of)
        if missing:
            raise bad_boxes(
                f"{self.name} {missing}", f"write the end of the sample's id as its path; {HINT}"
            )


def load_true_boxes(path: Path, sample_ids: Sequence[str]) -> TrueBoxes:
    """Read the boxes of samples; those that have none are left out.

    Args:
        path: a folder with CUB's ``bounding_boxes.txt`` and ``images.txt``; a folder of XML files
            called as the pictures, in folders by class or not; or a list.
        sample_ids: of the samples.

    Raises:
        IntakeError: there is no such file, or it is none of these.
    """
    path = expanded(path)
    try:
        if path.name == CUB_BOXES and path.is_file():
            path = path.parent
        if not path.is_dir():
            regular_file(path, what="boxes", limit=MOST_TEXT, hint=HINT, code="E-BOXES")
            found = by_ending(_listed(path), sample_ids, path)
            return TrueBoxes(path.name, file_digest(path), found)
        if (path / CUB_BOXES).exists():
            official = {name: Objects((_corners(box),)) for name, box in cub_boxes(path).items()}
            found = by_ending(official, sample_ids, path)
            return TrueBoxes(CUB_BOXES, file_digest(path / CUB_BOXES), found)
        return _xml_folder(path, sample_ids)
    except OSError as error:
        raise bad_boxes(f"cannot read {path}: {error.strerror or error}") from error


def by_ending(
    named: Mapping[str, Value], sample_ids: Sequence[str], source: Path
) -> dict[str, Value]:
    """Find for each sample what is named by the end of its id, the longest such name first.

    The endings of image files do not count, for some ids lack them.

    Raises:
        IntakeError: a name fits several samples.
    """
    short = {without_ending(name): value for name, value in named.items()}
    found: dict[str, Value] = {}
    used: dict[str, str] = {}
    for sample_id in sample_ids:
        parts = without_ending(sample_id).split("/")
        names = ("/".join(parts[start:]) for start in range(len(parts)))
        name = next((one for one in names if one in short), None)
        if name is None:
            continue
        if name in used:
            raise bad_boxes(
                f"{source.name}: {plain(name, 80)} fits several samples, {used[name]} and "
                f"{sample_id}",
                "write more of the path",
            )
        used[name] = sample_id
        found[sample_id] = short[name]
    return found


def without_ending(name: str) -> str:
    """Leave the ending of an image file out.

    Example:
        >>> without_ending("birds/a.b.jpg"), without_ending("birds/a.b")
        ('birds/a.b', 'birds/a.b')
    """
    stem, dot, ending = name.rpartition(".")
    return stem if dot and f".{ending.lower()}" in EXTENSIONS else name


def _corners(box: Sequence[float]) -> Box:
    left, top, width, height = box
    return checked_box((left, top, left + width, top + height), CUB_BOXES)


def checked_box(numbers: Sequence[float], where: str) -> Box:
    """Give a box of four numbers.

    Raises:
        IntakeError: they are none.
    """
    good = len(numbers) == 4 and all(math.isfinite(n) and 0 <= n <= LARGEST for n in numbers)
    if not good or numbers[0] > numbers[2] or numbers[1] > numbers[3]:
        raise bad_boxes(
            f"{where}: {plain(', '.join(f'{n:g}' for n in numbers[:4]), 80)} is no box",
            "expected x0, y0, x1, y1 in pixels, 0 <= x0 <= x1 and 0 <= y0 <= y1",
        )
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _listed(path: Path) -> dict[str, Objects]:
    """Read lines of path, x0, y0, x1, y1; a first line of names is passed over."""
    found: dict[str, list[Box]] = {}
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), 1):
                cells = [cell.strip() for cell in row]
                if not any(cells) or (number == 1 and cells[1:] == ["x0", "y0", "x1", "y1"]):
                    continue
                where = f"{path.name}:{number}"
                if len(cells) != 5:
                    raise bad_boxes(f"{where}: expected path,x0,y0,x1,y1, got {len(cells)} fields")
                boxes = found.setdefault(cells[0], [])
                boxes.append(checked_box(_numbers(cells[1:], where), where))
                if len(boxes) > MOST_BOXES:
                    raise bad_boxes(f"{where}: more than {MOST_BOXES} boxes of one picture")
    except (UnicodeDecodeError, csv.Error) as error:
        raise bad_boxes(f"{path.name} is no list of boxes ({error})") from None
    return {name: Objects(tuple(boxes)) for name, boxes in found.items()}


def _numbers(cells: Sequence[str], where: str) -> list[float]:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        raise bad_boxes(f"{where}: {plain(','.join(cells), 80)} are no numbers") from None


def _xml_folder(folder: Path, sample_ids: Sequence[str]) -> TrueBoxes:
    """Read ``<stem>.xml`` or ``<class>/<stem>.xml`` of each sample."""
    found: dict[str, Objects] = {}
    digest = hashlib.sha256()
    for sample_id in sample_ids:
        above, _, stem = without_ending(sample_id).rpartition("/")
        places = (folder / f"{stem}.xml", folder / above.rpartition("/")[2] / f"{stem}.xml")
        path = next((place for place in places if place.is_file()), None)
        if path is not None:
            regular_file(path, what="boxes", limit=MOST_XML, hint=HINT, code="E-BOXES")
            text = path.read_bytes()
            digest.update(f"{sample_id}\n".encode())
            digest.update(hashlib.sha256(text).digest())
            found[sample_id] = xml_objects(text, path.name)
    return TrueBoxes(f"{folder.name}/*.xml", digest.hexdigest(), found)


def xml_objects(text: bytes, name: str) -> Objects:
    """Read the boxes of an annotation in Pascal VOC's XML, as ImageNet has them.

    No document type is read, so that no entity can be declared that stands for more than itself.

    Raises:
        IntakeError: it is no such file.
    """
    reader = _Annotation(name)
    try:
        reader.parser.Parse(text, True)
    except expat.ExpatError as error:
        raise bad_boxes(f"{name} is no XML ({error})") from None
    if not reader.boxes:
        raise bad_boxes(f"{name} has no object with a bndbox")
    size = reader.size
    if not size.keys() >= {"width", "height"}:
        return Objects(tuple(reader.boxes))
    width, height = int(size["width"]), int(size["height"])
    # Some files of ImageNet's state a size of 0.
    return Objects(tuple(reader.boxes), (width, height) if width > 0 < height else None)


class _Annotation:
    """Collects numbers of ``size`` and of each ``object/bndbox``, by where they stand."""

    NAMES = ("xmin", "ymin", "xmax", "ymax")
    OF_BOX, OF_SIZE = ["annotation", "object", "bndbox"], ["annotation", "size"]

    def __init__(self, name: str) -> None:
        self.name = name
        self.boxes: list[Box] = []
        self.size: dict[str, float] = {}
        self._path: list[str] = []
        self._box: dict[str, float] = {}
        self._text = ""
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters

    def _refuse(self, *declared: object) -> None:
        raise bad_boxes(f"{self.name} declares a document type", "give files without one")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._path.append(tag)
        self._text = ""

    def _characters(self, text: str) -> None:
        if len(self._text) < 40:
            self._text += text

    def _end(self, tag: str) -> None:
        self._path.pop()
        if self._path == self.OF_SIZE and tag in ("width", "height"):
            self.size[tag] = self._number(tag)
        elif self._path == self.OF_BOX and tag in self.NAMES:
            self._box[tag] = self._number(tag)
        elif tag == "bndbox" and self._path == self.OF_BOX[:-1]:
            numbers = [self._box.get(name, math.nan) for name in self.NAMES]
            self.boxes.append(checked_box(numbers, self.name))
            self._box = {}
            if len(self.boxes) > MOST_BOXES:
                raise bad_boxes(f"{self.name} has more than {MOST_BOXES} boxes")

    def _number(self, tag: str) -> float:
        (number,) = _numbers([self._text.strip()], f"{self.name}, {tag}")
        if not 0 <= number <= LARGEST:
            raise bad_boxes(f"{self.name}, {tag}: {number:g} is no number of pixels")
        return number


def bad_boxes(what: str, hint: str = HINT) -> IntakeError:
    """Make the error for boxes that cannot be used."""
    return IntakeError(what, hint, code="E-BOXES")
