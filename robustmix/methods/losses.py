"""Cross-entropy of plain and of mixed labels, always computed in float32."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy over the batch.

    Args:
        logits: (N, K), any floating type.
        labels: class indices, int64 (N,).
        smoothing: eps in [0, 1]; the target is (1 - eps) onehot + eps / K.

    Returns:
        A float32 scalar.
    """
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


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
    return lam * own + (1 - lam) * partner
