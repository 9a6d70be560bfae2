"""FAB: the nearest decision boundaries, searched by the optional package torchattacks."""

from collections.abc import Mapping

from robustmix.attacks.attack import attack_of
from robustmix.attacks.ball import Norm, check_problem
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.losses import scores
from robustmix.attacks.torchattacks_adapter import Knob, torchattack
from robustmix.later import Tensor
from robustmix.types import Model


def fab_knobs(steps: int, targets: int) -> Mapping[str, Knob]:
    """Give the package's arguments for FAB-T as the standard ensemble has it."""
    return {
        "steps": steps,
        "n_restarts": 1,
        "multi_targeted": True,
        "n_classes": targets + 1,  # the package takes one target fewer than this
        "alpha_max": 0.1,
        "eta": 1.05,
        "beta": 0.9,
    }


@attack_of
def fab(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 100,
    targets: int = 9,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Tensor:
    """Walk to the nearest points where a class overtakes the label, the highest classes in turn.

    FAB looks for small changes and knows no radius: what it finds outside the ball is no success
    here, and the clean image is returned.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: ``linf`` or ``l2``.
        steps: gradient steps towards each target.
        targets: highest other classes that are tried in turn; all of them, if there are fewer.
        seed: without effect: with one restart FAB starts at the image and draws nothing.
        keys: likewise.

    Returns:
        Images (N, C, H, W) in the ball and [0, 1], the clean ones where nothing was found.

    Raises:
        UsageError: torchattacks is not installed.
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Croce and Hein 2020, arXiv:1907.02044; targeted as in arXiv:2003.01690, section 4.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    if steps < 1 or targets < 1:
        raise ValueError(f"expected steps >= 1 and targets >= 1, got {steps} and {targets}")
    count = min(targets, scores(model, images[:1], doubts).shape[1] - 1)
    doubts.settle()
    return torchattack(
        model, images, labels, name="FAB", eps=eps, norm=norm, options=fab_knobs(steps, count)
    )
