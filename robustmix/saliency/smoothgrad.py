"""SmoothGrad: the mean gradient of noisy copies."""

import torch
from torch import Tensor

from robustmix.rng import normal, sample_keys
from robustmix.saliency.sources import Explained, score_gradient

COPIES = 16
SIGMA = 0.1
"""Standard deviation of the noise, in [0, 1] pixel units."""


def smoothgrad(explained: Explained, *, copies: int = COPIES, sigma: float = SIGMA) -> Tensor:
    """Return |mean over noisy copies of dz/dx| summed over channels.

    Each copy's noise belongs to the sample, whatever its batch is; noisy pixels are clipped to
    [0, 1]. The class is the one that the model gives the image without noise.

    Returns:
        (N, H, W), not negative.

    Reference:
        Smilkov et al. 2017, arXiv:1706.03825.
    """
    images, classes = explained.images, explained.labels
    if classes is None:
        with torch.no_grad():
            classes = explained.model(images).argmax(dim=1)
    keys = sample_keys(explained.seed, "occlusion", "smoothgrad", 0, explained.sample_ids)
    if images.device.type != "mps":  # it has no float64
        keys = keys.to(images.device)
    total = torch.zeros_like(images)
    for copy in range(copies):
        noise = normal(keys, images[0].numel(), counter_high=copy).to(images).view_as(images)
        noisy = (images + sigma * noise).clamp(0, 1)
        total += score_gradient(explained.model, noisy, classes)[0]
    return (total / copies).abs().sum(dim=1)
