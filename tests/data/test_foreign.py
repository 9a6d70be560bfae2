"""Data sets that others register: one loader and one manifest."""

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from robustmix import register
from robustmix.data import default_augment, list_manifests, load_dataset, load_manifest
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.manifests import DATASETS, Manifest, Split
from robustmix.data.preparation import TestTransform
from robustmix.errors import IntakeError, RobustmixError, UsageError


def manifest(**changes: object) -> dict[str, object]:
    text = (files("robustmix") / "data_manifests" / "digits.json").read_text(encoding="utf-8")
    mine = {"name": "bars", "title": "Bars", "num_classes": 3}
    found = {**json.loads(text), **mine, **changes}
    return {key: value for key, value in found.items() if value is not ...}


def bars(manifest: Manifest, split: Split, folder: Path) -> ImageSet:
    """Draw the bars."""
    labels = torch.arange(6) % manifest.num_classes
    pixels = (labels.view(6, 1, 1, 1) * 100).expand(6, 3, 32, 32).to(torch.uint8)
    return ImageSet(
        name=manifest.name,
        split=split,
        pixels=TensorPixels(pixels),
        labels=labels,
        sample_ids=tuple(f"bars/{folder.name}/{split}/{i}" for i in range(6)),
        class_names=("low", "middle", "high"),
        mean=manifest.normalisation.mean,
        std=manifest.normalisation.std,
    )


@pytest.fixture(autouse=True)
def undone() -> Iterator[None]:
    with DATASETS.temporary():
        yield
    assert "bars" not in list_manifests()


@pytest.mark.parametrize("as_file", [True, False])
def test_a_registered_data_set_is_loaded_by_name(tmp_path: Path, as_file: bool) -> None:
    path = tmp_path / "bars.json"
    path.write_text(json.dumps(manifest()))
    register.dataset("bars", bars, manifest=path if as_file else manifest())
    assert DATASETS.row("bars").help == "Bars, 3 classes"
    assert "bars" in list_manifests()
    assert load_manifest("bars").title == "Bars"
    data = load_dataset("bars", "test", data_dir=tmp_path)
    assert data.sample_ids[5] == f"bars/{tmp_path.name}/test/5"
    assert data.pixels.take(torch.tensor([4]))[0, 0, 0, 0] == 100
    assert not default_augment(data).flip  # as the manifest has it
    small = load_dataset("bars", "train", img_size=16)
    assert (small.input_size, small.transform) == ((3, 16, 16), "resize16-bicubic")


def test_a_data_set_that_is_known_but_not_read_needs_a_loader_alone() -> None:
    with pytest.raises(UsageError, match="leave manifest out"):
        register.dataset("imagenet-sketch", bars, manifest=manifest(name="imagenet-sketch"))
    register.dataset("imagenet-sketch", bars)
    assert load_manifest("imagenet-sketch").num_classes == 1000
    assert load_dataset("imagenet-sketch", "train").name == "imagenet-sketch"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (None, "data set 'bars' has no manifest; give manifest=PATH or a dict"),
        (manifest(terms=...), "'bars' cannot be used: terms: Field required; write it like"),
        (manifest(normalisation=[]), "normalisation: Unexpected keyword argument"),
        (manifest(num_classes=1), "expected num_classes >= 2, got 1"),
        (manifest(name="stripes"), "cannot be used: it calls itself stripes"),
        (manifest(loadable=False), "it says that the data set is not loadable"),
        ("/no/such.json", "No such file or directory: '/no/such.json'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_manifest_that_cannot_be_used_registers_nothing(given: object, text: str) -> None:
    with pytest.raises(RobustmixError) as caught:
        register.dataset("bars", bars, manifest=given)  # type: ignore[arg-type]
    assert caught.value.code == "E-MANIFEST"
    assert text in caught.value.line()
    assert "bars" not in DATASETS


def test_a_loader_that_returns_something_else_is_refused() -> None:
    def other(manifest: Manifest, split: Split, folder: Path) -> ImageSet:
        return replace(bars(manifest, split, folder), name="stripes")

    def nothing(manifest: Manifest, split: Split, folder: Path) -> None:
        return None

    register.dataset("bars", other, manifest=manifest())
    register.dataset("none", nothing, manifest=manifest(name="none"))
    for name, got in (("bars", "stripes/test"), ("none", "NoneType")):
        with pytest.raises(IntakeError, match=f"'{name}', from .*, returned {got}; return an Im"):
            load_dataset(name, "test")


def test_images_that_come_prepared_are_not_prepared_again() -> None:
    def prepared(manifest: Manifest, split: Split, folder: Path) -> ImageSet:
        return replace(bars(manifest, split, folder), transform="resize32-bilinear")

    register.dataset("bars", prepared, manifest=manifest())
    same = TestTransform.parse("resize32-bilinear")
    data = load_dataset("bars", "test", test_transform=same)
    assert (data.transform, data.own_transform) == ("resize32-bilinear", "resize32-bilinear")
    assert isinstance(data.pixels, TensorPixels)
    with pytest.raises(IntakeError, match="come prepared as 'resize32-bilinear', so 'none' can"):
        load_dataset("bars", "test", test_transform=TestTransform())
