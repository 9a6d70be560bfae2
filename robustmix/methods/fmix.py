"""FMix: mix by a random shape, the brightest part of smooth noise.

Method card
    Paper: Harris et al. 2020, "FMix: Enhancing Mixed Sample Data Augmentation", arXiv:2002.12047,
        section 4.
    Does: lam ~ Beta(alpha, alpha); Gaussian noise whose amplitude falls as the third power of the
        frequency is transformed to an image, and its largest lam H W pixels show the image itself,
        the others the partner; the label weight is lam.
    Cost: 3 forward passes a step.
    Deviations: one mask for the batch, and the label weight is lam itself, not the share of pixels,
        which differs from it by less than one pixel; both as released. The authors' code, and all
        that came of it, takes the first two rows of the drawn spectrum for its real and imaginary
        part; that is kept, for it decides what the masks look like, and full_spectrum = true gives
        the paper's. Partners are drawn again, up to ten times, while some image is its own.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.data.loader import Batch
from robustmix.methods.cutmix import draw_partners
from robustmix.methods.method import Mixed, require
from robustmix.methods.mixing import Blend, blend_pairs, check_alpha, given, image_size
from robustmix.methods.pair_mixing import PairMixing
from robustmix.upload import uploaded


@dataclass(frozen=True, kw_only=True, slots=True)
class FMixConfig:
    """The weights and the shapes of FMix."""

    alpha: float = 0.2
    """Both parameters of the Beta distribution of lam; 0.2 is the CIFAR benchmark's value."""

    decay: float = 3.0
    """Power of the frequency by which the amplitude falls; more makes larger blobs."""

    max_soft: float = 0.0
    """Half the share of pixels where the mask falls from 1 to 0 by ranks; 0 makes hard edges."""

    full_spectrum: bool = False
    """Use the whole drawn spectrum, as the paper has it and the released code does not."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        require(0 <= self.decay < float("inf"), "a finite decay >= 0", self.decay)
        require(0 <= self.max_soft <= 1, "max_soft in [0, 1]", self.max_soft)


class FMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    lam: float
    """Weight of the image itself, in [0, 1]."""

    noise: NDArray[np.float64]
    """(H, W // 2 + 1, 2), standard normal."""

    coin: float
    """Above 0.5 the number of own pixels is rounded up, else down; in [0, 1)."""

    perm: Tensor
    """int64 (N,), whose pixels each image shows beside its own."""


def draw_fmix(n: int, size: tuple[int, int], alpha: float, rng: np.random.Generator) -> FMixDraws:
    """Draw lam ~ Beta(alpha, alpha), the noise, the coin and the partners.

    Args:
        n: images in the batch.
        size: height and width of the images.
        alpha: both parameters of the Beta distribution.
        rng: source of the draws.
    """
    height, width = size
    return FMixDraws(
        lam=float(rng.beta(alpha, alpha)),
        noise=rng.standard_normal((height, width // 2 + 1, 2)),
        coin=float(rng.uniform()),
        perm=draw_partners(n, rng),
    )


def low_frequency_image(
    noise: NDArray[np.float64],
    size: tuple[int, int],
    *,
    decay: float = 3.0,
    full_spectrum: bool = False,
) -> NDArray[np.float64]:
    """Return smooth noise, (H, W) from 0 to 1.

    Args:
        noise: (H, W // 2 + 1, 2), standard normal.
        size: height and width.
        decay: power of the frequency by which the amplitude falls.
        full_spectrum: see ``FMixConfig``.
    """
    height, width = size
    across = np.fft.fftfreq(width)[: width // 2 + 1]
    down = np.fft.fftfreq(height)[:, None]
    frequency = np.sqrt(across**2 + down**2)
    spectrum = noise / np.maximum(frequency, 1 / max(size))[:, :, None] ** decay
    if full_spectrum:
        complex_spectrum = spectrum[:, :, 0] + 1j * spectrum[:, :, 1]
    else:
        # The released code indexes rows where it means the last axis; numpy then pads with zeros.
        complex_spectrum = spectrum[0] + 1j * spectrum[1]
    image = np.fft.irfftn(complex_spectrum, size, axes=(0, 1))
    image = image - image.min()
    largest = image.max()
    return np.asarray(image / largest if largest > 0 else image)


def fmix_mask(
    size: tuple[int, int],
    draws: FMixDraws,
    *,
    decay: float = 3.0,
    max_soft: float = 0.0,
    full_spectrum: bool = False,
) -> NDArray[np.float64]:
    """Return the image's own share of every pixel, (H, W) in [0, 1].

    Args:
        size: height and width.
        draws: noise, weight and coin.
        decay: see ``FMixConfig``, as the others.
        max_soft: half the share of pixels between 0 and 1.
        full_spectrum: use the whole drawn spectrum.
    """
    height, width = size
    pixels, lam = height * width, draws.lam
    image = low_frequency_image(draws.noise, size, decay=decay, full_spectrum=full_spectrum)
    order = image.reshape(-1).argsort()[::-1]
    own = math.ceil(lam * pixels) if draws.coin > 0.5 else math.floor(lam * pixels)
    soft = int(pixels * min(max_soft, lam, 1 - lam))
    low, high = own - soft, own + soft
    mask = np.zeros(pixels)
    mask[order[:high]] = 1
    mask[order[low:]] = 0
    mask[order[low:high]] = np.linspace(1, 0, high - low)
    return mask.reshape(size)


def fmix(
    images: Tensor,
    draws: FMixDraws,
    *,
    decay: float = 3.0,
    max_soft: float = 0.0,
    full_spectrum: bool = False,
) -> Mixed:
    """Show each image where smooth noise is large and its partner elsewhere.

    Args:
        images: (N, C, H, W).
        draws: one mask for the batch, one partner an image.
        decay: see ``FMixConfig``, as the others.
        max_soft: half the share of pixels between 0 and 1.
        full_spectrum: use the whole drawn spectrum.

    Returns:
        The mixed images, and the drawn lam.

    Reference:
        Harris et al. 2020, arXiv:2002.12047, section 4.
    """
    size = image_size(images)
    share = fmix_mask(size, draws, decay=decay, max_soft=max_soft, full_spectrum=full_spectrum)
    masked = MaskDraws(torch.from_numpy(share).to(images.dtype), draws.lam, draws.perm)
    return Mixed(show_through(images, uploaded(masked, images.device)), draws.lam)


class MaskDraws(NamedTuple):
    """A mask for the batch, as the device is told."""

    share: Tensor
    """(H, W) in [0, 1], own share of every pixel, in the images' type."""

    own: float
    """Weight of the image's own label, in [0, 1]."""

    perm: Tensor
    """int64 (N,), whose pixels each image shows beside its own."""


def show_through(images: Tensor, draws: MaskDraws) -> Tensor:
    """Return images (N, C, H, W) where the mask is 1 and their partners where it is 0."""
    return draws.share * images + (1 - draws.share) * images[draws.perm]


class FMix(PairMixing):
    """One network trained on batches mixed by random shapes."""

    config: FMixConfig

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> MaskDraws:
        """Draw one random shape and the partners."""
        config, images = self.config, batch.images
        draws = draw_fmix(len(images), image_size(images), config.alpha, self.rng)
        draws = draws._replace(**given(lam=lam, perm=perm))
        share = fmix_mask(
            image_size(images),
            draws,
            decay=config.decay,
            max_soft=config.max_soft,
            full_spectrum=config.full_spectrum,
        )
        return MaskDraws(torch.from_numpy(share).to(images.dtype), draws.lam, draws.perm)

    def blend(self, batch: Batch, draws: MaskDraws) -> Blend:
        """Mix every image with its partner by the shape."""
        return blend_pairs(show_through(batch.images, draws), draws.perm, draws.own)
