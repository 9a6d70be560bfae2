"""The corruptions by name, and the one function that applies them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustmix.corruptions import (
    brightness,
    contrast,
    defocus_blur,
    elastic_transform,
    fog,
    frost,
    gaussian_blur,
    gaussian_noise,
    glass_blur,
    impulse_noise,
    jpeg_compression,
    motion_blur,
    pixelate,
    saturate,
    shot_noise,
    snow,
    spatter,
    speckle_noise,
    zoom_blur,
)
from robustmix.corruptions.corruption import Corruption
from robustmix.corruptions.names import SEVERITIES, canonical_name, choose_profile
from robustmix.errors import UsageError
from robustmix.rng import sample_keys

# Any: every corruption has its own type of draws, which only its own apply ever receives.
CORRUPTIONS: dict[str, Corruption[Any]] = {
    "gaussian_noise": gaussian_noise.CORRUPTION,
    "shot_noise": shot_noise.CORRUPTION,
    "impulse_noise": impulse_noise.CORRUPTION,
    "defocus_blur": defocus_blur.CORRUPTION,
    "glass_blur": glass_blur.CORRUPTION,
    "motion_blur": motion_blur.CORRUPTION,
    "zoom_blur": zoom_blur.CORRUPTION,
    "snow": snow.CORRUPTION,
    "frost": frost.CORRUPTION,
    "fog": fog.CORRUPTION,
    "brightness": brightness.CORRUPTION,
    "contrast": contrast.CORRUPTION,
    "elastic_transform": elastic_transform.CORRUPTION,
    "pixelate": pixelate.CORRUPTION,
    "jpeg_compression": jpeg_compression.CORRUPTION,
    "speckle_noise": speckle_noise.CORRUPTION,
    "gaussian_blur": gaussian_blur.CORRUPTION,
    "spatter": spatter.CORRUPTION,
    "saturate": saturate.CORRUPTION,
}

_CHUNK_VALUES = {"cpu": 2**17, "other": 2**24}
"""Values worked on at once: on a CPU what its cache holds, elsewhere what fills the device."""


def corrupt(
    images: Tensor,
    name: str,
    severity: int,
    *,
    seed: int,
    sample_ids: Sequence[str] | None = None,
    profile: str | None = None,
    frost_dir: Path | None = None,
) -> Tensor:
    """Apply one corruption at one severity.

    The result for a sample depends on the seed, the corruption, the severity and the sample's id
    alone. ``images`` is not changed.

    Args:
        images: uint8 (N, 3, H, W), RGB, on any device.
        name: a corruption of ``NAMES`` or an alias of one.
        severity: 1 to 5.
        seed: of everything random.
        sample_ids: a stable name for each image; ``"0"`` to ``"N-1"`` if None.
        profile: which severity constants to use; by the side of the images (32, 64, 224) if None.
        frost_dir: folder of the benchmark's frost pictures; without it frost is a substitute.

    Returns:
        uint8 (N, 3, H, W), a new tensor on the same device.

    Raises:
        UsageError: an argument cannot be meant; no pixel has been touched then.
        IntakeError: ``frost_dir`` does not hold the benchmark's pictures.

    Example:
        >>> grey = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
        >>> corrupt(grey, "brightness", 5, seed=0).unique().tolist()
        [176]
    """
    corruption = CORRUPTIONS[canonical_name(name)]
    if frost_dir is not None and corruption.name == "frost":
        corruption = frost.with_photographs(Path(frost_dir))
    _check(images, severity)
    chosen = choose_profile(profile, *images.shape[-2:])
    ids = [str(i) for i in range(len(images))] if sample_ids is None else sample_ids
    if len(ids) != len(images):
        raise UsageError(f"expected one sample id an image, got {len(ids)} for {len(images)}")
    if len(images) == 0:
        return images.clone()

    condition = f"{corruption.name}/{severity:d}"
    keys = sample_keys(seed, "corruption", condition, 0, ids).to(images.device)
    limit = _CHUNK_VALUES["cpu" if images.device.type == "cpu" else "other"]
    size = max(1, limit // images[0].numel())
    parts = []
    for start in range(0, len(images), size):
        part = images[start : start + size].contiguous()
        draws = corruption.draw and corruption.draw(
            keys[start : start + size], part, severity, chosen
        )
        parts.append(corruption.apply(part, draws, severity, chosen))
    return torch.cat(parts)


def _check(images: Tensor, severity: int) -> None:
    if images.dtype != torch.uint8:
        raise UsageError(f"expected images of type uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        raise UsageError(f"expected images of shape (N, 3, H, W), got {tuple(images.shape)}")
    if not isinstance(severity, int) or severity not in SEVERITIES:
        raise UsageError(f"expected a severity of 1 to 5, got {severity}")
