"""Gradient times input."""

from torch import Tensor

from robustmix.saliency.sources import Explained, score_gradient


def gradxinput(explained: Explained) -> Tensor:
    """Return |x * dz/dx| summed over channels: x is the pixel in [0, 1], z the class's logit.

    Returns:
        (N, H, W), not negative.

    Reference:
        Shrikumar et al. 2016, arXiv:1605.01713.
    """
    gradient, _ = score_gradient(explained.model, explained.images, explained.labels)
    return (explained.images * gradient).abs().sum(dim=1)
