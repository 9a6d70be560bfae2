"""Shift sets made in their official layouts, of a few small pictures each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.wnids import imagenet_wnids
from robustmix.models.robust_model import RobustModel
from tests.evaluation.tiny import MEAN, STD, Net, tiny_images

SIDE = 24
TRANSFORM = "resize27-bicubic+centercrop24"


def imagenet_model(seed: int = 0) -> RobustModel:
    net = Net(1000, seed)
    return RobustModel(net, mean=MEAN, std=STD, num_classes=1000, input_size=(3, SIDE, SIDE))


def imagenet_like(labels: Sequence[int], seed: int = 3) -> ImageSet:
    """Clean test images of ImageNet's 1,000 classes, prepared as files would be."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(len(labels), 3, 4, 4, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    return ImageSet(
        name="imagenet-1k",
        split="test",
        pixels=TensorPixels((smooth * 255).round().to(torch.uint8)),
        labels=torch.tensor(labels),
        sample_ids=tuple(
            f"imagenet-1k/val/{imagenet_wnids()[y]}/ILSVRC2012_val_{i + 1:08d}.JPEG"
            for i, y in enumerate(labels)
        ),
        class_names=imagenet_wnids(),
        mean=MEAN,
        std=STD,
        transform=TRANSFORM,
    )


def cifar_model(seed: int = 0) -> RobustModel:
    net = Net(10, seed)
    return RobustModel(net, mean=MEAN, std=STD, num_classes=10, input_size=(3, 32, 32))


def cifar_like(n: int = 60, name: str = "cifar10") -> ImageSet:
    data = tiny_images(n, classes=10)
    return replace(data, name=name, sample_ids=tuple(f"{name}/test/{i}" for i in range(n)))


def picture(path: Path, rng: np.random.Generator, size: tuple[int, int] = (31, 29)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR).save(path)


def folders(root: Path, counts: Mapping[str, int], ending: str = ".jpg", seed: int = 5) -> Path:
    """Write pictures into one folder a class: folder -> number of pictures."""
    rng = np.random.default_rng(seed)
    for folder, count in counts.items():
        for i in range(count):
            picture(root / folder / f"{i:04d}{ending}", rng)
    (root / "README.txt").write_text("of the archive")
    return root


def cifar10_1(folder: Path, version: str = "v6", n: int = 50, seed: int = 7) -> ImageSet:
    data = tiny_images(n, classes=10, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"cifar10.1_{version}_data.npy", rows_of(data))
    np.save(folder / f"cifar10.1_{version}_labels.npy", data.labels.numpy().astype(np.int32))
    return data


def cifar10_2(folder: Path, n: int = 40) -> ImageSet:
    data = tiny_images(n, classes=10, seed=9)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "cifar102_test.npz",
        images=rows_of(data),
        labels=data.labels.numpy(),
        label_names=np.array(["airplane"] * 10),
        keywords=np.array([{"a": 1}], dtype=object),  # which is never opened
    )
    return data


def rows_of(data: ImageSet) -> NDArray[Any]:
    return data.pixels.take(torch.arange(len(data))).permute(0, 2, 3, 1).contiguous().numpy()


def cifar_c_bar(folder: Path, data: ImageSet, names: Sequence[str]) -> Path:
    """Write arrays of five blocks: each severity darker by 12 levels, by the corruption's place."""
    folder.mkdir(parents=True)
    rows = rows_of(data)
    for place, name in enumerate(names):
        blocks = [np.maximum(rows, 12 * s + place) - np.uint8(12 * s + place) for s in range(1, 6)]
        np.save(folder / f"{name}.npy", np.concatenate(blocks))
    np.save(folder / "labels.npy", np.tile(data.labels.numpy().astype(np.uint8), 5))
    return folder


def objectnet(root: Path, objects: Mapping[str, Sequence[int]], counts: Mapping[str, int]) -> Path:
    """Write ObjectNet: object -> outputs that stand for it; object -> number of pictures.

    The four files of mappings are as released: an object's label is not its folder's name, and the
    list of words has a line order of its own.
    """
    words = [f"word {i}, of class {i}" for i in range(1000)]
    line_of = {output: (output * 7 + 3) % 1000 for output in range(1000)}
    lines = [""] * 1000
    for output, line in line_of.items():
        lines[line] = words[output]
    mappings = root / "mappings"
    mappings.mkdir(parents=True)
    (mappings / "imagenet_to_label_2012_v2").write_text("\n".join(lines) + "\n")
    for name, table in (
        ("folder_to_objectnet_label", {one: label(one) for one in counts}),
        (
            "objectnet_to_imagenet_1k",
            {label(one): "; ".join(words[i] for i in of) for one, of in objects.items()},
        ),
        ("pytorch_to_imagenet_2012_id", {str(out): line for out, line in line_of.items()}),
    ):
        (mappings / f"{name}.json").write_text(json.dumps(table))
    rng = np.random.default_rng(11)
    for one, count in counts.items():
        for i in range(count):
            path = root / "images" / one / f"{i:03d}.png"
            picture(path, rng, (33, 35))
            framed = np.array(Image.open(path))
            framed[:2] = framed[-2:] = framed[:, :2] = framed[:, -2:] = (255, 0, 0)
            Image.fromarray(framed).save(path)
    return root


def label(folder: str) -> str:
    return folder.replace("_", " ").capitalize()


def logits_of(model: RobustModel, images: Tensor) -> NDArray[Any]:
    with torch.no_grad():
        found: Tensor = model(images.float() / 255)
    return found.numpy()
