"""The one function that applies a corruption."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from robustmix.corruptions import frost
from robustmix.corruptions.names import SEVERITIES, canonical_name, choose_profile
from robustmix.corruptions.pictures import as_batch
from robustmix.corruptions.registry import CORRUPTIONS
from robustmix.errors import IntakeError, UsageError
from robustmix.files import expanded
from robustmix.later import Tensor, torch
from robustmix.rng import sample_keys

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL import Image

_CHUNK_VALUES = {"cpu": 2**17, "other": 2**24}
"""Values worked on at once: on a CPU what its cache holds, elsewhere what fills the device."""


Pictures = TypeVar("Pictures", "Tensor", "npt.NDArray[Any]", "Image.Image", "list[Any]")
"""What people hold images as; ``as_batch`` says in which shapes."""


def corrupt(
    images: Pictures,
    name: str,
    severity: int,
    *,
    seed: int = 0,
    sample_ids: Sequence[str] | None = None,
    profile: str | None = None,
    frost_dir: Path | str | None = None,
) -> Pictures:
    """Apply one corruption at one severity.

    The result for a sample depends on the seed, the corruption, the severity and the sample's id
    alone. ``images`` is not changed.

    Args:
        images: RGB, uint8 or floats in [0, 1]: a tensor (N, 3, H, W) or (3, H, W) on any device, a
            NumPy array (N, H, W, 3) or (H, W, 3), a PIL image, or a list of images of any size.
            Corruptions are of 8-bit images: floats are rounded to the nearest level.
        name: a corruption of ``CORRUPTIONS`` or an alias of one.
        severity: 1 to 5.
        seed: of everything random.
        sample_ids: a stable name for each image; ``"0"`` to ``"N-1"`` if None.
        profile: which severity constants to use; by the side of the images (32, 64, 224) if None.
        frost_dir: folder of the benchmark's frost pictures; without it frost is a substitute.

    Returns:
        The same as was given: kind, shape, type and device. Floats are levels over 255.

    Raises:
        UsageError: an argument is invalid; no pixel has been touched then.
        IntakeError: ``frost_dir`` does not hold the benchmark's pictures, or a corruption of others
            returns something that is no images.

    Example:
        >>> grey = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
        >>> corrupt(grey, "brightness", 5).unique().tolist()
        [176]
        >>> import numpy as np
        >>> corrupt(np.full((32, 32, 3), 0.5), "contrast", 1).shape
        (32, 32, 3)
    """
    # As each kind of images is told from the others when it is asked for, the result's is known.
    result: Any = _of_any(images, name, severity, sample_ids, seed, profile, frost_dir)
    return cast(Pictures, result)


def _of_any(
    images: object,
    name: str,
    severity: int,
    sample_ids: Sequence[str] | None,
    seed: int,
    profile: str | None,
    frost_dir: Path | str | None,
) -> object:
    several = isinstance(images, list | tuple)
    count = len(cast(Sequence[object], images)) if several else None
    ids = sample_ids
    if ids is not None and count is not None and len(ids) != count:
        raise UsageError(f"expected one sample id an image, got {len(ids)} for {count}")
    if several:
        every = cast(Sequence[object], images)
        names = [str(i) for i in range(len(every))] if ids is None else ids
        return [
            _of_any(one, name, severity, [names[i]], seed, profile, frost_dir)
            for i, one in enumerate(every)
        ]
    if isinstance(images, Tensor) and images.dtype == torch.uint8 and images.ndim == 4:
        return _corrupted(images, name, severity, ids, seed, profile, frost_dir)
    batch, back = as_batch(images)
    return back(_corrupted(batch, name, severity, ids, seed, profile, frost_dir))


def _corrupted(
    images: Tensor,
    name: str,
    severity: int,
    sample_ids: Sequence[str] | None,
    seed: int,
    profile: str | None,
    frost_dir: Path | str | None,
) -> Tensor:
    """Corrupt images uint8 (N, 3, H, W)."""
    corruption = CORRUPTIONS[canonical_name(name)]
    if frost_dir is not None and corruption.name == "frost":
        corruption = frost.with_photographs(expanded(frost_dir))
    _check(images, severity)
    count, channels, height, width = images.shape
    chosen = choose_profile(profile, height, width)
    ids = [str(i) for i in range(count)] if sample_ids is None else sample_ids
    if len(ids) != count:
        raise UsageError(f"expected one sample id an image, got {len(ids)} for {count}")
    if count == 0:
        return images.clone()

    on_cpu = images.is_cpu
    draw = corruption.draw
    keys: Tensor | None = None
    if draw is not None:
        condition = f"{corruption.name}/{severity:d}"
        keys = sample_keys(seed, "corruption", condition, 0, ids)
        if not on_cpu:
            # Here, for it imports torch, which judging a report does without.
            from robustmix.upload import uploaded

            keys = uploaded(keys, images.device)
    if on_cpu:
        _keep_freed_memory()
    limit = _CHUNK_VALUES["cpu" if on_cpu else "other"]
    size = max(1, limit // (channels * height * width))

    def changed(part: Tensor, keys: Tensor | None) -> Tensor:
        part = part.contiguous()
        draws = draw(keys, part, severity, chosen) if draw and keys is not None else None
        return _checked(name, part, corruption.apply(part, draws, severity, chosen))

    if count <= size:
        made = changed(images, keys)
        own = made.untyped_storage().data_ptr() != images.untyped_storage().data_ptr()
        return made if own else made.clone()
    slices = (slice(start, start + size) for start in range(0, count, size))
    return torch.cat([changed(images[s], None if keys is None else keys[s]) for s in slices])


@functools.cache
def _keep_freed_memory() -> None:
    """Have the C library keep what intermediate results free, up to 64 MiB, for the next ones.

    By default glibc gives large blocks back to the system at once, which clears every page of the
    next ones: a fifth of the time of a zoom blur of 224 pixels. It stops doing so for blocks
    as large as the largest that was ever freed, if that is not above 32 MiB (mallopt(3),
    M_MMAP_THRESHOLD). Nothing is written to this one, so no memory is taken for it.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def _checked(name: str, before: Tensor, after: object) -> Tensor:
    """Return what a corruption made; floats or grey images of others would score as if right."""
    if isinstance(after, Tensor) and after.dtype == before.dtype and after.shape == before.shape:
        return after
    got = (
        f"{after.dtype} {tuple(after.shape)}" if isinstance(after, Tensor) else type(after).__name__
    )
    raise IntakeError(
        f"corruption '{name}' returned {got} for uint8 {tuple(before.shape)}",
        "return images uint8 (N, 3, H, W)",
        code="E-PLUGIN",
    )


def _check(images: Tensor, severity: int) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise UsageError(f"expected images of shape (N, 3, H, W), got {tuple(images.shape)}")
    if not isinstance(severity, int) or severity not in SEVERITIES:
        raise UsageError(f"expected a severity of 1 to 5, got {severity}")
