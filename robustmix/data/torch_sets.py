"""Data sets of torch, torchvision and the like, and pairs of tensors, as image sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
)

from robustmix.data.file_pixels import prepared, prepared_size
from robustmix.data.images import ImageSet, Pixels, TensorPixels
from robustmix.data.items import bad, label_of, names_of, pair_of, pixels_of, quantised
from robustmix.data.preparation import TestTransform
from robustmix.data.resized import resized_pixels
from robustmix.errors import IntakeError, UsageError

KEPT_BYTES = 2**29
"""Images of one size are kept in memory up to this many bytes; others are read when wanted."""

READ_TWICE = 8
"""Images that are read twice, to find data sets that give other ones every time."""

MOST_CLASSES = 10**6


@dataclass(frozen=True, eq=False)
class ItemPixels:
    """Pixels of a data set that gives images one by one, read whenever they are taken."""

    read: Callable[[int], tuple[NDArray[np.uint8], int]]
    """Image uint8 (H, W, 3) and label of an index."""

    labels: Tensor
    size: tuple[int, int, int]
    """Channels, height and width of one image as evaluation sees it."""

    transform: TestTransform

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Tensor:
        """Return images uint8 (n, 3, height, width), prepared for testing.

        Raises:
            IntakeError: an image is of another size, or its label is not that read before.
        """
        out = np.empty((len(indices), *self.size), np.uint8)
        for place, index in enumerate(indices.tolist()):
            stored = self.stored(index)
            height, width = stored.shape[:2]
            where = f"image {index} of the data set"
            if prepared_size(Path(where), (width, height), self.transform) != self.size:
                raise bad(
                    f"{where} has {width}x{height} pixels, which do not become "
                    f"{self.size[2]}x{self.size[1]} by '{self.transform.text()}'",
                    "resize and crop in the data set's transform",
                )
            made = prepared(Image.fromarray(stored), self.transform)
            out[place] = np.asarray(made).transpose(2, 0, 1)
        return torch.from_numpy(out)

    def stored(self, index: int) -> NDArray[np.uint8]:
        """Return an image as the data set gives it, uint8 (H, W, 3)."""
        stored, label = self.read(index)
        if label != self.labels[index]:
            raise bad(
                f"image {index} of the data set has label {label}, and had {self.labels[index]}",
                "give a data set that gives the same every time",
            )
        return stored

    def to(self, device: torch.device) -> "ItemPixels":
        """Return the same pixels: items are read on the CPU."""
        return self


def is_torch_data(data: object) -> bool:
    """Tell whether this is a data set, a loader, a list of pairs, or a pair of batches."""
    return isinstance(data, Dataset | DataLoader) or _is_pair(data) or _is_list(data)


def _is_pair(data: object) -> bool:
    return (
        isinstance(data, tuple | list)
        and len(data) == 2
        and isinstance(data[0], Tensor | np.ndarray)
    )


def _is_list(data: object) -> bool:
    return isinstance(data, list) and bool(data) and isinstance(data[0], tuple | list | Mapping)


def refuse_others(data: object) -> None:
    """Refuse what is no images with labels, and say what would be.

    Raises:
        UsageError: ``data`` is none of what ``image_set_of`` takes.
    """
    if is_torch_data(data):
        return
    what = f"a {type(data).__name__}"
    if isinstance(data, Tensor | np.ndarray):
        what, hint = "images without labels", "give a pair (images, labels)"
    elif isinstance(data, Path):
        what, hint = f"the path {data}", f"give 'folder:{data}'"
    elif hasattr(data, "__next__"):
        hint = "it can be read only once: give a list, a data set or a pair of tensors"
    elif isinstance(data, torch.nn.Module):
        hint = "the model comes first, the images second"
    else:
        hint = "give a name, a torch data set or loader of (image, label), or a pair of tensors"
    raise UsageError(f"cannot evaluate on {what}", hint, code="E-UNKNOWN-DATASET")


def first_size(data: Any) -> tuple[int, int, int] | None:
    """Tell the size (3, H, W) of the first image; None where there is none.

    Raises:
        IntakeError: it does not come as a pair with its label, or is no image.
    """
    if _is_pair(data):
        images = data[0]
        found = _checked_axes(images) if isinstance(images, Tensor) else _channels_first(images)
        return 3, int(found.shape[2]), int(found.shape[3])
    data = data.dataset if isinstance(data, DataLoader) else data
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise _no_order(data)
    if not len(data):
        return None
    where = f"image 0 of {type(data).__name__}"
    height, width = pixels_of(pair_of(data[0], where)[0], where).shape[:2]
    return 3, height, width


def _no_order(data: object) -> IntakeError:
    return bad(
        f"{type(data).__name__} has no length and no order",
        "give a map-style data set, or a pair of tensors",
    )


class Wanted(NamedTuple):
    """How images are prepared for the model."""

    side: tuple[int, int]
    """Height and width that the model gets."""

    transform: TestTransform | None
    """For images of another size; None: they are refused later."""

    always: bool = False
    """Whether those of the model's size are prepared so too, for the user asked for it."""


