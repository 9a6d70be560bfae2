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
    robust = explained.robust
    network = TappedNetwork(robust)
    maps, gradient = gradient_of_stage(robust, network, explained.images, explained.labels)
    return weighted_maps(maps, gradient, explained.size)


def gradient_of_stage(
    robust: RobustModel, network: "TappedNetwork", images: Tensor, labels: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the maps of the last stage and the gradient of each image's class score to them.

    Args:
        robust: the model.
        network: of this model.
        images: (N, 3, H, W) in [0, 1].
        labels: the classes, int64 (N,); None: those that the model predicts.

    Returns:
        Two tensors (N, C, h, w), detached.

    Raises:
        UsageError: see ``gradcam``.
    """
    n = len(images)
    tapped = padded(with_network(robust, network))
    with torch.enable_grad():
        logits = tapped(images.detach().clone().requires_grad_())
        classes = logits.detach().argmax(dim=1) if labels is None else labels
        maps = network.maps
        assert maps is not None
        (gradient,) = torch.autograd.grad(class_scores(logits, classes), maps, allow_unused=True)
    if gradient is None:
        raise _no_gradcam(robust, "its logits are not made of maps of its last stage")
    return maps.detach()[:n], gradient[:n]


def weighted_maps(maps: Tensor, gradient: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the rectified sum of maps (N, C, h, w), weighted by their mean gradient, (N, H, W)."""
    cam = rectified_sum(maps, gradient)
    return F.interpolate(cam, size, mode="bilinear", align_corners=False).squeeze(1)


def rectified_sum(maps: Tensor, gradient: Tensor) -> Tensor:
    """Return the rectified sum of maps (N, C, h, w), weighted by their mean gradient."""
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    return (weights * maps).sum(dim=1, keepdim=True).relu()


class TappedNetwork(nn.Module):
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
        """Return the logits of normalised images."""
        self.maps, pooled = self.tap(self.net, x)
        logits: Tensor = classifier_layer(self.net)(pooled)
        return logits


def with_network(robust: RobustModel, network: nn.Module) -> RobustModel:
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
