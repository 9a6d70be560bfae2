"""Training images of another side than test images: recorded, and what evaluation follows."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from robustmix.cli.app import run
from robustmix.data.datasets import load_dataset
from robustmix.data.loader import Batch, train_batches
from robustmix.data.protocol import TestTransform
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.models import load_model
from robustmix.models.checkpoint import read_checkpoint
from robustmix.training import resolve_recipe, train
from tests.training.runs import log
from tests.training.test_recipe_files import pictures as pictures

SIZES: dict[str, Any] = {
    "img_size": 36,
    "augment.size": 28,
    "test_transform.resize": 38,  # 36 / .95
    "epochs": 1,
    "batch_size": 4,
    "device": "cpu",
    "progress": "none",
}


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the images that are trained on."""
    seen: list[tuple[int, ...]] = []

    def noted(*args: Any, **kwargs: Any) -> Iterator[Batch]:
        for batch in train_batches(*args, **kwargs):
            seen.append(tuple(batch.images.shape[1:]))
            yield batch

    monkeypatch.setattr("robustmix.training.run.train_batches", noted)
    return seen


@pytest.mark.parametrize("method", ["cutmix", "automix"])
def test_it_trains_on_one_and_tests_on_the_other(
    method: str, tmp_path: Path, pictures: Path, sides: list[tuple[int, ...]]
) -> None:
    folder = f"folder:{pictures}"
    name = f"imagenet-1k-resnet8-{method}"
    done = train(name, out=tmp_path / "run", dataset=folder, picture_every=0, **SIZES)
    assert set(sides) == {(3, 28, 28)}
    written = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8"))
    transform = {"resize": 38, "crop": 36, "interpolation": "bicubic"}
    assert (written["augment"]["size"], written["img_size"]) == (28, 36)
    checkpoint = read_checkpoint(done.last)
    for record in (written, checkpoint.recipe):
        assert record["test_transform"] == transform
    assert checkpoint.input_size == (3, 36, 36)
    asked = TestTransform(**checkpoint.recipe["test_transform"])
    data = load_dataset(folder, "test", test_transform=asked)
    assert data.input_size == (3, 36, 36)
    report = evaluate(load_model(done.last), data, ["clean"])
    assert report.metric("clean.top1").value == log(done.run_dir)[-1]["top1"]


def test_the_command_line_has_both(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--train-size", "160", "--crop-pct", "0.95", "--dry-run"]
    flags = [
        "--dataset",
        "imagenet-1k",
        "--arch",
        "resnet8",
        "--batch-size",
        "2",
        "--data-dir",
        "/no",
    ]
    assert run(["train", *flags, *sizes, "--device", "cpu"]) == 0
    shown = capsys.readouterr().out
    assert "size = 160\n" in shown
    assert "resize = 235\n" in shown
    assert "crop = 224\n" in shown


def test_what_cannot_have_two_sizes_says_so(tmp_path: Path, pictures: Path) -> None:
    sizes = {**SIZES, "dataset": f"folder:{pictures}", "arch": "timm:test_vit"}
    with pytest.raises(UsageError) as error:
        train("imagenet-1k-resnet8-cutmix", out=tmp_path / "run", **sizes)
    want = "augment.size: timm:test_vit takes test images of 36 pixels, not training images of 28"
    assert want in str(error.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match=r"augment.size of given has no effect: it belongs to aug"):
        resolve_recipe("cifar10-resnet18-mixup", overrides={"augment.size": 24})
