"""The packaged curves are those of the reference, whose own names they were given ours for."""

import csv
import os
from importlib.resources import files
from pathlib import Path

import pytest

from robustmix.data.manifests import DATASETS
from robustmix.methods.registry import METHODS
from robustmix.models.names import ARCHS
from robustmix.studies.official_curves import official_curve

SETS = {
    "CIFAR-100": "cifar100",
    "Tiny-ImageNet": "tiny-imagenet",
    "CUB-200": "cub-200-2011",
    "FGVC-Aircraft": "fgvc-aircraft",
    "Stanford-Cars": "stanford-cars",
}
NETWORKS = {
    "R18": "resnet18",
    "R50": "resnet50",
    "RX50": "resnext50_32x4d",
    "Swin-T": "swin_tiny",
    "ConvNeXt-T": "convnext_tiny",
}
DEPLOYED = ("head0_top1", "acc_one_k_top1")
"""Of methods without and with a teacher; no log has both."""

REFERENCE = Path(os.environ.get("ROBUSTMIX_REFERENCE", "../shared/reference"))


def packaged() -> list[dict[str, str]]:
    text = files("robustmix.studies").joinpath("official_curves.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference on this machine")
def test_the_packaged_curves_are_the_references() -> None:
    with open(REFERENCE / "official_curves.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] in DEPLOYED]
    want = [
        (
            SETS[row["dataset"]],
            NETWORKS[row["backbone"]],
            row["method"].lower(),
            row["epochs_total"],
            row["epoch"],
            float(row["value"]),
        )
        for row in rows
        if row["epoch"].isdecimal()
    ]
    found = [(*list(row.values())[:5], float(row["top1"])) for row in packaged()]
    assert found == want
    assert len(found) == 455


def test_names_are_those_of_robustmix() -> None:
    for row in packaged():
        assert row["dataset"] in DATASETS
        assert row["arch"] in ARCHS
        assert row["method"] in METHODS


def test_curves_rise_in_epochs_and_end_at_the_last() -> None:
    curve = official_curve(dataset="cifar100", arch="resnet18", method="adautomix", epochs="200")
    assert [point.epoch for point in curve] == [1, 2, 5, 10, 20, 50, 100, 150, 200]
    assert curve[-1].top1 == 0.8153
    assert official_curve(dataset="cifar100", arch="resnet18", method="mixup", epochs="7") == []
    places = {tuple(row.values())[:4] for row in packaged()}
    for dataset, arch, method, epochs in places:
        found = official_curve(dataset=dataset, arch=arch, method=method, epochs=epochs)
        assert [point.epoch for point in found] == sorted({point.epoch for point in found})
        assert all(0 < point.top1 < 1 for point in found)
