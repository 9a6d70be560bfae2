"""Boxes of all contours against flood filling and border following in loops, and OpenCV."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robustmix.saliency.level_contours import LEVELS, level_contours
from tests.saliency.localisers import boxes_above, outline, pieces, polygon_area


def enlarged(
    rng: np.random.Generator, cells: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """A smooth map as networks make them."""
    coarse = torch.from_numpy(rng.normal(size=(1, 1, *cells)))
    large = torch.nn.functional.interpolate(coarse, size, mode="bicubic")[0, 0].numpy()
    return np.asarray(255 * (large - large.min()) / np.ptp(large)).astype(np.uint8)


def kinds_of_map(rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    """Smooth maps, noise, few levels (many ties, holes in holes), lines, one pixel, nothing."""
    maps = [enlarged(rng, (3, 4), (17, 13)) for _ in range(3)]
    for _ in range(12):
        size = rng.integers(1, 10, 2)
        maps.append(rng.integers(0, 256, size).astype(np.uint8))
        few = int(rng.integers(1, 4))
        maps.append((rng.integers(0, few + 1, size) * (255 // few)).astype(np.uint8))
    nested = np.zeros((13, 11), dtype=np.uint8)
    nested[1:12, 1:10], nested[2:11, 2:9], nested[4:9, 4:7], nested[5:8, 5] = 200, 0, 90, 30
    diamond = np.zeros((7, 7), dtype=np.uint8)
    for y, x in ((1, 3), (2, 2), (3, 1), (4, 2), (5, 3), (4, 4), (3, 5), (2, 4)):
        diamond[y, x] = 255
    one = np.zeros((5, 7), dtype=np.uint8)
    one[3, 3] = 255
    return [*maps, nested, diamond, one, np.zeros((4, 3), dtype=np.uint8)]


def by_level(values: NDArray[np.uint8]) -> tuple[list[list[tuple[int, ...]]], list[list[int]]]:
    found = level_contours(values)
    boxes: list[list[tuple[int, ...]]] = [[] for _ in range(LEVELS)]
    for level, box in zip(found.level.tolist(), found.boxes.tolist(), strict=True):
        boxes[level].append(tuple(box))
    return [sorted(of) for of in boxes], found.largest.tolist()


def test_every_contour_of_every_level_is_that_of_the_loops() -> None:
    for values in kinds_of_map(np.random.default_rng(0)):
        boxes, largest = by_level(values)
        # Between the values that a map has nothing changes.
        for level in {*(np.unique(values).astype(int) - 1), *np.unique(values).astype(int), 0}:
            if 0 <= level < LEVELS:
                want, big = boxes_above(values, int(level))
                assert boxes[level] == sorted(want)
                assert tuple(largest[level]) == big


def test_areas_of_outlines_by_hand() -> None:
    """A pixel or a line has none, a block of 2x2 has 1, of 4x4 has 9, a diamond of 4 pixels 2."""
    for size, area in (((1, 1), 0), ((1, 5), 0), ((2, 2), 1), ((4, 4), 9)):
        (piece,) = pieces(np.ones(size, dtype=bool), corners=True)
        assert polygon_area(outline(piece)) == area
    diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=bool)
    (piece,) = pieces(diamond, corners=True)
    assert polygon_area(outline(piece)) == 2


def test_the_largest_is_by_area_not_by_pixels() -> None:
    """A line of nine pixels has no area; a block of four has 1."""
    values = np.zeros((6, 11), dtype=np.uint8)
    values[1, 1:10] = values[3:5, 2:4] = 255
    assert level_contours(values).largest[100].tolist() == [2, 3, 4, 5]


def test_a_hole_decides_which_is_the_largest() -> None:
    """A thin ring of 16 pixels encloses 16; a block of 4x5 pixels has 12, but no hole."""
    values = np.zeros((8, 14), dtype=np.uint8)
    values[1:6, 1:6], values[2:5, 2:5] = 255, 0
    values[1:5, 8:13] = 255
    assert level_contours(values).largest[0].tolist() == [1, 1, 6, 6]


def test_ends_of_boxes() -> None:
    """One past the last pixel, but for the map's edge."""
    inside = np.zeros((8, 8), dtype=np.uint8)
    inside[3, 3] = 255
    assert level_contours(inside).largest[0].tolist() == [3, 3, 4, 4]
    assert level_contours(np.full((8, 9), 7, dtype=np.uint8)).largest[6].tolist() == [0, 0, 8, 7]
    assert by_level(np.zeros((8, 9), dtype=np.uint8))[0] == [[(0, 0, 0, 0)]] * LEVELS


def test_opencv_finds_the_same() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is no dependency")
    rng = np.random.default_rng(1)
    maps = [*kinds_of_map(rng), *(enlarged(rng, (7, 7), (224, 224)) for _ in range(2))]
    for values in maps:
        boxes, largest = by_level(values)
        height, width = values.shape
        for level in range(0, LEVELS, 3):
            image = (values > level).astype(np.uint8)
            contours = cv2.findContours(image, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
            want = []
            for x, y, wide, tall in map(cv2.boundingRect, contours):
                want.append((x, y, min(x + wide, width - 1), min(y + tall, height - 1)))
            assert boxes[level] == sorted(want or [(0, 0, 0, 0)])
            if want:
                areas = [cv2.contourArea(contour) for contour in contours]
                assert tuple(largest[level]) == want[int(np.argmax(areas))]
