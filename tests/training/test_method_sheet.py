"""The picture of all methods: its rows, its pixels, and what it says of methods without a row."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from robustmix.cli.app import run
from robustmix.data.datasets import load_dataset
from robustmix.errors import UsageError
from robustmix.methods import METHODS
from robustmix.training import method_sheet
from robustmix.training.method_sheet import BELOW, GAP, LEFT, TOP, draw_method_sheet
from robustmix.training.pictures import spread_places
from tests.training.runs import trained_network

GENERATORS = ("automix", "samix", "adautomix")
FACTOR = 3  # 32 pixels become 96


def cell(picture: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    """One of a cell's pixels for each of the image's, (32, 32, 3)."""
    y = TOP + row * (32 * FACTOR + BELOW + GAP)
    x = LEFT + column * (32 * FACTOR + GAP)
    whole = picture[y : y + 32 * FACTOR, x : x + 32 * FACTOR]
    return whole[FACTOR // 2 :: FACTOR, FACTOR // 2 :: FACTOR]


def test_the_command_draws_a_row_a_method(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sheet.png"
    command = ["methods", "preview", "--dataset", "digits", "--out", str(out), "--pairs", "2"]
    assert run([*command, "--lam", "0.25", "--checkpoint", str(trained_network())]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(out)]
    assert [line.split(":")[0] for line in said.err.splitlines()] == [
        f"no row for {name}" for name in METHODS if name in GENERATORS
    ]
    data = load_dataset("digits", "test")
    chosen = torch.tensor(list(spread_places(data.labels, 4)))
    assert len({int(label) for label in data.labels[chosen]}) == 4
    pixels = data.pixels.take(chosen).permute(0, 2, 3, 1).numpy()
    rows = ["image", "partner", *(n for n in METHODS if n not in (*GENERATORS, "vanilla"))]
    with Image.open(out) as opened:
        picture = np.array(opened.convert("RGB"))
    height = TOP + len(rows) * (32 * FACTOR + BELOW + GAP)
    assert picture.shape[:2] == (height, LEFT + 2 * (32 * FACTOR + GAP) + GAP)
    for column in range(2):
        own, partner = pixels[column], pixels[column + 2]
        assert (cell(picture, 0, column) == own).all()
        assert (cell(picture, 1, column) == partner).all()
        mixed = 0.25 * own.astype(float) + 0.75 * partner.astype(float)
        got = cell(picture, rows.index("mixup"), column).astype(float)
        assert abs(got - mixed).max() <= 0.51
        # Whatever is pasted: every pixel is one of the two.
        for name in ("cutmix", "fmix", "gridmix", "attentivemix"):
            got = cell(picture, rows.index(name), column)
            assert ((got == own) | (got == partner)).all(), name
            assert (got == partner).any(), name


def test_without_a_trained_network_some_rows_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(method_sheet, "_trained_on_digits", lambda folder, seed: None)
    sheet = draw_method_sheet(tmp_path / "sheet.png", pairs=1)
    asks = {"attentivemix", "supermix", "puzzlemix", "co-mixup", "snapmix"}
    assert set(sheet.left_out) == asks | set(GENERATORS)
    assert all("--checkpoint" in sheet.left_out[name] for name in asks)
    assert list(sheet.shown) == [n for n in METHODS if n not in sheet.left_out and n != "vanilla"]


@pytest.mark.parametrize(
    ("values", "message"),
    [({"lam": 1.5}, "lam: expected a number in"), ({"pairs": 0}, "pairs: expected 1 to")],
)
def test_impossible_wishes(values: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        draw_method_sheet(tmp_path / "sheet.png", **values)  # type: ignore[arg-type]


def test_the_teacher_option_is_the_method_s(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained_network().parent)
    common = ["--epochs", "1", "--limit-train", "32", "--set", "limit_val=8", "--progress", "none"]
    recipe = ["train", "digits-resnet8-attentivemix", "--out", str(tmp_path / "run"), *common]
    assert run([*recipe, "--teacher", trained_network().name]) == 0
    # Found again from another folder: the recipe holds the whole path.
    assert str(trained_network()) in (tmp_path / "run" / "recipe.toml").read_text()
    capsys.readouterr()
    assert run([*recipe[:2], "--out", str(tmp_path / "none"), *common]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error[E-TEACHER]: this method needs a trained teacher")
    wrong = ["train", "digits-resnet8-mixup", "--teacher", "x.pth", "--out", str(tmp_path / "m")]
    assert run([*wrong, *common]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error[E-UNKNOWN-OPTION]: unknown option of method mixup 'teacher'")


def test_a_teacher_may_be_named_and_its_weights_are_not_fetched_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "torchvision:resnet18@IMAGENET1K_V1"
    recipe = ["train", "digits-resnet8-attentivemix", "--teacher", name, "--progress", "none"]
    for asked in (["--out", str(tmp_path / "run")], ["--dry-run"]):
        assert run([*recipe, *asked]) == 3
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith(f"error[E-NO-WEIGHTS]: the weights of {name} are not in the local")
