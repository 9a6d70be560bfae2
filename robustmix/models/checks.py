"""What can be checked of a model without labels: hashes, determinism, batch independence."""

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from robustmix.models.robust_model import RobustModel
from robustmix.precision import ROUNDING

ALONE = 4
"""How many samples are also scored alone."""


def state_hash(model: nn.Module) -> str:
    """Return the SHA-256 over all parameters and buffers: names, types, shapes and bytes."""
    return _hash([*model.named_parameters(), *model.named_buffers()])


def buffers_hash(model: nn.Module) -> str:
    """Return the SHA-256 over the buffers, which scoring must not change."""
    return _hash(model.named_buffers())


def _hash(tensors: Iterable[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda item: item[0]):
        digest.update(f"{name}\x1f{tensor.dtype}\x1f{tuple(tensor.shape)}\x1f".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(data.numpy().data)
    return digest.hexdigest()


def looks_like_probabilities(logits: Tensor) -> bool:
    """Tell whether outputs are those of a softmax, a log-softmax or a sigmoid.

    A softmax gives rows in [0, 1] that sum to 1, a log-softmax rows whose log-sum-exp is 0, both
    within 1e-5. A sigmoid is suspected when every one of at least 20 values lies inside (0, 1).

    Args:
        logits: (N, K); all rows must agree.

    Example:
        >>> looks_like_probabilities(torch.tensor([[0.25, 0.75], [1.0, 0.0]]))
        True
        >>> looks_like_probabilities(torch.tensor([[0.25, 0.75], [3.0, -1.0]]))
        False
    """
    if not logits.numel() or logits.shape[1] < 2 or not bool(logits.isfinite().all()):
        return False
    values = logits.detach().double()
    inside = bool(((values >= 0) & (values <= 1)).all())
    if inside and bool(((values.sum(dim=1) - 1).abs() <= 1e-5).all()):
        return True
    if bool((values.logsumexp(dim=1).abs() <= 1e-5).all()):
        return True
    return values.numel() >= 20 and bool(((values > 0) & (values < 1)).all())


def sanity_checks(model: RobustModel, images: Tensor) -> dict[str, object]:
    """Return the ``model.checks`` block of a report, JSON-like.

    Args:
        model: in eval mode.
        images: a few clean images (N, 3, H, W) in [0, 1], N >= 1, on the model's device.

    Returns:
        ``params``, ``state_sha256``, ``buffers_sha256``; ``output`` (``logits``, ``probabilities``
        or ``nonfinite``); ``deterministic`` (two passes equal bit for bit); ``batch_independent``
        with ``batch_difference`` (largest logit difference between a sample alone and in the
        batch, relative to the largest logit) and its ``batch_tolerance``; ``buffers_stable``;
        ``mean_entropy`` of the predictions in nats; ``head_bias_range`` (smallest and largest, or
        None for a head without bias); ``n``.

    Raises:
        ValueError: there are no images.
    """
    if not len(images):
        raise ValueError("expected at least one image for the sanity checks")
    buffers = buffers_hash(model)
    with torch.no_grad():
        logits, again = model(images), model(images)
        difference = _batch_difference(model, images, logits)
    tolerance = ROUNDING[model.precision]
    finite = bool(logits.isfinite().all())
    log_probs = logits.double().log_softmax(dim=1)
    entropy = -(log_probs.exp() * log_probs).sum(dim=1).mean()
    after = buffers_hash(model)
    output = "probabilities" if looks_like_probabilities(logits) else "logits"
    return {
        "params": sum(p.numel() for p in model.net.parameters()),
        "state_sha256": state_hash(model),
        "buffers_sha256": buffers,
        "output": output if finite else "nonfinite",
        "deterministic": torch.equal(logits, again),
        "batch_independent": difference is not None and difference <= tolerance,
        "batch_difference": difference,
        "batch_tolerance": tolerance,
        "buffers_stable": buffers == after,
        "mean_entropy": float(entropy) if finite else None,
        "head_bias_range": _head_bias_range(model.net),
        "n": len(images),
    }


def _batch_difference(model: RobustModel, images: Tensor, logits: Tensor) -> float | None:
    if len(images) == 1:  # the negative is company that surely differs
        logits = model(torch.cat([images, 1 - images]))[:1]
    alone = torch.cat([model(image.unsqueeze(0)) for image in images[:ALONE]])
    difference = (alone - logits[:ALONE]).abs().max() / logits.abs().max().clamp_min(1e-12)
    return float(difference) if bool(difference.isfinite()) else None


def _head_bias_range(net: nn.Module) -> list[float] | None:
    """Return the range of the bias of the last linear layer."""
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not linear or linear[-1].bias is None:
        return None
    bias = linear[-1].bias.detach().float()
    return [float(bias.min()), float(bias.max())]
