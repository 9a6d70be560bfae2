"""SVHN's cropped digits: two MATLAB files, each of images (32, 32, 3, N) and labels 1 to 10.

Netzer et al. 2011, "Reading Digits in Natural Images with Unsupervised Feature Learning". The files
write 10 for the digit 0, whose class is 0 here.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustmix.data.archives import check_content
from robustmix.data.homes import require_home
from robustmix.data.images import FileRecord, ImageSet, TensorPixels
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import damaged
from robustmix.data.sets.mat_files import parse_mat
from robustmix.errors import IntakeError
from robustmix.files import regular_file
from robustmix.later import torch

MOST_BYTES = 2**28
"""Of a file that is read before its checksum is known; the larger official one has 182 MB."""

ZERO = 10
"""What the files write for the digit 0."""


def load(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return a split in the order of its file; the id of image i is ``svhn/<split>/<i>``.

    Raises:
        IntakeError: the file is not there (``E-DATA``), has another checksum (``E-CHECKSUM``), or
            does not hold what it should (``E-DATA``).
    """
    path = require_home(manifest, root) / f"{split}_32x32.mat"
    (known,) = (file for file in manifest.archives if file.path == path.name)
    hint = f"download it from {known.origin}"
    regular_file(path, what="file of SVHN", limit=MOST_BYTES, hint=hint, code="E-DATA")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise IntakeError(f"cannot read {path}: {error.strerror}", hint, code="E-DATA") from error
    sha256 = check_content(content, known, path)
    arrays = parse_mat(content, path)
    images, labels = _images(arrays.get("X"), path), _labels(arrays.get("y"), path)
    if not len(images) == len(labels) == manifest.split_count(split):
        raise damaged(
            f"{path} has {len(images)} images and {len(labels)} labels, expected "
            f"{manifest.split_count(split)}"
        )
    return ImageSet(
        name=manifest.name,
        split=split,
        pixels=TensorPixels(torch.from_numpy(images)),
        labels=torch.from_numpy(labels),
        sample_ids=tuple(f"{manifest.name}/{split}/{index}" for index in range(len(images))),
        class_names=tuple(str(digit) for digit in range(manifest.num_classes)),
        mean=manifest.normalisation.mean,
        std=manifest.normalisation.std,
        files=(FileRecord(name=path.name, sha256=sha256, verified=True),),
    )


def _images(stored: NDArray[np.generic] | None, path: Path) -> NDArray[np.uint8]:
    if stored is None or stored.dtype != np.uint8 or stored.shape[:-1] != (32, 32, 3):
        said = "none" if stored is None else f"{stored.dtype} {stored.shape}"
        raise damaged(f"{path}: expected images X, uint8 (32, 32, 3, N), got {said}")
    return np.ascontiguousarray(stored.transpose(3, 2, 0, 1), dtype=np.uint8)


def _labels(stored: NDArray[np.generic] | None, path: Path) -> NDArray[np.int64]:
    if stored is None or stored.ndim != 1 or stored.dtype.kind not in "iuf":
        raise damaged(f"{path} has no list of labels y")
    if not np.isin(stored, np.arange(1, ZERO + 1)).all():
        raise damaged(f"the labels of {path} are not of 1 to {ZERO}")
    return stored.astype(np.int64) % ZERO
