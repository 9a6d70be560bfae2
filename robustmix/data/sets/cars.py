"""Stanford Cars (196). Class numbers start at 1; class i is number i + 1.

Files are numbered from 00001 in both splits, which are different pictures: ids carry the split.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robustmix.data.homes import require_home
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import Listed, below, damaged, image_set
from robustmix.data.sets.mat_files import as_int, as_text, mat_column, read_mat

MERGED = "cars_annos.mat"
WITH_LABELS = "cars_test_annos_withlabels.mat"
_Arrays = Mapping[str, NDArray[np.generic]]


def load(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return a split; ids end in the file's number, of the merged layout in ``car_ims/<number>``.

    Layouts: ``cars_train`` and ``cars_test`` with the devkit, the labels of the test images beside
    the devkit or in it; or ``car_ims`` with the merged ``cars_annos.mat``, which numbers the same
    pictures otherwise.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    home = require_home(manifest, root)
    if (home / f"cars_{split}").is_dir() or not (home / MERGED).is_file():
        return image_set(manifest, split, _devkit(split, home))
    return image_set(manifest, split, _merged(split, home))


def _devkit(split: Split, home: Path) -> Listed:
    meta = home / "devkit" / "cars_meta.mat"
    path = home / "devkit" / "cars_train_annos.mat" if split == "train" else _test_labels(home)
    arrays = read_mat(path)
    names = [as_text(one, path) for one in mat_column(arrays, "annotations", "fname", path)]
    return Listed(
        part=split,
        classes=_class_names(read_mat(meta), meta),
        ids=[Path(name).stem for name in names],
        paths=[below(home / f"cars_{split}", name, path) for name in names],
        labels=_labels(arrays, path),
        layout=f"cars_{split} with {path.relative_to(home).as_posix()}",
        lists=(path, meta),
    )


def _test_labels(home: Path) -> Path:
    for path in (home / WITH_LABELS, home / "devkit" / WITH_LABELS):
        if path.is_file():
            return path
    raise damaged(
        f"the classes of the test images are not there: {home / WITH_LABELS} has them, "
        "devkit/cars_test_annos.mat does not"
    )


def _merged(split: Split, home: Path) -> Listed:
    path = home / MERGED
    arrays = read_mat(path)
    names = [
        as_text(one, path) for one in mat_column(arrays, "annotations", "relative_im_path", path)
    ]
    is_test = [as_int(one, path) for one in mat_column(arrays, "annotations", "test", path)]
    labels = _labels(arrays, path)
    chosen = [place for place, said in enumerate(is_test) if said == (split == "test")]
    return Listed(
        part=split,
        classes=_class_names(arrays, path),
        ids=[names[place].rpartition(".")[0] for place in chosen],
        paths=[below(home, names[place], path) for place in chosen],
        labels=[labels[place] for place in chosen],
        layout=f"car_ims with the merged {MERGED}",
    )


def _class_names(arrays: _Arrays, path: Path) -> tuple[str, ...]:
    return tuple(as_text(one, path) for one in mat_column(arrays, "class_names", "", path))


def _labels(arrays: _Arrays, path: Path) -> list[int]:
    return [as_int(one, path) - 1 for one in mat_column(arrays, "annotations", "class", path)]
