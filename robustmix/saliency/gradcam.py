"""Grad-CAM: the maps of the last stage, weighted by how much the class's score wants them."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.errors import UsageError
from robustmix.models.robust_model import RobustModel, padded
from robustmix.models.taps import Tap, classifier_layer, find_tap
from robustmix.saliency.sources import Explained, class_scores


def gradcam(explained: Explained) -> Tensor:
    """Return ReLU(sum_c a_c A_c) in the size of the images, enlarged bilinearly.

    A_c are the maps of the last stage, a_c the mean over the map of dz/dA_c. A map that no pixel
    speaks for is 0 everywhere.

    Returns:
        (N, H, W), not negative.

    Raises:
        UsageError: the network's stages cannot be tapped, or are not maps that the logits are made
            of, as in transformers.

    Reference:
        Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2.
    """
    network, n = _Tapped(explained.robust), len(explained.images)
    tapped = padded(_with_network(explained.robust, network))
    with torch.enable_grad():
        logits = tapped(explained.images.detach().clone().requires_grad_())
        classes = explained.labels
        if classes is None:
            classes = logits.detach().argmax(dim=1)
        maps = network.maps
        assert maps is not None
        (gradient,) = torch.autograd.grad(class_scores(logits, classes), maps, allow_unused=True)
    if gradient is None:
        raise _no_gradcam(explained.robust, "its logits are not made of maps of its last stage")
    return weighted_maps(maps.detach()[:n], gradient[:n], explained.size)


def weighted_maps(maps: Tensor, gradient: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the rectified sum of maps (N, C, h, w), weighted by their mean gradient, (N, H, W)."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    cam = (weights * maps).sum(dim=1, keepdim=True).relu()
    return F.interpolate(cam, size, mode="bilinear", align_corners=False).squeeze(1)


class _Tapped(nn.Module):
    """A network that keeps the maps of its last stage; one pass gives them and the logits."""

    def __init__(self, robust: RobustModel) -> None:
        super().__init__()
        size = robust.resize or robust.input_size[1:]
        try:
            tap = find_tap(robust.net, (3, size[0], size[1]), arch=robust.info.arch)
        except UsageError as error:
            raise _no_gradcam(robust, "its stages cannot be tapped") from error
        if tap.kind == "timm-swin":
            raise _no_gradcam(robust, "its logits are not made of maps of its last stage")
        self.net = robust.net
        self.tap: Tap = replace(tap, stage=-1)
        self.maps: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.maps, pooled = self.tap(self.net, x)
        logits: Tensor = classifier_layer(self.net)(pooled)
        return logits


def _with_network(robust: RobustModel, network: nn.Module) -> RobustModel:
    """Return the model with its normalisation, resizing and class map around another network."""
    return RobustModel(
        network,
        mean=robust.mean.flatten().tolist(),
        std=robust.std.flatten().tolist(),
        num_classes=robust.num_classes,
        input_size=robust.input_size,
        class_map=robust.class_map,
        resize=robust.resize,
        allow_out_of_range=robust.allow_out_of_range,
    ).to(robust.mean.device)


def _no_gradcam(robust: RobustModel, why: str) -> UsageError:
    return UsageError(
        f"no gradcam of {robust.info.arch}: {why}",
        "choose --saliency gradxinput, or rollout for a ViT",
        code="E-SALIENCY",
    )