def image_set_of(data: Any, wanted: Wanted) -> ImageSet:
    """Return the images of a torch data set, a loader's data set, or a pair of tensors.

    Normalisation belongs to the model, so images are wanted as they are before it. Images of
    another size than the model's are prepared by ``transform``.

    Args:
        data: a map-style data set or a list of pairs (image, label), see ``pixels_of``; a loader,
            whose data set is read in its own order; or images and labels (N,): a tensor
            (N, 3, H, W), uint8 or float in [0, 1], or an array (N, H, W, 3), uint8.
        wanted: how they are prepared.

    Raises:
        IntakeError: see ``pixels_of``; the data set gives other images every time, has no length,
            or the loader chooses or mixes images.
    """
    notes: list[str] = []
    if isinstance(data, DataLoader):
        data = _loaders(data, notes)
    if isinstance(data, TensorDataset) and len(data.tensors) == 2:
        data = data.tensors
    if _is_pair(data):
        return _of_tensors(_channels_first(data[0]), data[1], wanted, notes)
    if isinstance(data, IterableDataset) or not hasattr(data, "__len__"):
        raise _no_order(data)
    _refuse_transforms(data)
    return _of_items(data, wanted, notes)


def _loaders(loader: DataLoader[Any], notes: list[str]) -> object:
    """Return the data set of a loader that reads all of it, in whatever order."""
    sampler = loader.sampler
    if loader.batch_sampler is not None and type(loader.batch_sampler).__name__ != "BatchSampler":
        raise bad("the loader has a batch sampler of its own", "give its data set")
    if isinstance(sampler, RandomSampler) and not sampler.replacement:
        if sampler.num_samples != len(loader.dataset):  # type: ignore[arg-type]
            raise bad("the loader's sampler leaves images out", "give torch.utils.data.Subset")
        notes.append("W-LOADER: the loader shuffles; its data set is read in its own order")
    elif not isinstance(sampler, SequentialSampler) and not isinstance(
        loader.dataset, IterableDataset
    ):
        raise bad(
            f"the loader's {type(sampler).__name__} chooses images",
            "give torch.utils.data.Subset",
        )
    if loader.collate_fn is not default_collate:
        raise bad("the loader has a collate_fn of its own", "give a data set of (image, label)")
    if loader.drop_last:
        notes.append("W-LOADER: the loader drops a last incomplete batch; all images are read")
    return loader.dataset


def _refuse_transforms(data: object) -> None:
    """Refuse what a transform of torchvision says of itself, before any image is read."""
    names = "|".join(_transform_names(data))
    for word, hint in (
        (
            "Normalize",
            "take it out and give its mean and std with the model (load_model(..., mean=, std=))",
        ),
        ("Random", "take it out: every image is evaluated as it is"),
    ):
        found = next((name for name in names.split("|") if name.startswith(word)), None)
        if found:
            raise bad(f"the transform of {type(data).__name__} has {found}", hint)


def _transform_names(data: object, depth: int = 0) -> list[str]:
    found: list[str] = []
    for key in ("transform", "transforms", "dataset", "datasets"):
        part = getattr(data, key, None)
        for one in part if isinstance(part, list | tuple) else [part]:
            if one is not None and one is not data and depth < 6:
                found += [type(one).__name__, *_transform_names(one, depth + 1)]
    return found


def _of_tensors(images: Tensor, labels: Tensor, wanted: Wanted, notes: list[str]) -> ImageSet:
    images = _checked_axes(images)
    if len(labels) != len(images):
        raise bad(f"{len(images)} images have {len(labels)} labels", "give one an image")
    images = images.detach().cpu()
    if images.dtype != torch.uint8:
        images = torch.cat([quantised(some, "the tensor") for some in torch.split(images, 512)])
    found = [label_of(label, f"image {i}") for i, label in enumerate(labels)]
    pixels: Pixels = TensorPixels(images.expand(-1, 3, -1, -1))
    return _finished("tensors", "given", pixels, found, None, wanted, notes)


def _checked_axes(images: Tensor) -> Tensor:
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.numel():
        last = images.ndim == 4 and images.shape[3] in (1, 3)
        hint = "give (N, 3, H, W)" + (": images.permute(0, 3, 1, 2)" if last else "")
        raise bad(f"the images are a tensor {list(images.shape)}", hint)
    return images


