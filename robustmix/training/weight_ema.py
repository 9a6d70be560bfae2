"""A moving average of the weights beside those that are trained, and what is deployed of the two.

Source: timm 1.0, ``ModelEmaV3`` without warm-up: parameters and floating-point buffers are
averaged, counts are copied. OpenMixup's ``EMAHook`` averages the parameters alone, which is the
same for networks without batch statistics, and lets the decay rise during its warm-up.
"""

import copy

import torch
from torch import Tensor, nn

WARMUP_FROM = 0.9
"""Share of the decay at the first step of its warm-up, as in OpenMixup's configurations."""


def decay_at(iteration: int, *, decay: float, warmup: int) -> float:
    """Return the decay of a step; it rises linearly from ``0.9 * decay`` over ``warmup`` steps.

    Args:
        iteration: the step just made, 0-based over the whole run.
        decay: after the warm-up, in (0, 1).
        warmup: steps, 0 for none.

    Example:
        >>> [round(decay_at(i, decay=0.5, warmup=2), 3) for i in (0, 1, 2, 9)]
        [0.45, 0.475, 0.5, 0.5]
    """
    if iteration >= warmup:
        return decay
    return (1 - (1 - iteration / warmup) * (1 - WARMUP_FROM)) * decay


class WeightEma:
    """The average of a network's weights.

    Args:
        network: what is trained; it is copied with the weights it has.
        decay: share of the average that a step keeps, in (0, 1).
        warmup: steps over which the decay rises, see ``decay_at``.
    """

    def __init__(self, network: nn.Module, *, decay: float, warmup: int = 0) -> None:
        self.decay = decay
        self.warmup = warmup
        self.network = copy.deepcopy(network).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, network: nn.Module, iteration: int) -> None:
        """Move the average towards the weights after a step.

        Args:
            network: the one that is trained.
            iteration: the step just made, 0-based over the whole run.
        """
        share = 1 - decay_at(iteration, decay=self.decay, warmup=self.warmup)
        own: list[Tensor] = []
        new: list[Tensor] = []
        trained = network.state_dict()
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                own.append(value)
                new.append(trained[name])
            else:
                value.copy_(trained[name])
        torch._foreach_lerp_(own, new, share)
