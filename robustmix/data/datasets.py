"""Data sets by name."""

from dataclasses import replace
from pathlib import Path

from robustmix.data.folder import load_folder
from robustmix.data.images import ImageSet
from robustmix.data.location import data_folder as data_folder
from robustmix.data.location import expanded
from robustmix.data.manifests import DATASETS, Split, list_manifests, load_manifest
from robustmix.data.preparation import LARGEST, TestTransform
from robustmix.data.resized import ResizedPixels
from robustmix.errors import IntakeError, UsageError, unknown_name

FOLDER = "folder:"


def load_dataset(
    name: str,
    split: Split,
    *,
    data_dir: Path | None = None,
    img_size: int | None = None,
    test_transform: TestTransform | None = None,
) -> ImageSet:
    """Load one split of a data set, its files checked against the manifest.

    Args:
        name: a name of ``DATASETS``, or ``folder:PATH``.
        split: ``train`` or ``test``.
        data_dir: where the extracted archives lie; see ``data_folder``.
        img_size: side of the images in pixels; None takes the set's own. Other sizes of CIFAR and
            digits are made on the fly (bicubic, on uint8), and ``transform`` says so.
        test_transform: how images are prepared, instead of the set's own way. It must give images
            of ``img_size``, if that is said.

    Returns:
        Images in the archive's order, with labels, ids, class names and normalisation.

    Raises:
        UsageError: the name or the split does not exist, or the size is impossible.
        IntakeError: files are missing, damaged or not what the manifest says; a loader of
            others returns something else than was asked for; or the images cannot be prepared so
            (``E-TRANSFORM``).

    Example:
        >>> load_dataset("digits", "test").pixels.size
        (3, 32, 32)
    """
    if split not in ("train", "test"):
        raise unknown_name("split", split, ["train", "test"])
    if img_size is not None and not 1 <= img_size <= LARGEST:
        raise UsageError(f"expected 1 <= img_size <= {LARGEST}, got {img_size}")
    if name.startswith(FOLDER):
        path = expanded(name.removeprefix(FOLDER))
        data = load_folder(path, split, img_size, test_transform)
    elif name in DATASETS:
        loaded = DATASETS[name](load_manifest(name), split, data_folder(data_dir))
        data = _prepared(_checked(name, split, loaded), img_size, test_transform)
    else:
        raise _unreadable(name)
    _, height, width = data.input_size
    if test_transform is not None and img_size is not None and {height, width} != {img_size}:
        raise IntakeError(
            f"the test transform '{data.transform}' makes images of {width}x{height} pixels of "
            f"{name}, not of {img_size}x{img_size}",
            "give one for that size",
            code="E-TRANSFORM",
        )
    return data


def _prepared(
    data: ImageSet, img_size: int | None, test_transform: TestTransform | None
) -> ImageSet:
    fits = img_size is None or data.input_size == (3, img_size, img_size)
    own = None if fits else TestTransform(resize=img_size)
    if test_transform is None:
        return data if own is None else _resized(data, own)
    data = replace(data, own_transform=data.transform if own is None else own.text())
    if data.transform == test_transform.text():
        return data
    if data.transform != "none":
        raise IntakeError(
            f"images of {data.name} come prepared as '{data.transform}', so "
            f"'{test_transform.text()}' cannot be done to them",
            f"use '{data.transform}'",
            code="E-TRANSFORM",
        )
    return _resized(data, test_transform)


def _resized(data: ImageSet, transform: TestTransform) -> ImageSet:
    smallest = transform.resize or min(data.input_size[1:])
    if transform.crop is not None and transform.crop > smallest:
        raise IntakeError(
            f"a crop of {transform.crop} pixels does not fit into images of {data.name}, which "
            f"have {smallest}",
            "take a smaller one, or resize the images first",
            code="E-TRANSFORM",
        )
    pixels = ResizedPixels(
        data.pixels, transform.resize, transform.interpolation, crop=transform.crop
    )
    return replace(data, pixels=pixels, transform=transform.text())


def _checked(name: str, split: Split, data: object) -> ImageSet:
    """Return what a loader gave, whose name the manifest, reports and checkpoints go by."""
    if isinstance(data, ImageSet) and (data.name, data.split) == (name, split):
        return data
    got = f"{data.name}/{data.split}" if isinstance(data, ImageSet) else type(data).__name__
    raise IntakeError(
        f"the loader of data set '{name}', from {DATASETS.origin(name)}, returned {got}",
        f"return an ImageSet with name={name!r} and split={split!r}",
        code="E-PLUGIN",
    )


def _unreadable(name: str) -> UsageError:
    if name in list_manifests():
        return UsageError(
            f"{name} is known but not read by name",
            "arrange its images in one folder a class and use folder:PATH",
            code="E-UNKNOWN-DATASET",
        )
    return unknown_name("dataset", name, [*DATASETS, "folder:PATH"])
