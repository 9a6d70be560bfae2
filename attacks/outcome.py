"""What attacks know beyond the images they give: one form for all."""

from dataclasses import dataclass
from typing import NamedTuple

from robustmix.later import Tensor


class Stage(NamedTuple):
    """Where an ensemble stands after one of its members."""

    member: str

    tried: Tensor
    """bool (N,): the samples that the member attacked, those still classified correctly."""

    broken: Tensor
    """bool (N,): the samples misclassified by now, by the harness's own scoring."""

    images: Tensor
    """(N, C, H, W): the image that broke each sample; the clean one for all others."""

    forwards: Tensor
    """(N,): forward passes that the member spent on each sample, the harness's scoring included."""

    backwards: Tensor
    """(N,): backward passes, likewise."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """How a search of fixed steps went, step by step."""

    reached_at: Tensor
    """bool (steps + 1, N): whether the iterate after so many steps reached it, in any restart."""

    loss_at: Tensor
    """(steps + 1, N): the highest loss after so many steps over the restarts."""

    last_success: Tensor
    """bool (N,): whether the outcome's ``last`` reached the goal."""

    last_loss: Tensor
    """(N,): the loss of the outcome's ``last``."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The worst case an attack found for each sample, what it cost, and how it was found.

    Every attack gives it by ``attack.outcome(...)``, called as the attack itself is. The first four
    fields are always there; the others are None (``stages``: empty) where an attack has no such
    thing.
    """

    images: Tensor
    """(N, C, H, W), in the ball and [0, 1]: what calling the attack itself returns."""

    success: Tensor
    """bool (N,): whether ``images`` reached the goal, by forward passes in eval mode."""

    forwards: Tensor
    """(N,): forward passes the attack spent on each sample, int64; float64 where it does not tell
    its samples apart, and each bears an equal share."""

    backwards: Tensor
    """(N,): backward passes, likewise."""

    loss: Tensor | None = None
    """(N,): the loss of ``images``, signed to be raised."""

    first_step: Tensor | None = None
    """int32 (N,): after how many steps the goal was first reached, of several restarts the fewest;
    -1 for never."""

    last: Tensor | None = None
    """(N, C, H, W): the last iterate, of several restarts the worst."""

    zero_gradient: Tensor | None = None
    """(N,): share of exactly zero entries in the gradient at the first start; 1 for no steps."""

    trace: Trace | None = None
    """Of a search of fixed steps, what happened at each."""

    stages: tuple[Stage, ...] = ()
    """Of an ensemble, one a member, in order."""
