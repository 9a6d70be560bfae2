"""Handwritten digits that come with the package, as a small RGB data set of fixed content.

``digits.npz`` beside this file holds the 1,797 images of the test set of UCI's optical recognition
of handwritten digits (Alpaydin and Kaynak 1998, CC BY 4.0) that scikit-learn embeds too.

The 8x8 images are enlarged with integer arithmetic and split by a frozen stream, so pixels, labels
and ids are the same on every machine and with every version of the libraries.
"""

import hashlib
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from robustmix.data.images import FileRecord, ImageSet, TensorPixels
from robustmix.data.manifests import Manifest, Split
from robustmix.errors import IntakeError

SIZE = 32
TEST_IMAGES = 500
SOURCE_SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
"""Digest of the 1,797 images as uint8 (N, 8, 8) in [0, 16], followed by the uint8 labels."""


def enlarge(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Enlarge 8x8 images fourfold by exact bilinear interpolation and scale them to [0, 255].

    Output pixel o reads the source at (2 o - 3) / 8 (half-pixel centres, edges repeated), so all
    weights are eighths; the result is rounded half up.

    Args:
        images: uint8 (N, 8, 8) with values in [0, 16].

    Returns:
        uint8 (N, 32, 32).
    """
    side = images.shape[1]
    position = 2 * np.arange(4 * side) - 3  # in eighths of a source pixel
    below = np.clip(position // 8, 0, side - 1)
    above = np.clip(position // 8 + 1, 0, side - 1)
    weight = position % 8
    values = images.astype(np.int64)
    rows = (8 - weight)[:, None] * values[:, below] + weight[:, None] * values[:, above]
    sums = (8 - weight) * rows[:, :, below] + weight * rows[:, :, above]
    # sums / 64 is in [0, 16]; times 255 / 16, rounded half up
    return ((sums * 255 * 2 + 1024) // 2048).astype(np.uint8)


def split_digits(labels: npt.NDArray[np.int64]) -> dict[Split, npt.NDArray[np.int64]]:
    """Return the indices of the two splits, each sorted, each with every class in its share.

    Args:
        labels: the 1,797 labels, (N,).
    """
    counts = np.bincount(labels, minlength=10)
    # Largest remainders: whole numbers in proportion that add up to TEST_IMAGES.
    shares = TEST_IMAGES * counts
    take = shares // len(labels)
    by_remainder = np.argsort(-(shares % len(labels)), kind="stable")
    take[by_remainder[: TEST_IMAGES - take.sum()]] += 1
    # The legacy generator: its stream is the one that numpy promises never to change.
    stream = np.random.RandomState(0)
    chosen = [
        np.flatnonzero(labels == digit)[stream.permutation(counts[digit])[: take[digit]]]
        for digit in range(10)
    ]
    test = np.sort(np.concatenate(chosen))
    return {"train": np.setdiff1d(np.arange(len(labels)), test), "test": test}


def load_digits(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return one split of the digits, uint8 (N, 3, 32, 32); nothing is read below ``root``.

    Raises:
        IntakeError: the file that was installed holds other digits.
    """
    with resources.files(__package__).joinpath("digits.npz").open("rb") as file:
        stored = np.load(file)
        images, small = stored["images"], stored["labels"]
    labels = small.astype(np.int64)
    digest = hashlib.sha256(images.tobytes() + small.tobytes()).hexdigest()
    if digest != SOURCE_SHA256:
        raise IntakeError(
            f"the digits that come with robustmix have the SHA-256 {digest}, expected "
            f"{SOURCE_SHA256}",
            "reinstall robustmix",
            code="E-CHECKSUM",
        )
    chosen = split_digits(labels)[split]
    grey = torch.from_numpy(enlarge(images[chosen]))
    return ImageSet(
        name=manifest.name,
        split=split,
        pixels=TensorPixels(grey[:, None].repeat(1, 3, 1, 1)),
        labels=torch.from_numpy(labels[chosen]),
        sample_ids=tuple(f"digits/{split}/{index}" for index in chosen),
        class_names=tuple(str(digit) for digit in range(10)),
        mean=manifest.normalisation.mean,
        std=manifest.normalisation.std,
        files=(FileRecord(name="scikit-learn digits", sha256=digest, verified=True),),
    )
