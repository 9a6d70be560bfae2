"""Where the object is: bounding boxes or masks by sample id, to hide it or what is around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustmix.arrays import UNREADABLE
from robustmix.data.decode import read_header
from robustmix.data.file_pixels import FilePixels
from robustmix.data.images import ImageSet, Pixels, SubsetPixels
from robustmix.errors import IntakeError
from robustmix.files import expanded, file_digest, regular_file
from robustmix.later import Tensor, torch
from robustmix.saliency.from_file import SaliencyFile, load_maps, names_of, read_npz
from robustmix.saliency.missing_samples import told_missing

CUB_BOXES, CUB_IMAGES = "bounding_boxes.txt", "images.txt"
MOST_TEXT = 2**26
"""Bytes of either; the official ones have less than a million."""


@dataclass(frozen=True, eq=False)
class Regions:
    """The object's box in every image, or its mask."""

    name: str
    sha256: str
    boxes: dict[str, tuple[float, float, float, float]]
    """Sample id -> left, top, width, height, in pixels of the evaluated images."""

    masks: SaliencyFile | None = None
    """Share of the object in every pixel; in place of boxes."""

    def check(self, sample_ids: Sequence[str]) -> None:
        """Raise IntakeError unless there is a region for every sample."""
        if self.masks is not None:
            self.masks.check(sample_ids)
            return
        missing = told_missing("box", sample_ids, self.boxes)
        if missing:
            raise _bad(self.name, missing)

    def take(self, sample_ids: Sequence[str], size: tuple[int, int]) -> Tensor:
        """Return the share of the object in every pixel, float32 (n, H, W)."""
        if self.masks is not None:
            return self.masks.take(sample_ids, size)
        self.check(sample_ids)
        boxes = torch.tensor([self.boxes[sample_id] for sample_id in sample_ids])
        return box_coverage(boxes, size)


