from pathlib import Path

import pytest

from robustmix.errors import IntakeError
from robustmix.models.class_map import read_class_map

NAMES = ["ant", "bee", "22"]


def write(folder: Path, text: str) -> Path:
    path = folder / "map.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model_index,label\n0,2\n1,0\n2,1\n", (2, 0, 1)),
        ("2,1\n0,2\n1,0\n", (2, 0, 1)),
        ("0,0\n3,1\n", (0, -1, -1, 1)),
        ("0, bee \n1,ant\n2,22\n", (1, 0, 2)),
        ("bee\n22\n\nant\n", (1, 2, 0)),
        ("\ufeffmodel_index,label\r\n0,1\r\n1,-1\r\n", (1, -1)),
    ],
)
def test_forms(tmp_path: Path, text: str, expected: tuple[int, ...]) -> None:
    assert read_class_map(write(tmp_path, text), NAMES) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows"),
        ("model_index,label\n", "no rows"),
        ("0,1,2\n", "every row needs"),
        ("0,1\n2\n", "every row needs"),
        ("a,1\n", "'a' is no model index"),
        ("-1,1\n", "'-1' is no model index"),
        ("0,1\n0,2\n", "appears twice"),
        ("99999999,0\n", "too large"),
        ("wasp\n", "label 'wasp'"),
        ("0,wasp\n", "label 'wasp'"),
        ("5\n", "label '5'"),
        ('"\0', "label"),
    ],
)
def test_malformed(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(IntakeError, match=message):
        read_class_map(write(tmp_path, text), NAMES)


def test_names_need_names(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match="no class names are known"):
        read_class_map(write(tmp_path, "0,ant\n"))


def test_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match="cannot read class map"):
        read_class_map(tmp_path / "none.csv")
    (tmp_path / "map.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IntakeError, match="no CSV text"):
        read_class_map(tmp_path / "map.csv")
