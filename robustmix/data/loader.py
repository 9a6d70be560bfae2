"""Training batches: uint8 pixels on the device, augmented and normalised there."""

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar, cast

import torch
from torch import Tensor

from robustmix.data.augment import Augment as Augment
from robustmix.data.augmented import (
    AugmentDraws,
    Begun,
    begin_augmented,
    draw_augment,
    finish_augmented,
)
from robustmix.data.augmented import augmented as augmented
from robustmix.data.erasing import Erasing, draw_erasing, erase
from robustmix.data.file_pixels import Normal
from robustmix.data.images import ImageSet
from robustmix.data.manifests import Manifest, list_manifests, load_manifest
from robustmix.data.protocol import dataset_protocol, usual_augment
from robustmix.data.threads import AHEAD, ahead
from robustmix.data.transforms import normalise, on_device
from robustmix.rng import permutations, sample_keys

Drawn = TypeVar("Drawn")


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


ROUND = 256
"""Repeated augmentation shows a multiple of this many images an epoch."""


def images_per_epoch(n: int, repeats: int) -> int:
    """Return how many images an epoch over ``n`` shows, a repeated one counted as often.

    With repeats it is the multiple of 256 below, as in DeiT's and timm's samplers, or all of fewer.
    """
    return n if repeats == 1 or n < ROUND else n // ROUND * ROUND


def epoch_order(n: int, repeats: int, generator: torch.Generator) -> Tensor:
    """Return the places in the data of the images of an epoch, in order, int64.

    Args:
        n: images in the data.
        repeats: times that an image is shown in a row, each time augmented anew (repeated
            augmentation); an epoch then shows one image in ``repeats``.
        generator: a CPU generator; one permutation is drawn from it.

    Reference:
        Hoffer et al. 2020, arXiv:1901.09335; Touvron et al. 2021, arXiv:2012.12877, section 6;
        timm, ``RepeatAugSampler``, whose ranks take every W-th of these.
    """
    permutation = torch.randperm(n, generator=generator)
    if repeats == 1:
        return permutation
    return permutation.repeat_interleave(repeats)[: images_per_epoch(n, repeats)]


def batches_per_epoch(n: int, batch_size: int, drop_last: bool, repeats: int = 1) -> int:
    """Return how many batches an epoch over ``n`` images has.

    Example:
        >>> batches_per_epoch(103, 10, drop_last=False)
        11
        >>> batches_per_epoch(300, 10, drop_last=False, repeats=3)
        26
    """
    shown = images_per_epoch(n, repeats)
    return shown // batch_size if drop_last else -(-shown // batch_size)


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
    repeats: int = 1,
    share: Callable[[int], slice] = lambda n: slice(None),
) -> Generator[Batch]:
    """Yield the batches of one epoch in random order; files are read some batches ahead.

    Close it where it is left before its end: what was begun is then given up.

    Args:
        data: the images; move them with ``data.to(device)`` once to save the copy every epoch.
        batch_size: images a batch.
        augment: what is done to them.
        order: a CPU generator; the epoch draws one permutation from it, before the first batch.
        draws: a CPU generator of the augmentation; its state between two batches is the one after
            the draws of the first of them, whatever was begun ahead: a resumed epoch continues
            from it.
        device: where the batches are wanted.
        start: batches to skip, without drawing from ``draws``.
        drop_last: whether an incomplete last batch is left out.
        repeats: times that an image is shown in a row; see ``epoch_order``.
        share: number of images of a batch -> which of them are yielded; all are drawn for.

    Yields:
        Normalised images, their labels and their places in ``data``.
    """
    if batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, got {batch_size}")
    device = torch.device(device)
    data = data.to(device)
    places = epoch_order(len(data), repeats, order)
    numbers = range(start, batches_per_epoch(len(data), batch_size, drop_last, repeats))
    choices = (places[i * batch_size : (i + 1) * batch_size] for i in numbers)
    # Batches that are begun ahead draw from a copy: ``draws`` stands where the loop does.
    own = torch.Generator().set_state(draws.get_state())
    begun = (_begin(data, indices, augment, own, device, share) for indices in choices)
    for batch in ahead(begun, AHEAD):
        images = on_device(batch.images.result(), device)
        images = finish_augmented(images, augment, batch.draws)
        if images.dtype == torch.uint8:
            images = normalise(images, data.mean, data.std)
        if batch.erasing is not None:
            images = erase(images, batch.erasing, prob=augment.erase_prob)
        draws.set_state(batch.after)
        yield Batch(
            images=images,
            labels=on_device(data.labels[batch.indices], device),
            indices=batch.indices,
        )


class _BegunBatch(NamedTuple):
    indices: Tensor
    draws: AugmentDraws
    erasing: Erasing | None
    images: Begun
    after: Tensor
    """State of the generator after this batch's draws."""

    def cancel(self) -> None:
        self.images.cancel()


def _begin(
    data: ImageSet,
    indices: Tensor,
    augment: Augment,
    generator: torch.Generator,
    device: torch.device,
    share: Callable[[int], slice],
) -> _BegunBatch:
    n = len(indices)
    draws = draw_augment(n, augment, generator)
    erasing = draw_erasing(n, generator) if augment.erase_prob > 0 else None
    own = share(n)
    if own != slice(None):
        indices, draws, erasing = _part(indices, own), _part(draws, own), _part(erasing, own)
    return _BegunBatch(
        indices=indices,
        draws=draws,
        erasing=erasing,
        images=begin_augmented(
            data.pixels, indices, augment, draws, device, normal=Normal(data.mean, data.std)
        ),
        after=generator.get_state(),
    )


def _part(drawn: Drawn, own: slice) -> Drawn:
    """Take some of the images that nested tuples of tensors (n, ...) were drawn for."""
    found: Any = drawn
    if isinstance(found, Tensor):
        found = found[own]
    elif found is not None:
        found = type(found)(*(_part(one, own) for one in found))
    return cast(Drawn, found)


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
