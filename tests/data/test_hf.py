"""Data sets of Hugging Face's library, from folders and tables on this disk."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from robustmix.data.hf import HfItems, HfName
from robustmix.errors import IntakeError
from robustmix.evaluation.evaluate import evaluate
from tests.evaluation.tiny import tiny_model

SIDE = 32


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra hf is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def pictures(n: int = 6) -> list[Image.Image]:
    values = np.random.default_rng(0).integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8)
    return [Image.fromarray(value) for value in values]


def folder(root: Path) -> list[Image.Image]:
    images = pictures()
    for i, image in enumerate(images):
        for split in ("train", "test"):
            path = root / split / ("cat", "eel")[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return images


def table(path: Path, columns: Sequence[str] = ("image", "label")) -> list[Image.Image]:
    """Write pictures into the columns before the last, and labels into that."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as Column

    images = pictures()
    rows = []
    for image in images:
        file = io.BytesIO()
        image.save(file, "PNG")
        rows.append({"bytes": file.getvalue(), "path": None})
    *shown, last = columns
    data = {**dict.fromkeys(shown, rows), last: [i % 2 for i in range(len(images))]}
    kinds = Features({**{name: Column() for name in shown}, last: ClassLabel(names=["cat", "eel"])})
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_dict(data, features=kinds).to_parquet(path)
    return images


def test_a_name_is_taken_apart() -> None:
    assert HfName.parse("hf:beans") == HfName(path="beans", config=None, split=None)
    assert HfName.parse("hf:a/b:c@d") == HfName(path="a/b", config="c", split="d")


def test_a_folder_of_images(tmp_path: Path) -> None:
    images = folder(tmp_path / "mine")
    items = HfItems(f"hf:{tmp_path / 'mine'}")
    assert (items.split, list(items.classes), len(items)) == ("test", ["cat", "eel"], len(images))
    found = [items[i] for i in range(len(items))]
    expected = [(np.asarray(image), i % 2) for i, image in enumerate(images)]
    for value, label in expected:
        assert any(label == other and np.array_equal(value, one) for one, other in found)
    assert HfItems(f"hf:{tmp_path / 'mine'}@train").split == "train"


def test_a_file_is_decoded_as_all_others_are(tmp_path: Path) -> None:
    folder(tmp_path / "mine")
    deep = Image.fromarray(np.full((SIDE, SIDE), 30_000, np.uint16))
    for i in range(6):
        deep.save(tmp_path / "mine" / "test" / ("cat", "eel")[i % 2] / f"{i}.png")
    value, _ = HfItems(f"hf:{tmp_path / 'mine'}")[0]
    assert value.shape == (SIDE, SIDE, 3)
    assert set(value.ravel().tolist()) == {round(30_000 / 257)}


def test_a_table_with_other_names(tmp_path: Path) -> None:
    images = table(tmp_path / "mine" / "test.parquet", ("photo", "kind"))
    items = HfItems(f"hf:{tmp_path / 'mine'}@test")
    for i, image in enumerate(images):
        value, label = items[i]
        assert np.array_equal(value, np.asarray(image))
        assert label == i % 2


def test_it_is_evaluated_as_the_same_images_in_memory(tmp_path: Path) -> None:
    images = table(tmp_path / "mine" / "test.parquet")
    model = tiny_model(classes=2)
    pixels = torch.stack([torch.tensor(np.asarray(i)).permute(2, 0, 1) for i in images])
    labels = torch.arange(len(images)) % 2
    one = evaluate(model, f"hf:{tmp_path / 'mine'}@test", "clean")
    other = evaluate(model, (pixels, labels), "clean")
    metrics, expected = (found.content.suites["clean"].metrics for found in (one, other))
    assert metrics.keys() == expected.keys()
    for name, metric in metrics.items():
        assert (metric.value, metric.ci) == (expected[name].value, expected[name].ci), name
    assert one.content.dataset.name.startswith("hf:")
    assert one.content.dataset.pixels_sha256 == other.content.dataset.pixels_sha256


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    table(tmp_path / "mine" / "train.parquet", ("photo", "number"))
    table(tmp_path / "two" / "test.parquet", ("left", "right", "label"))
    here = f"hf:{tmp_path / 'mine'}"
    for name, said in (
        (here, "has no test split, but train"),
        (f"{here}@other", "cannot read"),
        (f"hf:{tmp_path / 'nothing'}", "cannot read"),
        ("hf:", "names no data set"),
        (f"hf:{tmp_path / 'two'}", "has 2 columns of images"),
    ):
        with pytest.raises(IntakeError, match=said):
            HfItems(name)
