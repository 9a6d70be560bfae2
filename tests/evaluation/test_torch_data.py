"""Torch data sets, loaders and tensors are evaluated as they are, or refused with a reason."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)
from torchvision import datasets, transforms

from robustmix.data import torch_sets
from robustmix.errors import IntakeError, RobustmixError
from robustmix.evaluation.evaluate import evaluate
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report

N, SIDE, CLASSES = 23, 6, 5


class Corner(nn.Module):
    """Answers with five grey levels of the first row."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :CLASSES]


def model() -> RobustModel:
    return load_model(
        Corner(), num_classes=CLASSES, input_size=(3, SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1)
    )


STREAM = np.random.default_rng(0)
STORED = STREAM.integers(0, 256, (N, SIDE, SIDE, 3), dtype=np.uint8)
LABELS = STREAM.integers(0, CLASSES, N)
BYTES = torch.from_numpy(STORED).permute(0, 3, 1, 2)
TOP1 = float((STORED[:, 0, :CLASSES, 0].argmax(1) == LABELS).mean())


class Items(Dataset[object]):
    """Makes each item of an image and a label."""

    def __init__(self, make: Callable[[int], object], count: int = N) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> object:
        return self.make(index)


def pil(index: int) -> Image.Image:
    return Image.fromarray(STORED[index])


GIVEN: dict[str, object] = {
    "uint8 tensors": Items(lambda i: (BYTES[i], int(LABELS[i]))),
    "float tensors": Items(lambda i: (BYTES[i].float() / 255, torch.tensor(LABELS[i]))),
    "half": Items(lambda i: (BYTES[i].double() / 255, LABELS[i])),
    "Pillow": Items(lambda i: (pil(i), int(LABELS[i]))),
    "arrays": Items(lambda i: (STORED[i], int(LABELS[i]))),
    "mappings": Items(lambda i: {"image": pil(i), "label": int(LABELS[i])}),
    "pair": (BYTES, torch.from_numpy(LABELS)),
    "float pair": (BYTES / 255, torch.from_numpy(LABELS)),
    "TensorDataset": TensorDataset(BYTES / 255, torch.from_numpy(LABELS)),
    "Subset": Subset(Items(lambda i: (BYTES[i], int(LABELS[i]))), range(N)),
    "loader": DataLoader(TensorDataset(BYTES, torch.from_numpy(LABELS)), batch_size=7),
    "shuffling loader": DataLoader(
        Items(lambda i: (BYTES[i], int(LABELS[i]))), batch_size=7, shuffle=True, drop_last=True
    ),
}


def said(report: Report, code: str) -> list[str]:
    return [w.message for w in report.content.warnings if w.code == code]


