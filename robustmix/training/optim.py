"""Optimisers as the published recipes set them up, their learning rates and their steps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from robustmix.training.schedules import learning_rate

if TYPE_CHECKING:
    from robustmix.training.recipe import OptimizerName, Recipe

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
)
_NO_DECAY_NAMES = ("cls_token", "pos_embed", "relative_position_bias_table", "gamma")


GENERATOR = "generator"
"""Value of ``part`` in the parameter groups of a mask generator; other groups have none."""


def build_optimizer(
    name: "OptimizerName",
    module: nn.Module,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    generator: nn.Module | None = None,
    generator_momentum: float | None = None,
    grad_clip: float = 0.0,
) -> torch.optim.Optimizer:
    """Return the optimiser of a recipe.

    SGD is without Nesterov and decays every parameter, norms and biases too; AdamW(0.9, 0.999,
    1e-8) and LAMB(0.9, 0.999, 1e-6) decay weights but no norm, bias or position table. LAMB is
    timm's: it clips the whole gradient before its moments see it, and what is not decayed is not
    scaled by its norm either.

    Args:
        name: which.
        module: whose parameters are trained, as far as they require gradients.
        lr: learning rate of all groups, until a schedule sets it.
        momentum: SGD's.
        weight_decay: L2 penalty of SGD, decoupled decay of AdamW, a part of LAMB's update.
        generator: a part of ``module`` that gets groups of its own, marked ``part``.
        generator_momentum: SGD's for these; ``momentum`` if None.
        grad_clip: norm that LAMB clips the gradient to, above 0; others leave that to the caller.
    """
    inner = {id(p) for p in generator.parameters()} if generator is not None else set()
    outer = [p for p in trainable(module) if id(p) not in inner]
    own = [p for p in trainable(module) if id(p) in inner]
    own_momentum = momentum if generator_momentum is None else generator_momentum
    if name == "sgd":
        groups: list[dict[str, Any]] = [{"params": outer}]
        if own:
            groups.append({"params": own, "momentum": own_momentum, "part": GENERATOR})
        return torch.optim.SGD(
            groups,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            nesterov=False,
            fused=_fused(module),
        )
    spared = no_decay(module)
    groups = [
        {"params": [p for p in chosen if (id(p) in spared) == free], "weight_decay": decay, **mark}
        for chosen, mark in ((outer, {}), (own, {"part": GENERATOR}))
        for free, decay in ((False, weight_decay), (True, 0.0))
    ]
    groups = [group for group in groups if group["params"]]
    if name == "lamb":
        from timm.optim import Lamb  # most runs do without

        lamb: torch.optim.Optimizer = Lamb(
            groups, lr=lr, betas=(0.9, 0.999), eps=1e-6, max_grad_norm=grad_clip
        )
        return lamb
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8, fused=_fused(module))


def _fused(module: nn.Module) -> bool | None:
    """Return whether one kernel is to update all parameters: on CUDA; elsewhere torch chooses."""
    return True if all(p.device.type == "cuda" for p in trainable(module)) else None


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a saved state into an optimiser, which goes on by the kernels of its own device."""
    kernels: list[dict[str, Any]] = [
        {key: group[key] for key in ("fused", "foreach") if key in group}
        for group in optimizer.param_groups
    ]
    optimizer.load_state_dict(dict(state))
    for group, own in zip(optimizer.param_groups, kernels, strict=True):
        group.update(own)


def set_learning_rates(
    optimizer: torch.optim.Optimizer, recipe: "Recipe", iteration: int, steps: int
) -> float:
    """Set the learning rates of a step; return the network's.

    Args:
        optimizer: of ``build_optimizer``.
        recipe: says how they go.
        iteration: 0-based, over all epochs.
        steps: of an epoch.
    """
    curve = _curve(recipe, steps, recipe.lr, recipe.min_lr)
    lr = learning_rate(recipe.schedule, iteration, **curve)
    own = lr
    if recipe.generator_lr is not None or recipe.generator_min_lr is not None:
        base = recipe.lr if recipe.generator_lr is None else recipe.generator_lr
        minimum = recipe.min_lr if recipe.generator_min_lr is None else recipe.generator_min_lr
        curve = _curve(recipe, steps, base, minimum)
        curve["warmup_epochs"] = 0  # as published
        own = learning_rate(recipe.schedule, iteration, **curve)
    for group in optimizer.param_groups:
        group["lr"] = own if group.get("part") == GENERATOR else lr
    return lr


def _curve(recipe: "Recipe", steps: int, base: float, minimum: float) -> dict[str, Any]:
    return {
        "base": base,
        "minimum": minimum,
        "epochs": recipe.epochs,
        "iters_per_epoch": steps,
        "warmup_epochs": recipe.warmup_epochs,
        "milestones": recipe.milestones,
        "gamma": recipe.gamma,
    }


@torch.no_grad()
def update(optimizer: torch.optim.Optimizer, left_out: Tensor | None = None) -> None:
    """Make a step of the optimiser.

    Args:
        optimizer: its parameters have gradients.
        left_out: how many terms of the loss were NaN and replaced by 0, a tensor without axes. If
            there were any and the gradient is not finite, nothing moves: what was left out is not
            written into weights. On a GPU nobody waits to know. None: nothing is looked at.
    """
    if left_out is None:
        optimizer.step()
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    gradients = [p.grad for p in parameters if p.grad is not None]
    lost = (left_out > 0) & ~nn.utils.get_total_norm(gradients).isfinite()
    if lost.device.type == "cpu":
        if not bool(lost):
            optimizer.step()
    elif all(group.get("fused") for group in optimizer.param_groups):
        for parameter in parameters:  # the kernel that skips a first step would make none
            state = optimizer.state[parameter]
            if isinstance(optimizer, torch.optim.SGD) and "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
        fused: Any = optimizer
        fused.found_inf = lost.float()
        optimizer.step()
        del fused.found_inf
    else:
        for gradient in gradients:  # such as LAMB's: it moves by what it remembers
            gradient.copy_(torch.where(lost, torch.zeros_like(gradient), gradient))
        optimizer.step()


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training moves, in the module's order."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def no_decay(module: nn.Module) -> set[int]:
    """Return the ids of the parameters that AdamW and LAMB do not decay.

    These are all parameters of normalisation layers, every bias, and class tokens, position
    embeddings, relative-position tables and layer scales by their usual names.
    """
    spared: set[int] = set()
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if isinstance(owner, _NORMS) or name == "bias" or name in _NO_DECAY_NAMES:
                spared.add(id(parameter))
    return spared
