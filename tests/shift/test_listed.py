"""``robustmix data`` knows shift sets: whether they are here, where, and how much of them."""

import json
from pathlib import Path

import pytest

from robustmix.cli.app import run
from robustmix.data.shift.registry import SHIFTS
from robustmix.data.wnids import imagenet_wnids
from tests.shift.made import cifar10_1, folders


@pytest.fixture
def root(tmp_path: Path) -> Path:
    cifar10_1(tmp_path / "CIFAR-10.1")
    folders(tmp_path / "imagenet-a", {imagenet_wnids()[6]: 2, imagenet_wnids()[11]: 1})
    (tmp_path / "imagenet_c_bar").mkdir()
    return tmp_path


def said(words: str, root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run(["data", *words.split(), "--data-dir", str(root)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_every_set_is_listed_and_those_that_are_here(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(said("list --json", root, capsys)[1])
    here = {row["name"]: row["here"] for row in rows if row["name"] in SHIFTS}
    assert here.keys() == set(SHIFTS)
    assert {name for name, is_here in here.items() if is_here} == {
        "cifar10.1-v6", "imagenet-a", "imagenet-c-bar",
    }  # fmt: skip


def test_where_a_set_lies(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("where imagenet-a", root, capsys)[:2] == (0, f"{root / 'imagenet-a'}\n")
    code, _, error = said("where imagenet-r", root, capsys)
    assert code == 3
    assert "imagenet-r is not in the data folder: no imagenet-r in" in error


def test_a_part_of_a_set_is_an_error_with_both_counts(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = said("verify imagenet-a", root, capsys)
    assert code == 3
    assert "imagenet-a has 3 of 7,500 images" in error
    code, out, _ = said("verify imagenet-a --allow-partial", root, capsys)
    assert code == 0
    assert out.splitlines()[1:] == [
        "imagenet-a/test: 3 of 7,500 images",
        "  it has 2 classes, 200 were published",
        "  imagenet-a has 3 images, not 7,500",
    ]
    code, out, _ = said("verify imagenet-c-bar", root, capsys)
    assert code == 0
    assert "when it is run" in out
    code, out, _ = said("verify cifar10.1-v6 --allow-partial", root, capsys)
    assert code == 0
    assert "cifar10.1_v6_labels.npy is not the published file" in out
