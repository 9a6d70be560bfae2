"""Training batches: uint8 pixels on the device, augmented and normalised there."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from robustmix.data.augment import Augment as Augment
from robustmix.data.erasing import draw_erasing, erase
from robustmix.data.file_pixels import FilePixels
from robustmix.data.images import ImageSet, Pixels, SubsetPixels
from robustmix.data.manifests import Manifest, list_manifests, load_manifest
from robustmix.data.protocol import dataset_protocol, usual_augment
from robustmix.data.rand_augment import draw_rand_ops, rand_augment
from robustmix.data.rand_increasing import POLICIES
from robustmix.data.resized import ResizedPixels
from robustmix.data.transforms import (
    BOX_UNIFORMS,
    crop_box,
    crop_flip,
    draw_crop_flip,
    normalise,
    resized_crop,
)
from robustmix.rng import permutations, sample_keys


class Batch(NamedTuple):
    """One training batch."""

    images: Tensor  # float32 (n, 3, H, W), normalised, on the device
    labels: Tensor  # int64 (n,), on the device
    indices: Tensor  # int64 (n,), places in the image set, on the CPU


def default_augment(data: ImageSet | Manifest) -> Augment:
    """Return the training augmentation that the published recipes use for a data set.

    See ``dataset_protocol``; of a set without a manifest ``usual_augment``.

    Args:
        data: images or a manifest.

    Raises:
        ValueError: the manifest is of a set that nobody trains on, such as CIFAR-10-C.
    """
    if isinstance(data, Manifest):
        return dataset_protocol(data, None).augment
    _, height, width = data.input_size
    if data.name not in list_manifests():
        return usual_augment(max(height, width))
    manifest = load_manifest(data.name)
    own_size = manifest.image_size == (height, width)
    return dataset_protocol(manifest, None if own_size else height).augment


def batches_per_epoch(n: int, batch_size: int, drop_last: bool) -> int:
    """Return how many batches an epoch over ``n`` images has.

    Example:
        >>> batches_per_epoch(103, 10, drop_last=False)
        11
    """
    return n // batch_size if drop_last else -(-n // batch_size)


def train_batches(
    data: ImageSet,
    *,
    batch_size: int,
    augment: Augment,
    order: torch.Generator,
    draws: torch.Generator,
    device: torch.device | str,
    start: int = 0,
    drop_last: bool = False,
) -> Iterator[Batch]:
    """Yield the batches of one epoch in random order.

    Args:
        data: the images; move them with ``data.to(device)`` once to save the copy every epoch.
        batch_size: images a batch.
        augment: what is done to them.
        order: a CPU generator; the epoch draws one permutation from it, before the first batch.
        draws: a CPU generator of the augmentation; it advances batch by batch, so its state between
            two batches is what a resumed epoch continues from.
        device: where the batches are wanted.
        start: batches to skip, without drawing from ``draws``.
        drop_last: whether an incomplete last batch is left out.

    Yields:
        Normalised images, their labels and their places in ``data``.
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, got {batch_size}")
    device = torch.device(device)
    data = data.to(device)
    labels = data.labels.to(device)
    permutation = torch.randperm(len(data), generator=order)
    for number in range(start, batches_per_epoch(len(data), batch_size, drop_last)):
        indices = permutation[number * batch_size : (number + 1) * batch_size]
        images = augmented(data.pixels, indices, augment, draws).to(device)
        images = normalise(images, data.mean, data.std)
        if augment.erase_prob > 0:
            erasing = draw_erasing(len(indices), draws)
            images = erase(images, erasing, prob=augment.erase_prob)
        yield Batch(
            images=images,
            labels=labels[indices.to(device)],
            indices=indices,
        )


def augmented(
    pixels: Pixels, indices: Tensor, augment: Augment, generator: torch.Generator
) -> Tensor:
    """Return augmented images, uint8 (n, 3, H, W); what is erased is so after normalisation.

    The numbers drawn depend on the count of images and on nothing about them.

    Args:
        pixels: where the images come from.
        indices: which ones, int64 (n,) on the CPU.
        augment: what is done to them.
        generator: a CPU generator.
    """
    images = _cropped(pixels, indices, augment, generator)
    if augment.rand_ops == 0:
        return images
    policy = POLICIES[augment.rand_policy]
    draws = draw_rand_ops(
        len(indices),
        augment.rand_ops,
        magnitude=augment.rand_magnitude,
        std=augment.rand_std,
        generator=generator,
        choices=len(policy.operations),
    )
    return rand_augment(images, draws, policy=policy, fill=augment.rand_fill)


def _cropped(
    pixels: Pixels, indices: Tensor, augment: Augment, generator: torch.Generator
) -> Tensor:
    n = len(indices)
    if augment.kind == "none":
        return pixels.take(indices)
    if augment.kind == "crop-flip":
        crop = draw_crop_flip(n, augment.padding, generator)
        if not augment.flip:
            crop = crop._replace(flip=torch.zeros(n, dtype=torch.bool))
        return crop_flip(pixels.take(indices), crop, padding=augment.padding, mode=augment.mode)
    uniforms = torch.rand(n, BOX_UNIFORMS, generator=generator, dtype=torch.float64)
    flip = torch.rand(n, generator=generator) < 0.5
    images = _random_boxes(pixels, indices, uniforms, augment)
    if not augment.flip:
        return images
    return torch.where(flip.to(images.device)[:, None, None, None], images.flip(3), images)


def _random_boxes(pixels: Pixels, indices: Tensor, uniforms: Tensor, augment: Augment) -> Tensor:
    side = augment.size or pixels.size[1]
    # The box is cut from the pixels as they are stored, not from an enlarged or cropped copy.
    while isinstance(pixels, SubsetPixels | ResizedPixels):
        if isinstance(pixels, SubsetPixels):
            indices = pixels.chosen[indices]
        pixels = pixels.pixels
    if isinstance(pixels, FilePixels):
        return pixels.take_boxes(indices, uniforms, augment, side)
    images = pixels.take(indices)
    height, width = images.shape[-2:]
    boxes = [
        crop_box(height, width, row, scale=augment.scale, ratio=augment.ratio) for row in uniforms
    ]
    return resized_crop(images, boxes, side, interpolation=augment.interpolation)


def split_holdout(labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split a training set into two parts that both hold every class in its share.

    Args:
        labels: class indices, (N,).
        fraction: share of each class that is held out, in (0, 1); rounded to whole images, at
            least one image and not all of them.
        seed: selects the images; they depend on nothing else, on any machine.

    Returns:
        Indices of the images that stay and of those held out, each sorted.

    Raises:
        ValueError: the fraction is out of range, or a class has fewer than two images.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"expected 0 < fraction < 1, got {fraction}")
    held: list[Tensor] = []
    labels = labels.cpu()
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        if len(members) < 2:
            raise ValueError(f"class {label} has one image, which cannot be in both parts")
        count = min(max(int(fraction * len(members) + 0.5), 1), len(members) - 1)
        key = sample_keys(seed, "data", "holdout", 0, [str(label)])
        held.append(members[permutations(key, len(members))[0, :count]])
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    chosen[torch.cat(held)] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()