@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "read again"])
def test_every_form_gives_the_same_numbers(
    kind: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not kept:
        monkeypatch.setattr(torch_sets, "KEPT_BYTES", 0)
    report = evaluate(model(), GIVEN[kind], ["clean"], batch_size=4)  # type: ignore[arg-type]
    assert report.metric("clean.top1").value == TOP1
    assert report.metric("clean.top1").n == N
    assert report.samples is not None
    assert report.samples.labels.tolist() == LABELS.tolist()
    assert report.samples.sample_ids[3].endswith("/3")
    assert said(report, "W-CLASSES")
    assert len(said(report, "W-LOADER")) == (2 if kind == "shuffling loader" else 0)


def test_the_digest_is_of_the_pixels() -> None:
    def digest(change: int) -> str | None:
        pixels = BYTES.clone()
        pixels[4, 0, 0, 0] += change
        data = (pixels, torch.from_numpy(LABELS))
        return evaluate(model(), data, ["clean"]).content.dataset.pixels_sha256

    assert digest(0) == digest(0) != digest(1)


def dataset_of(path: Path, *steps: object) -> datasets.ImageFolder:
    for index in range(N):
        folder = path / f"c{LABELS[index]}"
        folder.mkdir(parents=True, exist_ok=True)
        pil(index).save(folder / f"{index:02}.png")
    return datasets.ImageFolder(str(path), transform=transforms.Compose(list(steps)))


def test_torchvision_sets_have_their_classes(tmp_path: Path) -> None:
    data = dataset_of(tmp_path, transforms.ToTensor())
    report = evaluate(model(), data, ["clean"])
    assert report.metric("clean.top1").value == pytest.approx(TOP1)
    assert report.samples is not None
    assert report.samples.class_names == ("c0", "c1", "c2", "c3", "c4")
    assert not said(report, "W-CLASSES")
    assert report.content.dataset.name == "torch:ImageFolder"


NORMAL = transforms.Normalize((0.5,) * 3, (0.25,) * 3)


def test_normalised_torchvision_sets_are_refused_with_a_way_out(tmp_path: Path) -> None:
    data = dataset_of(tmp_path, transforms.ToTensor(), NORMAL)
    with pytest.raises(IntakeError, match="has Normalize; take it out and give its mean and std"):
        evaluate(model(), data, ["clean"])
    data = dataset_of(tmp_path, transforms.RandomCrop(5), transforms.ToTensor())
    with pytest.raises(IntakeError, match="has RandomCrop"):
        evaluate(model(), data, ["clean"])


class Endless(IterableDataset[object]):
    """Has no length."""

    def __iter__(self) -> Iterator[object]:
        return iter(())


NOISE = np.random.default_rng(1)
REFUSED: dict[str, tuple[object, str]] = {
    "normalised": (Items(lambda i: (NORMAL(BYTES[i] / 255), 0)), "take Normalize out"),
    "one normalised": (
        Items(lambda i: (NORMAL(BYTES[i] / 255) if i == N - 2 else BYTES[i] / 255, 0)),
        f"image {N - 2} of Items has values.*take Normalize out",
    ),
    "to 255": (Items(lambda i: (BYTES[i].float(), 0)), "divide by 255"),
    "NaN": (Items(lambda i: (BYTES[i] * torch.nan, 0)), "from nan"),
    "integers": (Items(lambda i: (BYTES[i].long(), 0)), "give uint8"),
    "channels first": (Items(lambda i: (BYTES[i].numpy(), 0)), "channels first"),
    "float array": (Items(lambda i: (STORED[i] / 255, 0)), "give uint8"),
    "batches": (Items(lambda i: (BYTES[:2], 0)), r"tensor \[2, 3, 6, 6\]"),
    "one-hot": (Items(lambda i: (BYTES[i], torch.eye(5)[0])), "not one-hot"),
    "no label": (Items(lambda i: (BYTES[i], -1)), "without a label"),
    "words": (Items(lambda i: (BYTES[i], "cat")), "whole numbers"),
    "no pair": (Items(lambda i: BYTES[i]), r"pairs \(image, label\)"),
    "too many classes": (Items(lambda i: (BYTES[i], 7)), "5 classes"),
    "random": (Items(lambda i: (NOISE.integers(0, 256, (6, 6, 3), np.uint8), 0)), "every time"),
    "empty": (Items(lambda i: 0, 0), "no images"),
    "endless": (Endless(), "no length"),
    "other lengths": ((BYTES, torch.zeros(3, dtype=torch.int64)), "3 labels"),
    "sampler": (
        DataLoader(TensorDataset(BYTES, BYTES), sampler=WeightedRandomSampler([1.0] * N, N)),
        "WeightedRandomSampler chooses",
    ),
    "collate": (DataLoader(TensorDataset(BYTES, BYTES), collate_fn=lambda x: x), "collate_fn"),
    "a number": (7, "cannot evaluate on a int"),
    "other size": (Items(lambda i: (BYTES[i, :, :5], 0)), r"takes images \(3, 6, 6\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_something_else_is_refused(kind: str) -> None:
    data, message = REFUSED[kind]
    with pytest.raises(RobustmixError, match=message):
        evaluate(model(), data, ["clean"])  # type: ignore[arg-type]


def test_images_of_many_sizes_are_prepared_as_asked() -> None:
    def item(index: int) -> tuple[Image.Image, int]:
        return pil(index).resize((SIDE + index, SIDE + 2)), int(LABELS[index])

    report = evaluate(model(), Items(item), ["clean"], resize=7, interpolation="bilinear")
    assert report.content.dataset.transform == "resize7-bilinear+centercrop6"
    with pytest.raises(RobustmixError, match=r"torch:Items has \(3, 8, 6\)"):
        evaluate(model(), Items(item), ["clean"])


def test_a_set_that_changes_its_labels_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: Counter[int] = Counter()

    def item(index: int) -> tuple[Tensor, int]:
        reads[index] += 1
        return BYTES[index], int(index == 3 and reads[index] > 1)

    monkeypatch.setattr(torch_sets, "KEPT_BYTES", 0)
    monkeypatch.setattr(torch_sets, "READ_TWICE", 1)
    with pytest.raises(IntakeError, match="image 3 of the data set has label 1, and had 0"):
        evaluate(model(), Items(item), ["clean"])
