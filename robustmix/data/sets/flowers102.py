"""Oxford Flowers-102. Labels start at 1, by image number; class i is label i + 1.

Train and val are read together as the training split (2,040 images), as transfer benchmarks do.
Some papers swap train and test: their numbers are not comparable.
"""

from pathlib import Path

from robustmix.data.homes import require_home
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Manifest, Split
from robustmix.data.sets.image_set import Listed, damaged, image_set
from robustmix.data.sets.mat_files import as_int, mat_column, read_mat

KEYS: dict[Split, tuple[str, ...]] = {"train": ("trnid", "valid"), "test": ("tstid",)}


def load(manifest: Manifest, split: Split, root: Path) -> ImageSet:
    """Return train and val together, or ``test``; ids end in the file's stem.

    Raises:
        IntakeError: it is not there, or not what it should be; see ``image_set``.
    """
    home = require_home(manifest, root)
    labels, sets = home / "imagelabels.mat", home / "setid.mat"
    class_of = [as_int(one, labels) for one in mat_column(read_mat(labels), "labels", "", labels)]
    arrays = read_mat(sets)
    parts = {
        key: [as_int(one, sets) for one in mat_column(arrays, key, "", sets)]
        for key in ("trnid", "valid", "tstid")
    }
    every = [number for part in parts.values() for number in part]
    if sorted(every) != list(range(1, len(class_of) + 1)):
        raise damaged(f"{sets} does not have each of the {len(class_of)} images in one split")
    chosen = sorted(number for key in KEYS[split] for number in parts[key])
    return image_set(
        manifest,
        split,
        Listed(
            part="trainval" if split == "train" else "test",
            classes=tuple(str(number) for number in range(1, manifest.num_classes + 1)),
            ids=[f"image_{number:05d}" for number in chosen],
            paths=[home / "jpg" / f"image_{number:05d}.jpg" for number in chosen],
            labels=[class_of[number - 1] - 1 for number in chosen],
            layout="jpg with imagelabels.mat and setid.mat",
            lists=(labels, sets),
        ),
    )
