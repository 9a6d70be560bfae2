"""All corruptions of one image at all severities, as one picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robustmix.corruptions import APPROXIMATE, NAMES, SEVERITIES, corrupt
from robustmix.files import atomic_path, refuse_replacing, regular_file

SIDE = 128
"""Pixels of a cell, about; images are enlarged by whole factors."""


def draw_contact_sheet(
    image: Tensor,
    path: Path,
    *,
    names: Sequence[str] = NAMES,
    seed: int = 0,
    sample_id: str = "0",
    profile: str | None = None,
    frost_dir: Path | None = None,
    title: str = "",
) -> None:
    """Draw an image beside its corruptions, all five severities, into a PNG or SVG by its suffix.

    Args:
        image: uint8 (3, H, W).
        path: where to.
        names: the corruptions.
        seed: of everything random.
        sample_id: the image's stable name; with the same seed an evaluation sees these images.
        profile: severity constants; by the size of the image if None.
        frost_dir: folder of the benchmark's frost pictures.
        title: written at the top.

    Raises:
        UsageError: the size of the image has no severity constants and none are named.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Two blocks side by side, each a column of names and one for clean and every severity.
    half, block = (len(names) + 1) // 2, len(SEVERITIES) + 2
    cell, head = SIDE / 100, 0.5
    width, height = 2 * (block - 0.2) * cell, (half + head) * cell
    figure = Figure(figsize=(width, height), dpi=100)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        half,
        2 * block,
        width_ratios=[0.8, *([1.0] * (block - 1))] * 2,
        left=0.005,
        right=0.995,
        bottom=0.005,
        top=1 - head / (half + head),
        wspace=0.06,
        hspace=0.06,
    )
    figure.text(0.01, 0.995, title, va="top", fontsize=11)
    for number, name in enumerate(names):
        row, side = number % half, number // half
        cells = [image] + [
            corrupt(
                image.unsqueeze(0),
                name,
                severity,
                seed=seed,
                sample_ids=[sample_id],
                profile=profile,
                frost_dir=frost_dir,
            )[0]
            for severity in SEVERITIES
        ]
        for place, pixels in enumerate(cells):
            axes = figure.add_subplot(grid[row, side * block + 1 + place])
            axes.imshow(_picture(pixels), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title("clean" if place == 0 else f"severity {place}", fontsize=8)
            if place == 0:
                shown = name.replace("_", "\n")
                if name in APPROXIMATE and frost_dir is None:
                    shown += "\n(substitute)"
                axes.set_ylabel(shown, fontsize=8, rotation=0, ha="right", va="center")
    refuse_replacing(path, picture=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png")


def _picture(image: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return np.ascontiguousarray(image.cpu().permute(1, 2, 0).numpy())


def image_from_file(path: Path) -> Tensor:
    """Read a picture as uint8 (3, side, side): its centre, shrunk to 224, 64 or 32 pixels.

    Raises:
        IntakeError: the file is no picture.
    """
    from PIL import Image

    from robustmix.data.decode import open_rgb

    picture = open_rgb(regular_file(path, what="picture"))
    short = min(picture.size)
    side = next((known for known in (224, 64, 32) if short >= known), 32)
    left, top = ((length - short) // 2 for length in picture.size)
    square = picture.crop((left, top, left + short, top + short)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)