def box_coverage(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the share of every pixel that lies in its image's box, (N, H, W).

    Args:
        boxes: left, top, width, height in pixels, (N, 4); parts outside the image do not count.
        size: height and width of the images.

    Example:
        >>> box_coverage(torch.tensor([[0.5, 0.0, 1.0, 1.0]]), (2, 2)).tolist()
        [[[0.5, 0.5], [0.0, 0.0]]]
    """
    left, top, width, height = boxes.unsqueeze(2).unbind(1)

    def overlap(start: Tensor, length: Tensor, pixels: int) -> Tensor:
        edge = torch.arange(pixels, dtype=boxes.dtype)
        return (torch.minimum(start + length, edge + 1) - torch.maximum(start, edge)).clamp(0, 1)

    return overlap(top, height, size[0]).unsqueeze(2) * overlap(left, width, size[1]).unsqueeze(1)


def regions_digest(path: Path) -> str:
    """Return the SHA-256 of the file that the regions are read from.

    Raises:
        IntakeError: it is not there.
    """
    try:
        place = path / CUB_BOXES if path.is_dir() else path
        return file_digest(regular_file(place, what="boxes", code="E-BOXES"))
    except OSError as error:
        raise _bad(str(path), f"cannot be read ({error.strerror})") from error


def load_regions(path: Path, data: ImageSet) -> Regions:
    """Read boxes or masks.

    Args:
        path: an npz with ``sample_ids`` (N,) and ``boxes`` (N, 4): left, top, width and height in
            pixels of the evaluated images; or with ``sample_ids`` and ``maps`` (N, h, w), the
            object's mask. Or CUB-200-2011's folder, whose boxes are in pixels of the files and are
            brought through the resizing and the cropping of the evaluated images.
        data: the evaluated images.

    Raises:
        IntakeError: the file is missing or damaged, or lacks a sample of ``data``.
    """
    path = expanded(path)
    if path.is_dir():
        regions = _cub(path, data)
    else:
        boxes = _npz_boxes(path)
        if boxes is None:
            masks = load_maps(path)
            regions = Regions(masks.name, masks.sha256, {}, masks)
        else:
            regions = Regions(path.name, file_digest(path), boxes)
    regions.check(data.sample_ids)
    return regions


def _npz_boxes(path: Path) -> dict[str, tuple[float, float, float, float]] | None:
    try:
        arrays = read_npz(path)
        if "boxes" not in arrays:
            return None
        ids, boxes = names_of(arrays["sample_ids"]), arrays["boxes"].astype(np.float64)
    except UNREADABLE as error:
        raise _bad(path.name, f"is not a readable npz ({type(error).__name__})") from error
    return _as_boxes(path.name, ids, boxes)


def _as_boxes(
    name: str, ids: Sequence[str], boxes: NDArray[np.float64]
) -> dict[str, tuple[float, float, float, float]]:
    if boxes.shape != (len(ids), 4) or not np.isfinite(boxes).all() or (boxes[:, 2:] <= 0).any():
        raise _bad(name, "does not hold a box of positive width and height for every id")
    return {i: (b[0], b[1], b[2], b[3]) for i, b in zip(ids, boxes.tolist(), strict=True)}


def cub_boxes(folder: Path) -> dict[str, list[float]]:
    """Read CUB-200-2011's boxes: class folder and file name -> left, top, width, height.

    ``images.txt`` has lines of id and path below ``images``, ``bounding_boxes.txt`` of id, left,
    top, width and height, in pixels of the files.

    Raises:
        IntakeError: the lists are missing or damaged.
    """
    try:
        files = {row[0]: row[1] for row in _fields(folder / CUB_IMAGES, 2)}
        rows = {number: [*map(float, box)] for number, *box in _fields(folder / CUB_BOXES, 5)}
    except (OSError, ValueError) as error:
        raise _bad(str(folder), f"is not a folder of CUB-200-2011 ({error})") from error
    return {
        "/".join(file.split("/")[-2:]): rows[number]
        for number, file in files.items()
        if number in rows
    }


def _cub(folder: Path, data: ImageSet) -> Regions:
    """Return CUB's boxes in pixels of the evaluated images, found by the ends of sample ids."""
    found, boxes = cub_boxes(folder), {}
    for position, sample_id in enumerate(data.sample_ids):
        box = found.get("/".join(sample_id.split("/")[-2:]))
        if box is not None:
            boxes[sample_id] = _evaluated(box, data.pixels, position)
    ids = list(boxes)
    table = np.array([boxes[sample_id] for sample_id in ids]).reshape(-1, 4)
    return Regions(CUB_BOXES, file_digest(folder / CUB_BOXES), _as_boxes(CUB_BOXES, ids, table))


def _fields(path: Path, count: int) -> list[list[str]]:
    regular_file(path, what="file of CUB-200-2011", limit=MOST_TEXT, code="E-BOXES")
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not all(len(row) == count for row in rows):
        raise ValueError(f"{path.name} has a line without {count} fields")
    return rows


def _evaluated(box: Sequence[float], pixels: Pixels, position: int) -> list[float]:
    """Return a box in pixels of the evaluated image: shorter side resized, then the centre cut."""
    left, top, width, height = box
    while isinstance(pixels, SubsetPixels):
        position, pixels = int(pixels.chosen[position]), pixels.pixels
    if not isinstance(pixels, FilePixels):
        raise _bad(CUB_BOXES, "is in pixels of the files, which these images were not read from")
    header = read_header(pixels.paths[position])
    new_width, new_height = pixels.transform.resized(header.width, header.height)
    shift_x, shift_y = pixels.transform.corner(new_width, new_height)
    across, down = new_width / header.width, new_height / header.height
    return [left * across - shift_x, top * down - shift_y, width * across, height * down]


def _bad(name: str, what: str) -> IntakeError:
    return IntakeError(
        f"{name} {what}",
        "give an npz with sample_ids and boxes (N, 4) or maps (N, h, w), or CUB's folder",
        code="E-BOXES",
    )
