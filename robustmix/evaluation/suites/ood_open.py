"""Opening out-of-distribution sets: prepared as the evaluated images are, oddities noted."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from robustmix.data.content import pixels_sha256
from robustmix.data.datasets import load_dataset
from robustmix.data.decode import read_header
from robustmix.data.file_pixels import FilePixels, KeptFiles
from robustmix.data.folder import load_unlabelled
from robustmix.data.images import ImageSet, Pixels, SubsetPixels
from robustmix.data.location import FOLDER
from robustmix.data.preparation import TestTransform
from robustmix.data.resized import ResizedPixels
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.suite import Scene, limited_count
from robustmix.files import expanded
from robustmix.later import torch
from robustmix.rng import seeded_subset

INSIDE = "in-distribution"
"""The condition that the scores of the evaluated images stand under."""

LOOKED_AT = 64
"""Files that the usual size of a set's images is taken from."""

UNLIKE = 1.5
"""How many times more one set may be enlarged than the other before that is warned of."""


@dataclass(frozen=True, kw_only=True)
class OodFacts:
    """What a report records of one out-of-distribution set."""

    name: str
    n: int
    """Images that are scored."""

    of: int
    """Images that lie in the set."""

    transform: str
    """How they were prepared."""

    sha256: str
    """Digest of the ids of the scored images, in their order."""

    pixels_sha256: str
    notes: tuple[str, ...] = ()
    """What to warn of, each beginning with its code."""

    @property
    def own_prefix(self) -> str:
        """How the ids of its images begin."""
        return f"{self.name}/ood/"


