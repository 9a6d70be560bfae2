"""One picture of what the methods show a network: a row a method, the same pairs, the same lam."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet
from robustmix.data.loader import Batch
from robustmix.data.transforms import normalise
from robustmix.errors import UsageError
from robustmix.files import atomic_path, refuse_replacing
from robustmix.methods.method import Setup
from robustmix.methods.mixing import Mixer
from robustmix.methods.registry import METHODS, build_method, method_options
from robustmix.models.load import load_model
from robustmix.models.registry import build_model
from robustmix.training.pictures import spread_places, to_grey_levels

SIDE = 96
"""Pixels that a cell measures about; an image is enlarged by a whole factor only."""

DPI = 100
LEFT, TOP, GAP, BELOW = 118, 44, 6, 16
"""Pixels for names, for the title, between cells and for the weight under a cell."""

NOTES = {
    "alignmix": "in patches",
    "co-mixup": "any of the images",
    "manifoldmix": "in the pixels",
}
"""What is shown of methods that also mix inside the network, or more than a pair."""

LEARNED = "its generator is trained with it: see the pictures in its run folder"

TRANSFORMER = "timm:test_vit"
"""What stands in for a transformer; of it only the weights under the cells depend."""


@dataclass(frozen=True, kw_only=True)
class MethodSheet:
    """What was drawn."""

    path: Path
    shown: tuple[str, ...]
    """Methods, in the order of the rows."""

    left_out: dict[str, str]
    """Method -> why it has no row."""


@dataclass(frozen=True, kw_only=True)
class _Row:
    name: str
    note: str
    images: Tensor
    """Normalised, (n, 3, H, W)."""

    weights: Tensor | None
    """Of the own label, (n,)."""


def draw_method_sheet(
    path: Path,
    *,
    dataset: str = "digits",
    data_dir: Path | None = None,
    checkpoint: Path | None = None,
    lam: float = 0.5,
    pairs: int = 6,
    seed: int = 0,
) -> MethodSheet:
    """Draw what every method makes of the same pairs of images into a PNG.

    Args:
        path: where to; what was there is replaced, or kept if writing fails.
        dataset: whose test images are mixed.
        data_dir: where data sets lie.
        checkpoint: a network trained on the data set, for methods that ask one. Without it, a
            small one is trained on ``digits`` first (seconds); on other sets such methods are
            left out.
        lam: weight of the image itself, as far as a method takes one, in [0, 1].
        pairs: columns.
        seed: of everything that is drawn.

    Raises:
        UsageError: an argument cannot be meant.
        IntakeError: the data or the checkpoint cannot be read.
        IncompleteError: the file cannot be written.
    """
    if not 0 <= lam <= 1:
        raise UsageError(f"lam: expected a number in [0, 1], got {lam}")
    # A few pictures are drawn and nothing is measured, so a part of a set will do.
    data = load_dataset(dataset, "test", data_dir=data_dir, allow_partial=True)
    if not 1 <= pairs <= len(data) // 2:
        raise UsageError(f"pairs: expected 1 to {len(data) // 2}, got {pairs}")
    batch = _pairs_of(data, pairs)
    with tempfile.TemporaryDirectory() as folder:
        if checkpoint is None and dataset == "digits":
            checkpoint = _trained_on_digits(Path(folder), seed)
        rows, left_out = _rows(batch, data, checkpoint, lam, seed)
    heads = [
        _Row(name="image", note="", images=batch.images[:pairs], weights=None),
        _Row(name="partner", note="", images=batch.images[pairs:], weights=None),
    ]
    title = f"{dataset}, λ = {lam:g}; below each mixture the weight of its image's label"
    _draw(path, [*heads, *rows], data, title)
    return MethodSheet(path=path, shown=tuple(row.name for row in rows), left_out=left_out)


def _pairs_of(data: ImageSet, pairs: int) -> Batch:
    """Return images and then their partners, of different classes as far as there are any."""
    chosen = torch.tensor(list(spread_places(data.labels.cpu(), 2 * pairs)), dtype=torch.int64)
    images = normalise(data.pixels.take(chosen), data.mean, data.std)
    return Batch(images, data.labels.cpu()[chosen], chosen)


def _trained_on_digits(folder: Path, seed: int) -> Path:
    """Train a small network for a few epochs and return its checkpoint."""
    from robustmix.training.loop import train

    done = train(
        "digits-resnet8-vanilla",
        out=folder,
        epochs=4,
        limit_val=64,
        seed=seed,
        device="cpu",
        progress="none",
    )
    return done.last


def _rows(
    batch: Batch, data: ImageSet, checkpoint: Path | None, lam: float, seed: int
) -> tuple[list[_Row], dict[str, str]]:
    n = len(batch.images) // 2
    perm = torch.arange(2 * n).roll(n)
    rows: list[_Row] = []
    left_out: dict[str, str] = {}
    for name in METHODS:
        if name == "vanilla":
            continue  # the image itself
        try:
            method = _method(name, data, checkpoint, seed)
        except UsageError as error:
            left_out[name] = error.message
            continue
        if not isinstance(method, Mixer):
            left_out[name] = LEARNED
            continue
        blend = method.mix(batch, lam=lam, perm=perm)
        has_own = bool((blend.sources[0] == torch.arange(2 * n)).all())
        rows.append(
            _Row(
                name=name,
                note=NOTES.get(name, ""),
                images=blend.images[:n].detach(),
                weights=blend.weights[0, :n] if has_own else None,
            )
        )
    return rows, left_out


def _method(name: str, data: ImageSet, checkpoint: Path | None, seed: int) -> nn.Module:
    """Return a method around a network that can do what it is asked, in eval mode.

    Raises:
        UsageError: there is none.
    """
    options = {}
    if "teacher" in method_options(name, {}):
        if checkpoint is None:
            raise UsageError("it needs a trained network: --checkpoint")
        options["teacher"] = str(checkpoint)
    if checkpoint is not None and name != "transmix":
        model = load_model(checkpoint)
        network, arch = copy.deepcopy(model.net).requires_grad_(True), model.info.arch
    elif name in ("snapmix", "puzzlemix", "co-mixup"):
        raise UsageError("it needs a trained network: --checkpoint")
    else:
        arch = TRANSFORMER if name == "transmix" else "resnet8"
        network = build_model(arch, num_classes=data.num_classes, input_size=data.input_size)
    setup = Setup(
        rng=np.random.default_rng(seed),
        input_size=data.input_size,
        num_classes=data.num_classes,
        mean=data.mean,
        std=data.std,
        arch=arch,
    )
    return build_method(name, network.eval(), options, setup)


def _draw(path: Path, rows: list[_Row], data: ImageSet, title: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # no pyplot: it would keep figures and open windows

    factor = max(1, round(SIDE / max(data.input_size[1:])))
    height, width = (factor * side for side in data.input_size[1:])
    columns = len(rows[0].images)
    tall = TOP + len(rows) * (height + BELOW + GAP)
    wide = LEFT + columns * (width + GAP) + GAP
    canvas: NDArray[np.uint8] = np.full((tall, wide, 3), 255, dtype=np.uint8)
    figure = Figure(figsize=(wide / DPI, tall / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set_axis_off()
    axis.text(GAP, 24, title, fontsize=10)
    for place, row in enumerate(rows):
        y = TOP + place * (height + BELOW + GAP)
        axis.text(LEFT - 10, y + height / 2, row.name, fontsize=10, ha="right")
        axis.text(LEFT - 10, y + height / 2 + 16, row.note, fontsize=7, ha="right", color="dimgrey")
        for column, image in enumerate(to_grey_levels(row.images, data.mean, data.std)):
            x = LEFT + column * (width + GAP)
            large = image.repeat(factor, axis=0).repeat(factor, axis=1)
            canvas[y : y + height, x : x + width] = large
            if row.weights is not None:
                said = f"{float(row.weights[column]):.2f}"
                axis.text(x + width / 2, y + height + 12, said, fontsize=8, ha="center")
    axis.imshow(canvas, interpolation="nearest", aspect="auto", extent=(0, wide, tall, 0))
    axis.set_xlim(0, wide)
    axis.set_ylim(tall, 0)
    refuse_replacing(path, picture=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
