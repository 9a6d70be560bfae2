"""Cross-entropy of plain and of mixed labels, computed in float32 at least."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class BinaryLoss:
    """Binary cross-entropy, which asks for every class by itself, in place of cross-entropy."""

    threshold: float | None = None
    """Labels of a larger weight count as wholly there and all others as not there; None takes the
    weights themselves."""

    sum_classes: bool = False
    """Whether an image's loss is the sum over its classes; else it is their mean."""


def number_for(value: float | Tensor, tensor: Tensor) -> float | Tensor:
    """Return a number that computes with a tensor in the tensor's type.

    A float does so by itself. Where it was brought to a device (see ``uploaded``) it is float64
    without axes, and beside another tensor without axes both would become float64.
    """
    return value.to(tensor.dtype) if isinstance(value, Tensor) else value


def full_precision(tensor: Tensor) -> Tensor:
    """Return the tensor in float32, or as it is if it is float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over the batch.

    Args:
        logits: (N, K), any floating type.
        labels: class indices, int64 (N,).
        smoothing: eps in [0, 1]; the target is (1 - eps) onehot + eps / K.

    Returns:
        A float32 scalar.
    """
    return F.cross_entropy(full_precision(logits), labels, label_smoothing=smoothing)


def mixed_cross_entropy(
    logits: Tensor, labels: Tensor, partners: Tensor, lam: float, *, smoothing: float = 0.0
) -> Tensor:
    """Return lam * CE(own label) + (1 - lam) * CE(partner's label), a float32 scalar.

    Cross-entropy is linear in its target, so this equals the cross-entropy of the mixed target
    lam * onehot(own) + (1 - lam) * onehot(partner).

    Args:
        logits: of the mixed images, (N, K).
        labels: each image's own class, int64 (N,).
        partners: the class of the image it was mixed with, int64 (N,).
        lam: weight of the own label, in [0, 1].
        smoothing: label smoothing of either label, as in ``cross_entropy``.
    """
    own = cross_entropy(logits, labels, smoothing=smoothing)
    partner = cross_entropy(logits, partners, smoothing=smoothing)
    return number_for(lam, own) * own + number_for(1 - lam, own) * partner


def sources_cross_entropy(
    logits: Tensor, labels: Tensor, lam: Sequence[float] | Tensor, *, smoothing: float = 0.0
) -> Tensor:
    """Return the sum over N sources of lam[n] * CE(logits, labels[n]), a float32 scalar.

    Args:
        logits: of the mixed images, (B, K).
        labels: the classes of the sources of each mixture, int64 (N, B).
        lam: N weights.
        smoothing: label smoothing of every label, as in ``cross_entropy``.
    """
    losses = [cross_entropy(logits, row, smoothing=smoothing) for row in labels]
    terms = [number_for(weight, loss) * loss for weight, loss in zip(lam, losses, strict=True)]
    return torch.stack(terms).sum()


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, how: BinaryLoss, *, smoothing: float = 0.0
) -> Tensor:
    """Return the mean over the batch of every class's binary cross-entropy, a float32 scalar.

    Args:
        logits: (N, K), any floating type.
        targets: weight of every class, in [0, 1], (N, K).
        how: threshold, and sum or mean over the classes.
        smoothing: eps in [0, 1]; targets become (1 - eps) targets + eps / K before the threshold.

    Reference:
        Wightman et al. 2021, arXiv:2110.00476, section 3; timm, ``loss/binary_cross_entropy.py``.
    """
    logits, classes = full_precision(logits), logits.shape[1]
    wanted = (1 - smoothing) * targets.to(logits.dtype) + smoothing / classes
    if how.threshold is not None:
        wanted = (wanted > how.threshold).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, wanted)
    return loss * classes if how.sum_classes else loss


def binary_label_loss(
    logits: Tensor, labels: Tensor, how: BinaryLoss, *, smoothing: float = 0.0
) -> Tensor:
    """Return ``binary_cross_entropy`` of plain labels, int64 (N,)."""
    targets = F.one_hot(labels, logits.shape[1])
    return binary_cross_entropy(logits, targets, how, smoothing=smoothing)


def softmax_binary_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over batch and classes of the binary cross-entropy of the softmax.

    Args:
        logits: (N, K).
        targets: (N, K) in [0, 1].

    Returns:
        A float32 scalar; logarithms are cut at -100.
    """
    with torch.autocast(logits.device.type, enabled=False):
        return F.binary_cross_entropy(full_precision(logits).softmax(dim=1), targets)


def label_loss(
    logits: Tensor, labels: Tensor, *, bce: BinaryLoss | None, smoothing: float = 0.0
) -> Tensor:
    """Return the cross-entropy of plain labels, int64 (N,), or the binary one that ``bce`` says."""
    if bce is None:
        return cross_entropy(logits, labels, smoothing=smoothing)
    return binary_label_loss(logits, labels, bce, smoothing=smoothing)


def pair_loss(
    logits: Tensor,
    labels: Tensor,
    partners: Tensor,
    lam: float,
    *,
    bce: BinaryLoss | None,
    smoothing: float = 0.0,
) -> Tensor:
    """Return ``mixed_cross_entropy``, or the binary one of the mixed labels if ``bce`` says so."""
    if bce is None:
        return mixed_cross_entropy(logits, labels, partners, lam, smoothing=smoothing)
    own, other = (full_precision(F.one_hot(of, logits.shape[1])) for of in (labels, partners))
    weight = number_for(lam, own)
    return binary_cross_entropy(
        logits, weight * own + (1 - weight) * other, bce, smoothing=smoothing
    )