def open_sets(names: Sequence[str], scene: Scene) -> list[tuple[OodFacts, ImageSet]]:
    """Open all sets that were asked for.

    Raises:
        UsageError: none was, or two go by one name.
        IntakeError: see ``_loaded``.
    """
    if not names:
        raise UsageError(
            "no out-of-distribution set is named",
            "add --ood-dataset svhn, or folder:PATH, or several with commas between",
            code="E-OOD-SET",
        )
    found = [_opened(name, scene) for name in names]
    known = [INSIDE, *(facts.name for facts, _ in found)]
    twice = next((name for name in known if known.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"two sets are called {twice}",
            "name each once; of two folders rename one",
            code="E-OOD-SET",
        )
    return found


def _opened(asked: str, scene: Scene) -> tuple[OodFacts, ImageSet]:
    whole = _loaded(asked, scene)
    name = _called(whole.name)
    images = _limited(replace(whole, sample_ids=_own_ids(name, whole.sample_ids)), scene)
    facts = OodFacts(
        name=name,
        n=len(images),
        of=len(whole),
        transform=whole.transform,
        sha256=images.order_sha256,
        pixels_sha256=pixels_sha256(images),
        notes=(*_oddities(name, whole, scene.data), *_notes(name, whole)),
    )
    return facts, images


def _called(name: str) -> str:
    """Name the conditions of a set: of a folder, or a set of a library, by its last part alone.

    Example:
        >>> _called("svhn"), _called("folder:my textures"), _called("hf:uoft-cs/cifar10")
        ('svhn', 'my_textures', 'cifar10')
    """
    last = re.split(r"[:/]", name.strip("/"))[-1]
    return re.sub(r"[^\w.-]", "_", last)[:60] or "folder"


def _own_ids(name: str, ids: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        f"{name}/ood/{one.removeprefix(f'{name}/').removeprefix('folder/')}" for one in ids
    )


def _limited(images: ImageSet, scene: Scene) -> ImageSet:
    """Take as many images as were asked for of the evaluated ones, by the same seed."""
    if scene.limit is None:
        return images
    count = max(1, limited_count(scene.limit, len(images)))
    chosen = seeded_subset(scene.seed, images.sample_ids, count)
    return images if chosen is None else images.subset(chosen)


def _loaded(asked: str, scene: Scene) -> ImageSet:
    """Load a set, prepared as the evaluated images are where that gives images of their size.

    Else (they were not prepared at all, or do not crop) it is prepared in its own way, for the
    model's size. Labels are all 0: nobody asks for them, and they are none of the model's classes.

    Raises:
        UsageError: there is no such data set.
        IntakeError: it is not there, damaged, or its images do not become the model's size.
    """
    like = scene.data
    _, height, width = like.input_size
    side = height if height == width else None
    try:
        shared = TestTransform.parse(like.transform)
    except ValueError:  # words of a loader of others
        shared = TestTransform()
    images = None
    if shared.text() != "none":
        try:
            images = _read(asked, scene, side, shared)
        except IntakeError as error:
            if error.code != "E-TRANSFORM":
                raise
    if images is None or images.input_size != like.input_size:
        images = _read(asked, scene, side, None)
    if images.input_size != like.input_size:
        _, tall, wide = images.input_size
        raise IntakeError(
            f"{asked} has images of {wide}x{tall} pixels, the evaluated ones have {width}x{height}",
            "give images of that size",
            code="E-INPUT-SIZE",
        )
    if not len(images):
        raise IntakeError(f"{asked} has no images", "check the data folder", code="E-DATA")
    return replace(
        images,
        labels=torch.zeros(len(images), dtype=torch.int64),
        class_names=like.class_names,
        mean=like.mean,
        std=like.std,
        superclass=None,
    )


def _read(asked: str, scene: Scene, side: int | None, transform: TestTransform | None) -> ImageSet:
    if asked.startswith(FOLDER):
        path = expanded(asked.removeprefix(FOLDER))
        return load_unlabelled(path, side, scene.data, transform)
    from robustmix.data.hf import HF, HfItems  # needs torch, which reading a report does not
    from robustmix.data.torch_sets import Wanted, image_set_of

    if asked.startswith(HF):
        _, height, width = scene.data.input_size
        own = TestTransform(resize=side, crop=side)
        return image_set_of(HfItems(asked), Wanted((height, width), transform or own))
    return load_dataset(
        asked,
        "test",
        data_dir=scene.folder,
        img_size=side,
        test_transform=transform,
        allow_partial=scene.allow_partial,
    )


def _notes(name: str, images: ImageSet) -> list[str]:
    """Give what the loader says, with a code before what has none."""
    return [
        one if re.match(r"W-[A-Z-]+: ", one) else f"W-OOD: {name}: {one}" for one in images.notes
    ]


def _oddities(name: str, images: ImageSet, evaluated: ImageSet) -> list[str]:
    """Say what makes the set a poor one for these images, as far as that is known beforehand."""
    found = []
    both = len(set(images.sample_ids) & set(evaluated.sample_ids))
    if both:
        found.append(
            f"W-OOD-SELF: {both:,} of {len(images):,} images of {name} have the ids of images of "
            f"{evaluated.name}: what is evaluated is no out-of-distribution set"
        )
    own, other = _enlarged(images), _enlarged(evaluated)
    if own is not None and other is not None and max(own, other) > UNLIKE * min(own, other):
        found.append(
            f"W-OOD-RESIZED: images of {name} are {_times(own)}, those of {evaluated.name} "
            f"{_times(other)}: scores may tell the resizing, not what is shown"
        )
    return found


def _times(factor: float) -> str:
    if factor == 1:
        return "as they are stored"
    return f"enlarged {factor:.2g} times" if factor > 1 else f"reduced {1 / factor:.2g} times"


def _enlarged(images: ImageSet) -> float | None:
    """Tell how many times the shorter side of the images grows, None if that is not known."""
    pixels: Pixels = images.pixels
    while isinstance(pixels, SubsetPixels):
        pixels = pixels.pixels
    try:
        transform = TestTransform.parse(images.transform)
    except ValueError:
        return None
    if transform.resize is None:
        return 1.0
    if isinstance(pixels, ResizedPixels):
        _, height, width = pixels.pixels.size
        sizes = [(width, height)]
    elif isinstance(pixels, FilePixels | KeptFiles):
        some = pixels.paths[:: max(1, len(pixels.paths) // LOOKED_AT)]
        sizes = [read_header(path)[:2] for path in some]
    else:
        return None  # prepared by whoever gave them, or known only once all are read
    return median(min(transform.resized(*size)) / min(size) for size in sizes)
