"""A data set's protocol: how its images are augmented, normalised and prepared for testing.

It follows the data set, not the place that the images come from. Nothing here needs torch.
"""

from dataclasses import dataclass, replace

from robustmix.data.augment import Augment
from robustmix.data.manifests import Manifest, load_manifest
from robustmix.data.preparation import LARGEST
from robustmix.data.preparation import TestTransform as TestTransform

USUAL = 224
"""Side in pixels that protocols of photographs are published for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """What training and test images go through."""

    augment: Augment
    mean: tuple[float, float, float]
    """Normalisation, in [0, 1] pixel units."""

    std: tuple[float, float, float]
    test_transform: TestTransform


def dataset_protocol(manifest: Manifest, img_size: int | None) -> Protocol:
    """Return a data set's own protocol.

    Where all its images have one size (CIFAR) and another is asked for, they are resized for
    testing, and trained on boxes of at least 80 % of the area. Where sizes differ (photographs),
    the published sides are scaled.

    Args:
        manifest: of the data set.
        img_size: side in pixels that networks get; None is what is published.

    Raises:
        ValueError: nobody trains on the set, such as CIFAR-10-C.
    """
    augment = manifest.train_augment
    if augment is None:
        raise ValueError(f"{manifest.name} is an evaluation set and has no training augmentation")
    if img_size is not None and manifest.image_size is None:
        augment = _scaled_augment(augment, manifest.test_transform, img_size)
    elif img_size is not None and manifest.image_size != (img_size, img_size):
        augment = Augment(
            kind="random-resized-crop", flip=augment.flip, size=img_size, scale=(0.8, 1.0)
        )
    return Protocol(
        augment=augment,
        mean=manifest.normalisation.mean,
        std=manifest.normalisation.std,
        test_transform=own_test_transform(manifest, img_size),
    )


def own_test_transform(manifest: Manifest, img_size: int | None) -> TestTransform:
    """Return how test images of a data set are prepared; see ``dataset_protocol``.

    Example:
        >>> own_test_transform(load_manifest("imagenet-1k"), 112).text()
        'resize128-bicubic+centercrop112'
    """
    test = manifest.test_transform
    if img_size is None or manifest.image_size == (img_size, img_size):
        return test
    if manifest.image_size is not None:
        return TestTransform(resize=img_size)
    published = test.crop or _published_side(manifest.train_augment)
    return replace(
        test,
        resize=_scaled(test.resize, img_size, published),
        crop=_scaled(test.crop, img_size, published),
    )


def _scaled_augment(augment: Augment, test: TestTransform, side: int) -> Augment:
    published = test.crop or _published_side(augment)
    return replace(
        augment,
        size=_scaled(augment.size, side, published),
        resize=_scaled(augment.resize, side, published),
    )


def _published_side(augment: Augment | None) -> int:
    return USUAL if augment is None else augment.size or USUAL


def _scaled(pixels: int | None, side: int, published: int) -> int | None:
    return None if pixels is None else min(max(1, int(pixels * side / published)), LARGEST)


def folder_protocol(side: int, as_stored: bool) -> Protocol:
    """Return what a folder of images gets that follows no data set's protocol.

    Args:
        side: of the images that networks get, in pixels.
        as_stored: whether all files are squares of that size.
    """
    normalisation = load_manifest("imagenet-1k").normalisation
    return Protocol(
        augment=usual_augment(side),
        mean=normalisation.mean,
        std=normalisation.std,
        test_transform=TestTransform()
        if as_stored
        else TestTransform(resize=min(int(side * 256 / USUAL), LARGEST), crop=side),
    )


def usual_augment(side: int) -> Augment:
    """Return the augmentation of images that no data set's protocol is known of.

    CIFAR's padding and cropping up to 32 pixels, a random resized crop above.
    """
    if side <= 32:
        return Augment(kind="crop-flip")
    return Augment(kind="random-resized-crop", size=side)
