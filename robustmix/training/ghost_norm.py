"""Batch norm over groups of a batch, as several processes with a part of it each would have it.

Of W processes, the one of rank r has places r, r + W, ... of a batch. Each normalises its part by
its own statistics and moves running statistics of its own, which are averaged when the network is
validated or saved. Moving one set of them by the groups' mean is the same, for the update is
linear.
"""

from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustmix.errors import UsageError

_Norm = nn.modules.batchnorm._BatchNorm


def set_norm_groups(network: nn.Module, groups: int, name: str = "the network") -> None:
    """Let every batch norm of a network see a batch in training mode as ``groups`` batches.

    Args:
        network: changed in place; its state keeps its names and shapes.
        groups: how many; place i of a batch is of group i % groups. A batch in which some group
            would have fewer than two images is one group.
        name: what errors call the network.

    Raises:
        UsageError: it has no batch norm, or one whose statistics cannot be told.
    """
    norms = [module for module in network.modules() if isinstance(module, _Norm)]
    if not norms:
        raise UsageError(
            f"norm_batch has no effect: {name} has no batch norm",
            "leave it out",
            code="E-UNUSED-OPTION",
        )
    if groups == 1:
        return
    for norm in norms:
        if not norm.track_running_stats or norm.momentum is None:
            raise UsageError(
                f"norm_batch: a batch norm of {name} has no running statistics of fixed momentum",
                "leave it out",
                code="E-RECIPE",
            )
        changed = cast(Any, norm)
        changed.norm_groups = groups
        changed.forward = MethodType(_forward, norm)  # a copy of the network copies it too


def _forward(norm: _Norm, images: Tensor) -> Tensor:
    """Return what a norm makes of a batch (N, C, ...) of ``norm.norm_groups`` groups."""
    groups, n = int(cast(int, norm.norm_groups)), len(images)
    if not norm.training or n < 2 * groups:
        return type(norm).forward(norm, images)
    if n % groups == 0:
        made = _equal_groups(norm, images, groups)
    else:
        made = _any_groups(norm, images, groups)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    # timm's norms end in dropout and the activation.
    for last in ("drop", "act"):
        if hasattr(norm, last):
            made = getattr(norm, last)(made)
    return made


def _equal_groups(norm: _Norm, images: Tensor, groups: int) -> Tensor:
    """Normalise groups of one size at once: as channels of their own, for which nothing is copied.

    Place t * groups + j of the batch is image t of group j, so the view (t, j and channel) has each
    group in channels of its own.
    """
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    own_mean, own_var = mean.repeat(groups), var.repeat(groups)
    made = F.batch_norm(
        images.reshape(len(images) // groups, -1, *images.shape[2:]),
        own_mean,
        own_var,
        None if norm.weight is None else norm.weight.repeat(groups),
        None if norm.bias is None else norm.bias.repeat(groups),
        training=True,
        momentum=cast(float, norm.momentum),
        eps=norm.eps,
    ).reshape(images.shape)
    mean.data.copy_(own_mean.view(groups, -1).mean(dim=0))
    var.data.copy_(own_var.view(groups, -1).mean(dim=0))
    last = images.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last)
    return made.contiguous(memory_format=torch.channels_last) if last else made


def _any_groups(norm: _Norm, images: Tensor, groups: int) -> Tensor:
    """Normalise groups that differ in size by one, as the last of an epoch may."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    made = torch.empty_like(images)
    means, variances = [], []
    for j in range(groups):
        own_mean, own_var = mean.clone(), var.clone()
        made[j::groups] = F.batch_norm(
            images[j::groups],
            own_mean,
            own_var,
            norm.weight,
            norm.bias,
            training=True,
            momentum=cast(float, norm.momentum),
            eps=norm.eps,
        )
        means.append(own_mean)
        variances.append(own_var)
    mean.data.copy_(torch.stack(means).mean(dim=0))
    var.data.copy_(torch.stack(variances).mean(dim=0))
    return made
