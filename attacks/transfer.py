"""Transfer: images made to fool one network, shown to another."""

from typing import Any, Literal, TypeAlias

from robustmix.attacks.attack import attack
from robustmix.attacks.ball import Norm, check_problem
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.losses import Goal, standing
from robustmix.attacks.mifgsm import mifgsm
from robustmix.attacks.outcome import Outcome
from robustmix.attacks.pgd import pgd
from robustmix.later import Tensor, torch
from robustmix.types import Model

Source: TypeAlias = Literal["mifgsm", "pgd"]

SOURCES: dict[Norm, Source] = {"linf": "mifgsm", "l2": "pgd"}
"""The attack on the surrogate where none is asked for."""


@attack
def transfer(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    surrogate: Model | None = None,
    source_attack: Source | None = None,
    steps: int = 10,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Attack another network, and show the result to the one that is under test.

    Nothing of the model is used, not even whether it is fooled: all samples are attacked with all
    steps, and the last iterate is what counts, for the first that fools the surrogate transfers
    less.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode; needs no gradients.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: ``linf`` or ``l2``.
        surrogate: the network that is attacked, called as the model is and of the same classes;
            None: the model itself, to see what the attack does where nothing is lost.
        source_attack: attack on the surrogate: mifgsm (linf alone) or pgd; by default mifgsm in
            linf and pgd in l2.
        steps: gradient steps on the surrogate.
        seed: what the random starts of pgd follow from where there are no keys.
        keys: one 64-bit key a sample for these, int64 (N,).

    Returns:
        Images (N, C, H, W) in the ball and in [0, 1]. The outcome's ``forwards`` are those of both
        networks.

    Raises:
        ValueError: an argument is invalid.
        IncompleteError: a network returned NaN or infinite logits, or the surrogate gives no
            gradient.

    Reference:
        Liu et al. 2017, arXiv:1611.02770, section 3; Dong et al. 2018, arXiv:1710.06081.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    attacked = model if surrogate is None else surrogate
    knobs: dict[str, Any] = {"eps": eps, "steps": steps, "seed": seed, "keys": keys}
    source = source_attack or SOURCES[norm]
    if source not in SOURCES.values():
        raise ValueError(f"expected source_attack mifgsm or pgd, got {source!r}")
    if steps < 1:
        raise ValueError(f"expected steps >= 1, got {steps}")
    maker = mifgsm if source == "mifgsm" else pgd
    made = maker.outcome(attacked, images, labels, norm=norm, **knobs)  # type: ignore[arg-type]
    assert made.last is not None, "both know their last iterate"
    reached = torch.zeros_like(labels, dtype=torch.bool)
    if len(images):
        reached = standing(model, made.last, Goal("margin", labels), doubts).reached
    doubts.settle()
    return Outcome(
        images=made.last,
        success=reached,
        forwards=made.forwards + 1,
        backwards=made.backwards,
    )
