"""Frost: ice crystals laid over the image.

The photographs of the benchmark are of unknown origin and not shipped. By default the crystals come
from textures made here, which have the photographs' colours, contrast and spectrum at 32 pixels but
not their crystals; what is made with them is marked as approximate. ``photographs`` reads a user's
own copy of the originals.
"""

from __future__ import annotations

import functools
import hashlib
import io
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from robustmix.corruptions.corruption import Corruption, Severities
from robustmix.corruptions.names import Profile
from robustmix.errors import IntakeError
from robustmix.files import regular_file
from robustmix.later import Tensor, torch
from robustmix.rng import normal, uniform

WEIGHTS: Severities[tuple[float, float]] = {
    "cifar": ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "tiny": ((1, 0.3), (0.9, 0.4), (0.8, 0.45), (0.75, 0.5), (0.7, 0.55)),
    "imagenet": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
}
"""Weight of the image and of the ice."""

SCALE: dict[Profile, float] = {"cifar": 0.2, "tiny": 0.3, "imagenet": 1.0}
"""How much the photographs are shrunk."""

Source = Literal["procedural", "photographs"]


class Kind(NamedTuple):
    """What a made texture is made to look like."""

    mean: tuple[float, float, float]
    """Mean colour, grey levels."""

    gain: tuple[float, float, float]
    """Of the large patches, in each colour."""

    patches: float
    """Strength of the large patches."""

    sparkle: float
    """Strength of the single bright pixels."""

    offsets: tuple[float, float, float]
    """Deviation of the mean colour from crop to crop."""


KINDS: tuple[Kind, ...] = (
    Kind((77, 148, 165), (1.55, 0.75, 0.55), 0.0070, 0.0663, (18, 10, 8)),
    Kind((198, 203, 212), (1, 1, 1), 0.0080, 0.1675, (8, 9, 10)),
    Kind((144, 158.5, 171), (1, 1, 1), 0.0092, 0.4853, (10, 10, 11)),
    Kind((103, 114, 126), (1, 1, 1), 0.0272, 0.6281, (16, 15, 15)),
)
"""Teal, pale, grey and dark ice."""

SLOTS = (0, 1, 1, 2, 3)
"""Kind of each of five equally likely textures; two of the photographs are the same picture."""

TEXTURE_SEED = 20190325
CONTRAST = 32.0

PHOTOGRAPHS: tuple[tuple[str, str], ...] = (
    ("frost1.png", "ff9f907860bd7a835d459e32f9d588062b7f61ee267343cc7222b56753a14755"),
    ("frost2.png", "fe211a89b336999c207a852ce05818d4545d0b57c5beadd824b4cc9d9a9b6137"),
    ("frost3.png", "2d0d50b4a9bb213f38b024ef7768731bb83cc08d2f26b5766bbc167cdfa0e504"),
    ("frost4.jpg", "3f8b91ca1a9fa7167b09e773da53f5ae60d0a1fd88f02a783f6e328a72887f6e"),
    ("frost5.jpg", "5fc6a19df4a429ba68abdcc8f8a4278d4c9f81c9ccafd2c92ab0c8cf8992ebd2"),
)
"""Names and sha256 of the five pictures that are ever used; the benchmark ships a sixth."""

LARGEST = 2**26
"""Bytes of a picture that are read; the largest of the benchmark's has a few millions."""


class Textures(NamedTuple):
    """Five textures to cut crystals from."""

    source: Source
    images: tuple[Tensor, ...]
    """uint8 (3, H, W) each."""

    offsets: Tensor
    """float64 (5, 3), deviation of the colour added to a crop; 0 for photographs."""


class Frost(NamedTuple):
    """What frost draws, the same for any textures."""

    texture: Tensor  # (N,) int64 in [0, 5)
    corner: Tensor  # (N, 2) float64 in [0, 1), where the crop begins, rows first
    colour: Tensor  # (N, 3) standard normal, float64


def draw(keys: Tensor, images: Tensor, severity: int, profile: Profile) -> Frost:
    """Draw a texture, a place in it and a colour offset."""
    u = uniform(keys, 3)
    texture = (u[:, 0] * len(SLOTS)).to(torch.int64)
    return Frost(texture, u[:, 1:], normal(keys, 3, counter_high=1))


@functools.cache
def procedural(side: int) -> Textures:
    """Return the textures that are made here, each ``side`` pixels wide and high.

    Patches are white noise with the amplitude 1 / max(r, 1/80) at r cycles a pixel; sparkle is
    white noise under exp(0.35 g), the same in all colours.
    """
    rng = np.random.default_rng(TEXTURE_SEED)
    frequency = np.fft.fftfreq(side)
    radius = np.maximum(np.hypot(frequency[:, None], frequency), 1 / 80)
    made = []
    for kind in KINDS:
        shape = CONTRAST * np.sqrt(kind.patches) / radius
        patches = np.fft.ifft2(np.fft.fft2(rng.standard_normal((side, side))) * shape).real
        bright = np.exp(0.35 * rng.standard_normal((side, side)))
        bright = (bright - bright.mean()) / bright.std() * CONTRAST * np.sqrt(kind.sparkle)
        mean, gain = (np.array(values)[:, None, None] for values in (kind.mean, kind.gain))
        texture = np.clip(mean + gain * patches + bright, 0, 255).astype(np.uint8)
        made.append(torch.from_numpy(texture))
    offsets = torch.tensor([KINDS[kind].offsets for kind in SLOTS], dtype=torch.float64)
    return Textures("procedural", tuple(made[kind] for kind in SLOTS), offsets)


