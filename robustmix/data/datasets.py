"""Data sets by name."""

from dataclasses import replace
from pathlib import Path

from robustmix.data.folder import load_folder
from robustmix.data.images import ImageSet
from robustmix.data.location import data_folder as data_folder
from robustmix.data.manifests import DATASETS, Split, list_manifests, load_manifest
from robustmix.data.resized import ResizedPixels
from robustmix.errors import IntakeError, UsageError, unknown_name

FOLDER = "folder:"


def load_dataset(
    name: str, split: Split, *, data_dir: Path | None = None, img_size: int | None = None
) -> ImageSet:
    """Load one split of a data set, its files checked against the manifest.

    Args:
        name: a name of ``DATASETS``, or ``folder:PATH``.
        split: ``train`` or ``test``.
        data_dir: where the extracted archives lie; see ``data_folder``.
        img_size: side of the images in pixels; None takes the set's own. Other sizes of CIFAR and
            digits are made on the fly (bicubic, on uint8), and ``transform`` says so.

    Returns:
        Images in the archive's order, with labels, ids, class names and normalisation.

    Raises:
        UsageError: the name or the split does not exist.
        IntakeError: files are missing, damaged or not what the manifest says, or a loader of
            others returns something else than was asked for.

    Example:
        >>> load_dataset("digits", "test").pixels.size
        (3, 32, 32)
    """
    if split not in ("train", "test"):
        raise unknown_name("split", split, ["train", "test"])
    if img_size is not None and img_size < 1:
        raise UsageError(f"expected img_size >= 1, got {img_size}")
    if name.startswith(FOLDER):
        return load_folder(Path(name.removeprefix(FOLDER)).expanduser(), split, img_size)
    if name not in DATASETS:
        raise _unreadable(name)
    data = _checked(name, split, DATASETS[name](load_manifest(name), split, data_folder(data_dir)))
    if img_size is None or data.input_size == (3, img_size, img_size):
        return data
    return replace(
        data, pixels=ResizedPixels(data.pixels, img_size), transform=f"resize{img_size}-bicubic"
    )


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
