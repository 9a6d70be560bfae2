"""Top-1 and loss on the validation images, of one classifier or of several heads at once."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from robustmix.data.images import ImageSet

VALIDATION_BATCH = 500
"""Images in a validation batch; a constant, so that no setting of the run changes a score."""


@torch.no_grad()
def validate(
    heads: Callable[[Tensor], Mapping[str, Tensor]],
    images: ImageSet,
    device: torch.device,
    *,
    channels_last: bool = False,
) -> dict[str, dict[str, float]]:
    """Return top-1 and the mean cross-entropy of every head, in float32.

    The pixels go the way of ``RobustModel``: to [0, 1] first, then normalised, so that an
    evaluation of the checkpoint repeats the numbers.

    Args:
        heads: normalised images (N, 3, H, W) -> logits (N, K) by the name of their head; the
            caller has put the networks in eval mode.
        images: the images, at least one.
        device: where the networks are.
        channels_last: memory layout of the images.

    Returns:
        For every head ``loss`` and ``top1``.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (images.mean, images.std))
    losses: dict[str, list[Tensor]] = {}
    hits: dict[str, list[Tensor]] = {}
    for chosen in torch.split(torch.arange(len(images)), VALIDATION_BATCH):
        pixels = images.pixels.take(chosen).to(device).float() / 255
        labels = images.labels[chosen].to(device)
        for name, logits in heads(((pixels - mean) / std).contiguous(memory_format=layout)).items():
            loss = F.cross_entropy(logits.float(), labels, reduction="none")
            losses.setdefault(name, []).append(loss)
            hits.setdefault(name, []).append(logits.argmax(dim=1) == labels)
    return {
        name: {
            "loss": float(torch.cat(losses[name]).cpu().double().mean()),
            "top1": int(torch.cat(hits[name]).sum()) / len(images),
        }
        for name in losses
    }