@functools.cache
def photographs(folder: Path, scale: float) -> Textures:
    """Return the benchmark's pictures from a user's folder, shrunk.

    Args:
        folder: holds the files of ``PHOTOGRAPHS``.
        scale: at 0.2 every fifth pixel is kept; else pixels are interpolated linearly.

    Raises:
        IntakeError: a file is missing or is not the benchmark's.
    """
    from PIL import Image

    loaded = []
    for name, sha256 in PHOTOGRAPHS:
        path = Path(folder) / name
        hint = "point --frost-dir at the six frost pictures of the benchmark"
        regular_file(path, hint=hint, code="E-FROST", limit=LARGEST)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise IntakeError(
                f"cannot read {path}: {error.strerror}", hint, code="E-FROST"
            ) from error
        if hashlib.sha256(content).hexdigest() != sha256:
            raise IntakeError(
                f"{path} is not the benchmark's picture (its sha256 differs)",
                "download it again, or leave --frost-dir out for the built-in textures",
                code="E-FROST",
            )
        with Image.open(io.BytesIO(content)) as picture:  # what was hashed, not read once more
            pixels = np.asarray(picture.convert("RGB"))
        loaded.append(shrunk(torch.from_numpy(pixels.copy()).permute(2, 0, 1), scale))
    return Textures("photographs", tuple(loaded), torch.zeros(len(SLOTS), 3, dtype=torch.float64))


def shrunk(picture: Tensor, scale: float) -> Tensor:
    """Return a picture, uint8 (3, H, W), at another size by plain linear interpolation.

    Example:
        >>> shrunk(torch.arange(10, dtype=torch.uint8).view(1, 1, 10).expand(3, 5, 10), 0.2)[0]
        tensor([[2, 7]], dtype=torch.uint8)
    """
    if scale == 1:
        return picture
    grids = []
    for side in picture.shape[1:]:
        place = (torch.arange(round(side * scale), dtype=torch.float64) + 0.5) / scale - 0.5
        low = place.floor().clamp(0, side - 1)
        grids.append((low.long(), (low.long() + 1).clamp_max(side - 1), (place - low).clamp(0, 1)))
    (top, bottom, fy), (left, right, fx) = grids
    levels, fy = picture.double(), fy.unsqueeze(1)
    rows = levels[:, top] * (1 - fy) + levels[:, bottom] * fy
    return (rows[:, :, left] * (1 - fx) + rows[:, :, right] * fx).round().to(torch.uint8)


class _Laid(NamedTuple):
    """Textures one after the other on a device."""

    levels: Tensor  # (all values,) uint8
    first: Tensor  # (5,) int64, where each begins
    size: Tensor  # (5, 2) int64, height and width
    offsets: Tensor  # as in Textures


@functools.lru_cache(maxsize=4)
def _on_device(textures: Textures, device: torch.device) -> _Laid:
    images = textures.images
    counts = torch.tensor([0, *(image.numel() for image in images[:-1])])
    laid = _Laid(
        torch.cat([image.flatten() for image in images]),
        counts.cumsum(0),
        torch.tensor([image.shape[1:] for image in images]),
        textures.offsets,
    )
    return _Laid(*(part.to(device) for part in laid))


def crystals(textures: Textures, draws: Frost, height: int, width: int) -> Tensor:
    """Return the crops of ice, grey levels float64 (N, 3, height, width)."""
    device = draws.corner.device
    laid = _on_device(textures, device)
    size = laid.size[draws.texture]
    side = size[:, 1].view(-1, 1, 1, 1)
    # As in the benchmark, the last row and column of a texture are never reached.
    room = size - torch.stack([size.new_full((), height), size.new_full((), width)])
    corner = (draws.corner * room).to(torch.int64).view(-1, 2, 1, 1, 1)
    first = (laid.first[draws.texture] + corner[:, 1].flatten()).view(-1, 1, 1, 1)
    rows = corner[:, 0] + torch.arange(height, device=device).view(-1, 1)
    plane = torch.arange(3, device=device).view(3, 1, 1) * size.prod(dim=1).view(-1, 1, 1, 1)
    at = (first + plane + rows * side) + torch.arange(width, device=device)
    ice = laid.levels.index_select(0, at.flatten()).view(at.shape).to(torch.float64)
    offset = draws.colour * laid.offsets[draws.texture]
    return ice.add_(offset.view(-1, 3, 1, 1)).clamp_(0, 255)


def textures_for(profile: Profile, images: Tensor, folder: Path | None) -> Textures:
    """Return the photographs in ``folder``, or the made textures if there is none."""
    if folder is not None:
        return photographs(folder, SCALE[profile])
    return procedural(max(192, 2 * max(images.shape[2:])))


def _apply(
    folder: Path | None, images: Tensor, draws: Frost, severity: int, profile: Profile
) -> Tensor:
    """Add weighted ice to the weighted image.

    Args:
        folder: of the photographs; None for the made textures.
        images: uint8 (N, 3, H, W).
        draws: the texture and the place in it.
        severity: 1 to 5.
        profile: which constants to use.

    Returns:
        uint8 (N, 3, H, W).

    Reference:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, section 3.2.
    """
    image_weight, ice_weight = WEIGHTS[profile][severity - 1]
    textures = textures_for(profile, images, folder)
    ice = crystals(textures, draws, *images.shape[2:])
    mixed = images.double().mul_(image_weight).add_(ice.mul_(ice_weight)).clamp_(0, 255)
    return mixed.to(torch.int32).to(torch.uint8)


def with_photographs(folder: Path | None) -> Corruption[Frost]:
    """Return the corruption with a user's photographs, or with the made textures for None."""
    return Corruption(
        name="frost", constants=WEIGHTS, apply=functools.partial(_apply, folder), draw=draw
    )


CORRUPTION = with_photographs(None)
