"""Data sets by name."""

from dataclasses import replace
from pathlib import Path

from robustmix.data.decode import read_header
from robustmix.data.file_pixels import FilePixels, prepare_files
from robustmix.data.folder import load_folder
from robustmix.data.images import ImageSet
from robustmix.data.location import FOLDER
from robustmix.data.location import data_folder as data_folder
from robustmix.data.manifests import DATASETS, Split, list_manifests, load_manifest
from robustmix.data.preparation import LARGEST, TestTransform
from robustmix.data.protocol import own_test_transform
from robustmix.data.resized import resized_pixels
from robustmix.data.shift.alone import load_alone, stands_alone
from robustmix.data.shift.registry import SHIFTS
from robustmix.data.threads import in_threads
from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.files import expanded


def load_dataset(
    name: str,
    split: Split,
    *,
    data_dir: Path | None = None,
    img_size: int | None = None,
    test_transform: TestTransform | None = None,
    allow_partial: bool = False,
) -> ImageSet:
    """Load one split of a data set, its files checked against the manifest.

    Args:
        name: a name of ``DATASETS``, ``folder:PATH``, or a shift set with the classes of its data
            set, of which there is the test split alone.
        split: ``train`` or ``test``.
        data_dir: where the extracted archives lie; see ``data_folder``.
        img_size: side of the images in pixels; None takes the set's own. Other sizes of CIFAR and
            digits are made on the fly (bicubic, on uint8), and ``transform`` says so.
        test_transform: how images are prepared, instead of the set's own way. It must give images
            of ``img_size``, if that is said.
        allow_partial: take what is here of a set whose images are not all here. Such images are
            other data than the set of that name: ``partial_of`` and a note say so.

    Returns:
        Images in the archive's order, with labels, ids, class names and normalisation.

    Raises:
        UsageError: the name or the split does not exist, or the size is impossible.
        IntakeError: files are missing, damaged or not what the manifest says; some images of the
            set are not here and ``allow_partial`` is not set (``E-PARTIAL``); a loader of
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
    require_known(name)
    if name.startswith(FOLDER):
        path = expanded(name.removeprefix(FOLDER))
        data = load_folder(path, split, img_size, test_transform)
    elif name in DATASETS:
        loaded = DATASETS[name](load_manifest(name), split, data_folder(data_dir))
        data = _whole(_checked(name, split, loaded), allow_partial)
        data = _prepared(data, img_size, test_transform)
    else:
        data = _prepared(load_alone(name, split, data_folder(data_dir)), img_size, test_transform)
    _, height, width = data.input_size
    if test_transform is not None and img_size is not None and {height, width} != {img_size}:
        raise IntakeError(
            f"the test transform '{data.transform}' makes images of {width}x{height} pixels of "
            f"{name}, not of {img_size}x{img_size}",
            "give one for that size",
            code="E-TRANSFORM",
        )
    return data


def require_known(name: str) -> None:
    """Refuse the name of a data set that ``load_dataset`` does not read, and say what is near.

    Raises:
        UsageError: it does not read it.
    """
    if not (name.startswith(FOLDER) or name in DATASETS or stands_alone(name)):
        raise _unreadable(name)


def _whole(data: ImageSet, allow_partial: bool) -> ImageSet:
    """Refuse a set of which images are missing, or note it where that is allowed."""
    if data.partial_of is None:
        return data
    said = f"{len(data):,} of the {data.partial_of:,} images of {data.name}/{data.split} are here"
    if not allow_partial:
        where = f" ({data.layout})" if data.layout else ""
        raise IntakeError(
            f"{said}{where}",
            "add the missing ones; train, eval and calibrate take a part with --allow-partial",
            code="E-PARTIAL",
        )
    note = f"W-PARTIAL: {said}: numbers are not comparable with those of the whole set"
    return replace(data, notes=(note, *data.notes))


def _prepared(
    data: ImageSet, img_size: int | None, test_transform: TestTransform | None
) -> ImageSet:
    if isinstance(data.pixels, FilePixels):
        return _files_prepared(data, data.pixels, img_size, test_transform)
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


def _files_prepared(
    data: ImageSet, files: FilePixels, img_size: int | None, asked: TestTransform | None
) -> ImageSet:
    """Prepare image files from what they store, whatever the loader would have done."""
    own = own_test_transform(load_manifest(data.name), img_size)
    transform = own if asked is None else asked
    # Where all are resized and cropped they get one size; else each must be looked at.
    sure = transform.resize is not None and transform.crop is not None
    headers = in_threads(read_header, files.paths[:1] if sure else files.paths)
    return replace(
        data,
        pixels=prepare_files(files.paths, headers, transform, files.white),
        transform=transform.text(),
        own_transform=None if asked is None else own.text(),
    )


def _resized(data: ImageSet, transform: TestTransform) -> ImageSet:
    smallest = transform.resize or min(data.input_size[1:])
    if transform.crop is not None and transform.crop > smallest:
        raise IntakeError(
            f"a crop of {transform.crop} pixels does not fit into images of {data.name}, which "
            f"have {smallest}",
            "take a smaller one, or resize the images first",
            code="E-TRANSFORM",
        )
    pixels = resized_pixels(data.pixels, transform)
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
    if name in list_manifests() and name not in SHIFTS:
        return UsageError(
            f"{name} is known but not read by name",
            "arrange its images in one folder a class and use folder:PATH",
            code="E-UNKNOWN-DATASET",
        )
    if name in SHIFTS:
        return UsageError(
            f"{name} cannot be evaluated by itself",
            f"evaluate on {SHIFTS.row(name).clean_of} with --suite shift --shift {name}",
            code="E-UNKNOWN-DATASET",
        )
    if Path(name).is_dir():
        return UsageError(
            f"unknown dataset '{name}'", f"write folder:{name}", code="E-UNKNOWN-DATASET"
        )
    return unknown_name("dataset", name, [*DATASETS, "folder:PATH"])
