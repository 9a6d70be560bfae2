"""Pictures of what a mask generator does: source images, masks and mixtures, side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.data.images import ImageSet
from robustmix.data.transforms import normalise
from robustmix.files import atomic_path
from robustmix.methods.momentum_pair import MixPreview

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Cell: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""An image (H, W, 3) or a mask (H, W)."""

MASK_COLOURS = "viridis"
"""Colour map of the masks, even in lightness and legible to the colour-blind."""

NO_NUMBER = "magenta"
"""Colour of a mask that is no number; the colour map has nothing like it."""

SIDE = 192
"""Pixels that a cell measures about; an image is enlarged by a whole factor only."""

DPI = 100

PICTURE_SAMPLES = 6
"""Validation images in a picture of the mixtures."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything lies in the picture, in its pixels, counted from the top left.

    Each sample is a row: its N sources, a gap, the N masks, a gap, the mixture.
    """

    rows: int
    sources: int
    cell: tuple[int, int]
    """Height and width of a cell."""

    gap: int = 6
    """Between cells."""

    group_gap: int = 30
    """Between sources, masks and mixture."""

    left: int = 14
    top: int = 66
    """Room for the title and the heads of the columns."""

    below: int = 20
    """Room under each row for the range and the mean of its masks."""

    bar: int = 16
    """Width of the colour bar."""

    right: int = 74
    """Room for the colour bar's numbers."""

    @property
    def columns(self) -> int:
        """Cells in a row."""
        return 2 * self.sources + 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the whole picture."""
        height = self.top + self.rows * (self.cell[0] + self.below + self.gap) + self.gap
        return height, self.bar_box()[1] + self.bar + self.right

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return the y and x of a cell's top left pixel."""
        groups = (column >= self.sources) + (column >= 2 * self.sources)
        x = self.left + column * (self.cell[1] + self.gap) + groups * (self.group_gap - self.gap)
        return self.top + row * (self.cell[0] + self.below + self.gap), x

    def bar_box(self) -> tuple[int, int, int, int]:
        """Return y, x, height and width of the colour bar, as high as the rows or three cells."""
        y, x = self.corner(0, self.columns - 1)
        last = min(self.rows, 3) - 1
        bottom = self.corner(last, 0)[0] + self.cell[0]
        return y, x + self.cell[1] + self.group_gap, bottom - y, self.bar


def layout_of(preview: MixPreview) -> Layout:
    """Return the layout of a preview's picture."""
    n, sources, _, height, width = preview.sources.shape
    factor = max(1, round(SIDE / max(height, width)))
    return Layout(rows=n, sources=sources, cell=(factor * height, factor * width))


