"""Boxes and masks of strangers: the forms that are read, and files that are refused."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustmix.errors import IntakeError
from robustmix.saliency import true_boxes
from robustmix.saliency.true_boxes import load_true_boxes, xml_objects
from robustmix.saliency.true_masks import load_true_masks

IDS = ("birds/test/001.a/x.jpg", "birds/test/001.a/y.jpg", "birds/test/002.b/x.jpg")

XML = """<annotation><folder>val</folder><filename>x</filename>
<size><width>500</width><height>375</height><depth>3</depth></size>
<object><name>n1</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>100</xmax><ymax>200</ymax>
</bndbox></object>
<object><name>n1</name><part><bndbox><xmin>1</xmin></bndbox></part>
<bndbox><ymax>60</ymax><xmin>30</xmin><xmax>50</xmax><ymin>40</ymin></bndbox></object>
</annotation>"""


def refused(match: str) -> AbstractContextManager[pytest.ExceptionInfo[IntakeError]]:
    return pytest.raises(IntakeError, match=match)


def test_a_list_with_several_boxes_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    path.write_text(
        "path,x0,y0,x1,y1\n001.a/x.jpg,1,2,3,4\n\n001.a/y,0,0,9,9.5\n001.a/x.jpg,5,6,7,8\n"
        "test/002.b/x.jpeg,1,1,2,2\nelsewhere.jpg,1,1,2,2\n"
    )
    found = load_true_boxes(path, IDS)
    assert [found.of[one].boxes for one in IDS] == [
        ((1, 2, 3, 4), (5, 6, 7, 8)), ((0, 0, 9, 9.5),), ((1, 1, 2, 2),)
    ]  # fmt: skip
    found.check(IDS)
    without_head = tmp_path / "other.txt"
    without_head.write_text("001.a/x.jpg,1,2,3,4\n")
    some = load_true_boxes(without_head, IDS)
    assert list(some.of) == [IDS[0]]
    assert some.sha256 != found.sha256
    with refused("no box for 2 of 3 samples, e.g. birds/test/001.a/y.jpg") as caught:
        some.check(IDS)
    assert caught.value.code == "E-BOXES"


def test_a_name_that_fits_two_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "boxes.csv").write_text("x.jpg,1,2,3,4\n")
    with refused("fits several samples, birds/test/001.a/x.jpg and birds/test/002.b/x.jpg"):
        load_true_boxes(tmp_path / "boxes.csv", IDS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a.jpg,1,2,3", "expected path,x0,y0,x1,y1, got 4 fields"),
        ("a.jpg,1,2,3,x", "are no numbers"),
        ("a.jpg,1,2,0,4", "is no box"),
        ("a.jpg,nan,2,3,4", "is no box"),
        ("a.jpg,-1,2,3,4", "is no box"),
        ("a.jpg,1,2,3,1e99", "is no box"),
    ],
)
def test_lines_that_are_no_boxes(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "boxes.csv").write_text(f"b.jpg,1,2,3,4\n{line}\n")
    with refused(f"boxes.csv:2.*{said}"):
        load_true_boxes(tmp_path / "boxes.csv", IDS)


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    with refused("cannot read boxes"):
        load_true_boxes(tmp_path / "absent.csv", IDS)
    (tmp_path / "boxes.csv").write_bytes(b"\xff\xfe\x00a")
    with refused("no list of boxes"):
        load_true_boxes(tmp_path / "boxes.csv", IDS)


def test_cub_s_own_lists(tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_text("1 001.a/x.jpg\n2 001.a/y.jpg\n3 002.b/x.jpg\n")
    (tmp_path / "bounding_boxes.txt").write_text("1 60.0 27.0 325.0 304.0\n2 1 2 3 4\n3 0 0 5 6\n")
    for path in (tmp_path, tmp_path / "bounding_boxes.txt"):
        found = load_true_boxes(path, IDS)
        assert found.of[IDS[0]].boxes == ((60, 27, 385, 331),)
        assert found.of[IDS[2]].boxes == ((0, 0, 5, 6),)


def test_imagenet_s_xml_flat_or_by_class(tmp_path: Path) -> None:
    (tmp_path / "002.b").mkdir()
    (tmp_path / "y.xml").write_text(XML)
    (tmp_path / "002.b" / "x.xml").write_text(XML.replace("<width>500", "<width>0"))
    found = load_true_boxes(tmp_path, IDS)
    assert found.of[IDS[1]].boxes == ((10, 20, 100, 200), (30, 40, 50, 60))
    assert found.of[IDS[1]].size == (500, 375)
    assert found.of[IDS[2]].size is None
    assert IDS[0] not in found.of
    before = found.sha256
    (tmp_path / "y.xml").write_text(XML.replace("<xmin>10<", "<xmin>11<"))
    assert load_true_boxes(tmp_path, IDS).sha256 != before


BOMB = '<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "declares a document type"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>', "declares a document type"),
        ("<annotation>", "is no XML"),
        ("<annotation>&b;</annotation>", "is no XML"),
        ("<annotation/>", "no object with a bndbox"),
        (XML.replace("<xmin>10</xmin>", ""), "is no box"),
        (XML.replace("<xmin>10<", "<xmin>ten<"), "are no numbers"),
        (XML.replace("<width>500", "<width>1e99"), "is no number of pixels"),
        (XML.replace("<width>500", "<width>nan"), "is no number of pixels"),
    ],
)
def test_hostile_and_damaged_xml(text: str, said: str) -> None:
    with refused(said):
        xml_objects(text.encode(), "x.xml")


def test_xml_files_and_boxes_have_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "y.xml").write_text(XML)
    monkeypatch.setattr(true_boxes, "MOST_XML", 100)
    with refused("at most 100 are read"):
        load_true_boxes(tmp_path, IDS)
    monkeypatch.setattr(true_boxes, "MOST_BOXES", 1)
    with refused("more than 1 boxes"):
        xml_objects(XML.encode(), "x.xml")


def save(path: Path, cells: list[list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(cells, dtype=np.uint8)).save(path)


def test_masks_beside_each_other(tmp_path: Path) -> None:
    save(tmp_path / "001.a" / "x.png", [[0, 255], [1, 0]])
    save(tmp_path / "001.a" / "x_ignore.png", [[255, 255], [0, 0]])
    masks = load_true_masks(tmp_path, IDS)
    assert list(masks.of) == [IDS[0]]
    mask = masks.take(IDS[0], 4)
    assert mask.inside.astype(int).tolist() == [[0, 0, 1, 1]] * 2 + [[1, 1, 0, 0]] * 2
    # What is both is the object's.
    assert mask.ignored.astype(int).tolist() == [[1, 1, 0, 0]] * 2 + [[0] * 4] * 2
    with refused("no mask for 2 of 3 samples") as caught:
        masks.check(IDS)
    assert caught.value.code == "E-MASKS"


def test_masks_by_a_list_are_joined(tmp_path: Path) -> None:
    save(tmp_path / "a.png", [[255, 0, 0]])
    save(tmp_path / "b.png", [[0, 255, 0]])
    (tmp_path / "masks.csv").write_text("001.a/x.jpg,a.png,\n001.a/x.jpg,b.png,\n")
    masks = load_true_masks(tmp_path, IDS)
    assert masks.take(IDS[0], 3).inside.astype(int).tolist() == [[1, 1, 0]] * 3
    before = masks.sha256
    save(tmp_path / "b.png", [[0, 0, 255]])
    assert load_true_masks(tmp_path, IDS).sha256 != before


def test_lists_of_masks_that_are_none(tmp_path: Path) -> None:
    with refused("there is no folder"):
        load_true_masks(tmp_path / "absent", IDS)
    for line, said in (
        ("001.a/x.jpg,../a.png,", "no path below"),
        ("001.a/x.jpg", "expected path,mask,ignored"),
        ("001.a/x.jpg,absent.png,", "cannot read mask"),
    ):
        (tmp_path / "masks.csv").write_text(f"{line}\n")
        with refused(said):
            load_true_masks(tmp_path, IDS)