def _channels_first(images: Tensor | NDArray[Any]) -> Tensor:
    """Return a batch of arrays as a tensor; their axes are those of ``pixels_of``."""
    if isinstance(images, Tensor):
        return images
    if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
        raise bad(
            f"the images are an array of {images.dtype} {list(images.shape)}",
            "give uint8 (N, H, W, 3), or a tensor (N, 3, H, W)",
        )
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def _of_items(data: Any, wanted: Wanted, notes: list[str]) -> ImageSet:
    count, name = len(data), type(data).__name__
    if not count:
        raise bad(f"{name} has no images", "give at least one")

    def read(index: int) -> tuple[NDArray[np.uint8], int]:
        where = f"image {index} of {name}"
        image, label = pair_of(data[index], where)
        return pixels_of(image, where), label_of(label, where)

    for index in sorted({i * count // READ_TWICE for i in range(READ_TWICE)}):
        (one, first), (other, second) = read(index), read(index)
        if first != second or not np.array_equal(one, other):
            raise bad(
                f"{name} gives another image {index} every time",
                "take what is random out of its transform",
            )
    pixels, labels = _read_all(read, count, wanted)
    split = getattr(data, "split", None)
    train = getattr(data, "train", None)
    if not isinstance(split, str):
        split = ("train" if train else "test") if isinstance(train, bool) else "given"
    name = getattr(data, "robustmix_name", f"torch:{name}")
    return _finished(name, split, pixels, labels, names_of(data), wanted, notes)


def _read_all(
    read: Callable[[int], tuple[NDArray[np.uint8], int]], count: int, wanted: Wanted
) -> tuple[Pixels, Sequence[int]]:
    """Read every item once: for its label, and to keep small images of one size."""
    first, _ = read(0)
    kept: Tensor | None = None
    if count * first.size <= KEPT_BYTES:
        kept = torch.empty((count, 3, *first.shape[:2]), dtype=torch.uint8)
    labels = []
    fit = True
    for index in range(count):
        image, label = read(index)
        labels.append(label)
        fit = fit and image.shape[:2] == wanted.side
        if kept is not None and image.shape == first.shape:
            kept[index] = torch.tensor(image).permute(2, 0, 1)
        else:
            kept = None
    if kept is not None:
        return TensorPixels(kept), labels
    transform = wanted.transform
    if transform is None or (fit and not wanted.always):
        transform = TestTransform()
    size = prepared_size(Path("image 0"), (first.shape[1], first.shape[0]), transform)
    if size is None:
        raise bad("image 0 of the data set is smaller than the crop", "resize the images first")
    return ItemPixels(read, torch.tensor(labels), size, transform), labels


def _finished(
    name: str,
    split: str,
    pixels: Pixels,
    labels: Sequence[int],
    names: tuple[str, ...] | None,
    wanted: Wanted,
    notes: list[str],
) -> ImageSet:
    done = pixels.transform if isinstance(pixels, ItemPixels) else TestTransform()
    transform = wanted.transform
    other = wanted.always or pixels.size[1:] != wanted.side
    if isinstance(pixels, TensorPixels) and other and transform is not None:
        size = prepared_size(Path("an image"), (pixels.size[2], pixels.size[1]), transform)
        if size is None:
            raise bad(f"images of {name} are smaller than the crop", "resize the images first")
        pixels, done = resized_pixels(pixels, transform), transform
    most = max(labels) + 1
    if most > MOST_CLASSES:
        raise bad(f"a label of {name} is {most - 1}", "give labels below a million")
    if names is not None and most > len(names):
        raise bad(
            f"{name} has a label {most - 1} and {len(names)} classes", "give every class a name"
        )
    return ImageSet(
        name=name,
        split=split,
        pixels=pixels,
        labels=torch.tensor(labels, dtype=torch.int64),
        sample_ids=tuple(f"{name}/{split}/{i}" for i in range(len(labels))),
        class_names=names or tuple(map(str, range(most))),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        transform=done.text(),
        notes=tuple(notes),
    )


def named_by_model(data: ImageSet, names: Sequence[str] | None, num_classes: int) -> ImageSet:
    """Return images whose labels have no names with the model's: label i is its class i."""
    if data.class_names != tuple(map(str, range(data.num_classes))) or (
        data.num_classes > num_classes
    ):
        return data
    known = tuple(names) if names is not None else tuple(map(str, range(num_classes)))
    note = "W-CLASSES: the data set names no classes; label i is taken for the model's class i"
    return replace(data, class_names=known, notes=(*data.notes, note))