def draw_mixing(
    preview: MixPreview,
    path: Path,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    title: str = "",
) -> None:
    """Draw sources, masks and mixtures of a few samples into a PNG.

    Images are enlarged by whole factors, so every pixel of theirs is a square of one colour. All
    masks have one scale from 0 to 1: in a picture from before the first step they are all 1 / N.

    Args:
        preview: n samples of N sources; one row each.
        path: where to; what was there is replaced, or kept if writing fails.
        mean: of the normalisation, one number a channel, in [0, 1] pixel units.
        std: likewise.
        title: written at the top left, e.g. which epoch this is.

    Raises:
        IncompleteError: the file cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure  # no pyplot: it would keep figures and open windows

    n, sources, _, height, width = preview.sources.shape
    assert preview.masks.shape == (n, sources, height, width)
    assert preview.mixed.shape == (n, 3, height, width)
    assert len(preview.lam) == sources
    layout = layout_of(preview)
    figure = Figure(figsize=(layout.size[1] / DPI, layout.size[0] / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    colours = colormaps[MASK_COLOURS].with_extremes(bad=NO_NUMBER)
    heads = _heads(preview.lam)
    images = to_grey_levels(preview.sources, mean, std)
    masks = preview.masks.detach().float().cpu().numpy()
    mixed = to_grey_levels(preview.mixed, mean, std)
    for row in range(n):
        cells: list[Cell] = [*images[row], *masks[row], mixed[row]]
        for column, (cell, head) in enumerate(zip(cells, heads, strict=True)):
            y, x = layout.corner(row, column)
            axis = _axes(figure, layout, (y, x, *layout.cell))
            axis.set_axis_off()
            # Without "nearest" matplotlib smooths what it enlarges by less than three.
            axis.imshow(cell, cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
            if row == 0:
                _text(figure, layout, (layout.top - 8, x + layout.cell[1] / 2), head)
            if cell.ndim == 2:
                beneath = (y + layout.cell[0] + layout.below - 4, x + layout.cell[1] / 2)
                told = f"{cell.min():.3f} to {cell.max():.3f}, mean {cell.mean():.3f}"
                _text(figure, layout, beneath, told, size=8, color="dimgrey")
    _colour_bar(figure, layout)
    _text(figure, layout, (26, layout.left), title, size=12, ha="left")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def picture_samples(data: ImageSet, n: int, device: torch.device | str) -> Tensor:
    """Return some normalised images, always the same ones, spread over a set and not augmented.

    Each is of another class while there are classes that none of them is of.

    Args:
        data: the images.
        n: how many; all of a smaller set.
        device: where they are wanted.

    Returns:
        float32 (n, 3, H, W) on ``device``.
    """
    chosen = torch.tensor(
        list(spread_places(data.labels.cpu(), min(n, len(data)))), dtype=torch.int64
    )
    return normalise(data.pixels.take(chosen).to(device), data.mean, data.std)


def spread_places(labels: Tensor, n: int) -> Iterator[int]:
    """Yield n places: i / n of the way, or the next one of a class that was not yet had."""
    free = torch.ones(len(labels), dtype=torch.bool)
    fresh = free.clone()
    for i in range(n):
        start = i * len(labels) // n
        wanted = fresh if fresh.any() else free
        (places,) = torch.nonzero(wanted, as_tuple=True)
        after = places[places >= start]
        place = int(after[0] if len(after) else places[0])
        free[place] = False
        fresh &= labels != labels[place]
        yield place


def _heads(lam: Sequence[float]) -> list[str]:
    numbers = range(1, len(lam) + 1)
    return [
        *(f"source {i}, λ = {weight:.2f}" for i, weight in zip(numbers, lam, strict=True)),
        *(f"mask {i}" for i in numbers),
        "mixed",
    ]


def to_grey_levels(
    images: Tensor, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.uint8]:
    """Return normalised images (..., 3, H, W) as grey levels (..., H, W, 3)."""
    scale, shift = (torch.tensor(list(v), dtype=torch.float32)[:, None, None] for v in (std, mean))
    pixels = images.detach().float().cpu() * scale + shift
    levels = (255 * pixels.nan_to_num().clamp(0, 1)).round().to(torch.uint8)
    return np.asarray(levels.movedim(-3, -1).numpy())


def _axes(figure: "Figure", layout: Layout, box: tuple[int, int, int, int]) -> "Axes":
    """Return axes that fill the pixels y, x, height, width."""
    height, width = layout.size
    y, x, h, w = box
    return figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))


def _text(
    figure: "Figure",
    layout: Layout,
    place: tuple[float, float],
    text: str,
    *,
    size: float = 9,
    ha: str = "center",
    color: str = "black",
) -> None:
    """Write ``text`` on the base line y at x."""
    height, width = layout.size
    y, x = place
    figure.text(x / width, 1 - y / height, text, fontsize=size, ha=ha, va="baseline", color=color)


def _colour_bar(figure: "Figure", layout: Layout) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), MASK_COLOURS), cax=_axes(figure, layout, layout.bar_box())
    )
    bar.set_ticks([0, 0.25, 0.5, 0.75, 1])
    bar.ax.tick_params(labelsize=8)
    bar.set_label("share of the source in the pixel", fontsize=8)
