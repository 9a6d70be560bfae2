"""Top-1 and loss on the validation images, of one classifier or of several heads at once."""

from collections.abc import Callable, Mapping
from contextlib import closing

import torch
from torch import Tensor
from torch.nn import functional as F

from robustmix.batch_memory import FORWARD, fitting_batch, halved
from robustmix.data.images import ImageSet
from robustmix.data.reading import in_order
from robustmix.data.transforms import on_device
from robustmix.methods.momentum_pair import DEPLOYED_HEAD
from robustmix.models.robust_model import PAD
from robustmix.training.ranks import Ranks
from robustmix.training.state import TrainState

VALIDATION_BATCH = 500
"""Most images in a validation batch; how many they are changes no score."""

EMA_HEAD = "ema"
"""Name of the averaged network among the heads that are validated."""


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
    most = fitting_batch(images.input_size, device, most=VALIDATION_BATCH, copies=FORWARD)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return halved(lambda batch: _validate(heads, images, device, layout, batch), most, device)


def validate_shared(
    heads: Callable[[Tensor], Mapping[str, Tensor]],
    images: ImageSet,
    device: torch.device,
    ranks: Ranks,
    *,
    channels_last: bool = False,
) -> dict[str, dict[str, float]]:
    """Validate as ``validate`` does, each process every so-many-th image; all return the whole."""
    if ranks.world == 1:
        return validate(heads, images, device, channels_last=channels_last)
    own = torch.arange(len(images))[ranks.rank :: ranks.world]
    # Who has no image looks at one in vain, so that all know the heads.
    part = images.subset(own if len(own) else torch.zeros(1, dtype=torch.int64))
    found = validate(heads, part, device, channels_last=channels_last)
    sums = torch.tensor(
        [[scores["loss"], scores["top1"]] for _, scores in sorted(found.items())],
        dtype=torch.float64,
    ) * (len(own) / len(images))
    ranks.sum_([sums])
    top1 = (sums[:, 1] * len(images)).round() / len(images)  # counts, whatever the sum's rounding
    return {
        name: {"loss": loss, "top1": hits}
        for name, loss, hits in zip(sorted(found), sums[:, 0].tolist(), top1.tolist(), strict=True)
    }


def validate_state(
    state: TrainState, images: ImageSet, ranks: Ranks, *, channels_last: bool = False
) -> dict[str, float]:
    """Return loss and top-1 of what is deployed, and top-1 of every head by its name.

    Where weights are averaged, ``raw_loss`` and ``raw_top1`` are of those that are trained.

    Args:
        state: of a run, its networks in eval mode.
        images: the images, at least one.
        ranks: this process among those of the run, of which each gets the whole.
        channels_last: memory layout of the images.
    """

    def heads(images: Tensor) -> Mapping[str, Tensor]:
        """Return the logits of all that is validated, by name; one classifier has none."""
        found: Mapping[str, Tensor] = (
            {"": state.classifier(images)}
            if state.teacher is None
            else state.teacher.pair.heads_logits(images)
        )
        return found if state.ema is None else {**found, EMA_HEAD: state.ema.network(images)}

    found = validate_shared(heads, images, state.device, ranks, channels_last=channels_last)
    average = found.pop(EMA_HEAD, None)
    metrics = dict(found["" if state.teacher is None else DEPLOYED_HEAD])
    if average is not None:
        metrics = {**average, **{f"raw_{name}": value for name, value in metrics.items()}}
    if state.teacher is not None:
        metrics |= {f"acc_{name}": head["top1"] for name, head in found.items()}
    return metrics


@torch.no_grad()
def _validate(
    heads: Callable[[Tensor], Mapping[str, Tensor]],
    images: ImageSet,
    device: torch.device,
    layout: torch.memory_format,
    batch: int,
) -> dict[str, dict[str, float]]:
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in (images.mean, images.std))
    losses: dict[str, list[Tensor]] = {}
    hits: dict[str, list[Tensor]] = {}
    chunks = torch.split(torch.arange(len(images)), batch)
    with closing(in_order(images.pixels, chunks, pinned=device.type == "cuda")) as batches:
        for chosen, stored in batches:
            pixels = (on_device(stored, device).float() / 255 - mean) / std
            labels = on_device(images.labels[chosen], device)
            for name, logits in _padded(heads, pixels, layout).items():
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


def _padded(
    heads: Callable[[Tensor], Mapping[str, Tensor]], images: Tensor, layout: torch.memory_format
) -> dict[str, Tensor]:
    """Return every head's logits, which do not depend on how many images come together."""
    n = len(images)
    filled = torch.cat([images, images[-1:].expand(-n % PAD, *images.shape[1:])])
    return {name: of[:n] for name, of in heads(filled.contiguous(memory_format=layout)).items()}
