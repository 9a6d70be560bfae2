"""Draw saliency maps over their images, to see by eye whether they belong together."""

from fractions import Fraction
from pathlib import Path

import torch

from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Split
from robustmix.data.preparation import TestTransform
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.patches import foreground, patch_pixels, patch_sums
from robustmix.evaluation.suite import to_unit
from robustmix.pages.picture import new_figure
from robustmix.saliency.from_file import MapsRecord, SaliencyFile, load_maps

MOST = 64
"""Images of a sheet."""

SHARE = Fraction(1, 2)
"""Of the saliency that the last row hides."""


def draw_maps(
    maps: Path,
    out: Path,
    *,
    dataset: str | None = None,
    data_dir: Path | None = None,
    count: int = 8,
) -> None:
    """Draw the first images of a file of maps: as they are, under their map, half of it hidden.

    Args:
        maps: the file.
        out: PNG or SVG.
        dataset: name of the data set; None: as the file says.
        data_dir: where data sets lie.
        count: images, from 1 to ``MOST``.

    Raises:
        UsageError: a number is out of range, or nobody says of which data set the maps are.
        IntakeError: the maps or the images are missing or damaged, or do not belong together.
        IncompleteError: the picture cannot be written.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"expected --images from 1 to {MOST}, got {count}")
    file = load_maps(maps)
    data = _images_of(file, dataset, data_dir)
    ids = [sample_id for sample_id in data.sample_ids if sample_id in file.places][:count]
    if not ids:
        raise IntakeError(
            f"{file.name} has no map of an image of {data.name}",
            "give --dataset of the maps",
            code="E-SALIENCY-FILE",
        )
    places = {sample_id: i for i, sample_id in enumerate(data.sample_ids)}
    images = to_unit(data.pixels.take(torch.tensor([places[sample_id] for sample_id in ids])))
    size = (images.shape[2], images.shape[3])
    over, grid = file.take(ids, size), (file.maps.shape[1], file.maps.shape[2])
    small = torch.from_numpy(file.maps[[file.places[sample_id] for sample_id in ids]])
    hidden = foreground(patch_sums(small, grid), SHARE)
    divides = size[0] % grid[0] == size[1] % grid[1] == 0
    rows = 3 if divides else 2
    told = file.name if file.record is None else f"{file.name}: {file.record.told()}"
    with new_figure(out, max(4.0, 1.5 * len(ids)), 1.5 * rows + 0.4) as figure:
        axes = figure.subplots(rows, len(ids), squeeze=False)
        for i, sample_id in enumerate(ids):
            picture = images[i].permute(1, 2, 0).numpy()
            axes[0][i].imshow(picture)
            axes[0][i].set_title(sample_id[-18:], fontsize=7)
            axes[1][i].imshow(picture.mean(axis=2), cmap="gray", vmin=0, vmax=1)
            axes[1][i].imshow(over[i].numpy(), cmap="inferno", alpha=0.6)
            if divides:
                black = patch_pixels(hidden[i : i + 1], size, grid)[0]
                axes[2][i].imshow(torch.where(black, 0.0, images[i]).permute(1, 2, 0).numpy())
        for axis in axes.flat:
            axis.set_axis_off()
        figure.suptitle(told + (f"; below, {SHARE} of it hidden" if divides else ""), fontsize=8)


def _images_of(file: SaliencyFile, dataset: str | None, data_dir: Path | None) -> ImageSet:
    record = file.record
    name = dataset or (None if record is None else record.dataset)
    if name is None or (dataset is None and ":" in name):  # where a folder lies is not recorded
        raise UsageError(f"{file.name} does not say where its images are", "add --dataset NAME")
    if record is None:
        return load_dataset(name, "test", data_dir=data_dir)
    split: Split = "train" if record.split == "train" else "test"
    size = record.height if record.height == record.width else None
    data = load_dataset(
        name,
        split,
        data_dir=data_dir,
        img_size=size,
        test_transform=_transform(record),
        allow_partial=True,
    )
    file.check_images(data.name, data.split, data.transform, data.input_size[1:])
    return data


def _transform(record: MapsRecord) -> TestTransform | None:
    try:
        return TestTransform.parse(record.transform)
    except ValueError:
        return None  # words of a loader of others, which does it unasked
