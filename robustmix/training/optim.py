"""Optimisers as the published recipes set them up."""

from typing import Literal

import torch
from torch import nn

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
)
_NO_DECAY_NAMES = ("cls_token", "pos_embed", "relative_position_bias_table", "gamma")


def sgd(
    module: nn.Module, *, lr: float, momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Return SGD without Nesterov; weight decay on every parameter, norms and biases too."""
    return torch.optim.SGD(
        trainable(module), lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=False
    )


def adamw(module: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Return AdamW(0.9, 0.999, 1e-8) that decays weights but no norm, bias or position table."""
    spared = no_decay(module)
    decayed = [p for p in trainable(module) if id(p) not in spared]
    rest = [p for p in trainable(module) if id(p) in spared]
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=lr, betas=(0.9, 0.999), eps=1e-8
    )


def build_optimizer(
    name: Literal["sgd", "adamw"],
    module: nn.Module,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe; ``momentum`` is SGD's alone."""
    if name == "sgd":
        return sgd(module, lr=lr, momentum=momentum, weight_decay=weight_decay)
    return adamw(module, lr=lr, weight_decay=weight_decay)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training moves, in the module's order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def no_decay(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that AdamW does not decay.

    These are all parameters of normalisation layers, every bias, and class tokens, position
    embeddings, relative-position tables and layer scales by their usual names.
    """
    spared: set[int] = set()
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if isinstance(owner, _NORMS) or name == "bias" or name in _NO_DECAY_NAMES:
                spared.add(id(parameter))
    return spared
