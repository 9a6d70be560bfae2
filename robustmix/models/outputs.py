"""What a network tells of itself: what part of its output are logits, and timm's configuration."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustmix.errors import IntakeError
from robustmix.models.registry import Size
from robustmix.text import plain

WAY_OUT = "wrap it in a module whose forward returns the logits (N, K) alone"

PROBED = 2
"""Images of a trial pass: of one, a batch and a class could not be told apart."""


def logits_in(output: object) -> Tensor:
    """Return the logits in what a network returns.

    That is the output itself; of an object or a mapping what it calls ``logits``; else the first
    tensor in it.

    Raises:
        IntakeError: there is no tensor.

    Example:
        >>> logits_in((torch.zeros(2, 5), None)).shape
        torch.Size([2, 5])
    """
    if isinstance(output, Tensor):
        return output
    named = output.get("logits") if isinstance(output, Mapping) else None
    named = getattr(output, "logits", None) if named is None else named
    if isinstance(named, Tensor):
        return named
    items = output.values() if isinstance(output, Mapping) else output
    if isinstance(items, list | tuple) or isinstance(output, Mapping):
        for item in items:  # type: ignore[attr-defined] # a mapping's values or a sequence
            if isinstance(item, Tensor):
                return item
    raise IntakeError(
        f"the model returns {type(output).__name__}, in which there are no logits",
        WAY_OUT,
        code="E-OUTPUT",
    )


def config_of(net: nn.Module) -> Mapping[str, Any]:
    """Return what timm wrote on its network: ``mean``, ``std`` and ``input_size``."""
    config = getattr(net, "pretrained_cfg", None)
    if not isinstance(config, Mapping):
        return {}
    return {
        name: tuple(config[name])
        for name in ("mean", "std", "input_size")
        if isinstance(config.get(name), tuple | list) and len(config[name]) == 3
    }


def logits_on_probe(net: nn.Module, input_size: Size, name: str) -> Tensor:
    """Return the logits (2, M) of a network for two images of zeros, its input as normalised.

    The network is called once, in the mode that it is in, and without gradients; the random state
    stays as it is.

    Args:
        net: on any device.
        input_size: (3, H, W) of the images.
        name: what errors call the network.

    Raises:
        IntakeError: it cannot take such images, or does not return logits.
    """
    place = next((t for t in (*net.parameters(), *net.buffers())), torch.zeros(0))
    images = torch.zeros(PROBED, *input_size, device=place.device)
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            output = net(images)
    except Exception as error:  # whatever a network of others raises
        raise IntakeError(
            f"{name} fails on images {input_size}: {plain(error, 120) or type(error).__name__}",
            "give the image size that it takes, and a network of 3 channels",
            code="E-MODEL",
        ) from error
    logits = logits_in(output)
    fits = logits.ndim == 2 and len(logits) == PROBED and logits.shape[1] > 0
    if not fits or not logits.is_floating_point():
        raise IntakeError(
            f"{name} returns {tuple(logits.shape)} {logits.dtype} for {PROBED} images",
            WAY_OUT,
            code="E-OUTPUT",
        )
    return logits
