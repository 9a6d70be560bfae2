"""What an attack raises: four losses, one value a sample, and when an attack has won.

Every loss is signed so that a higher value is a stronger attack.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, get_args

from robustmix.attacks.doubts import Doubts, doubt, not_finite
from robustmix.errors import IncompleteError
from robustmix.later import F, Tensor, torch
from robustmix.types import Model

Loss: TypeAlias = Literal["ce", "margin", "dlr"]

_TINY = 1e-12


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the labels, (N,); the caller sums it, never averages."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Subtract the label's logit from the best other one, (N,): positive once misclassified.

    Raises:
        ValueError: fewer than 2 classes.

    Reference:
        Carlini and Wagner 2017, arXiv:1608.04644, equation 6 without its clamp.

    Example:
        >>> margin(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([1]))
        tensor([-2.])
    """
    _need_classes(logits, 2, "the margin loss")
    others = logits.masked_fill(_one_hot(logits, labels), -torch.inf).amax(dim=1)
    return others - at(logits, labels)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the difference of logits ratio, (N,): the margin in units of the logits' spread.

    Unlike the cross-entropy it does not change when all logits are scaled or shifted.

    Raises:
        ValueError: fewer than 3 classes.

    Reference:
        Croce and Hein 2020, arXiv:2003.01690, equation 6.

    Example:
        >>> dlr(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([1])).round(decimals=4)
        tensor([-0.6667])
    """
    _need_classes(logits, 3, "the DLR loss")
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of the targets, (N,)."""
    return -cross_entropy(logits, targets)


def targeted_margin(logits: Tensor, targets: Tensor) -> Tensor:
    """Subtract the best other logit from the target's, (N,): positive once it is predicted."""
    return -margin(logits, targets)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Compute the targeted difference of logits ratio, (N,): positive once target beats label.

    Raises:
        ValueError: fewer than 4 classes.

    Reference:
        Croce and Hein 2020, arXiv:2003.01690, equation 7.
    """
    _need_classes(logits, 4, "the targeted DLR loss")
    top = logits.topk(4, dim=1).values
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return (at(logits, targets) - at(logits, labels)) / (spread + _TINY)


def top_targets(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Find the ``count`` highest classes other than the label, highest first, int64 (N, count).

    Equal logits are taken in the order of their index.

    Example:
        >>> top_targets(torch.tensor([[1.0, 4.0, 2.0, 3.0]]), torch.tensor([1]), 2)
        tensor([[3, 2]])
    """
    if not 1 <= count <= logits.shape[1] - 1:
        raise ValueError(f"expected 1 to {logits.shape[1] - 1} targets, got {count}")
    others = logits.masked_fill(_one_hot(logits, labels), -torch.inf)
    return others.argsort(dim=1, descending=True, stable=True)[:, :count]


@dataclass(frozen=True)
class Goal:
    """What is raised, for which samples, and when it is reached."""

    loss: Loss
    labels: Tensor
    """True classes, int64 (N,)."""

    targets: Tensor | None = None
    """Classes to move towards, int64 (N,); None moves away from the labels."""

    reach: bool = False
    """Whether only the target counts as success, not just any wrong class."""

    def __post_init__(self) -> None:
        if self.loss not in get_args(Loss):
            raise ValueError(f"expected loss ce, margin or dlr, got {self.loss!r}")

    def values(self, logits: Tensor) -> Tensor:
        """Compute the loss to raise, (N,)."""
        if self.targets is None:
            return {"ce": cross_entropy, "margin": margin, "dlr": dlr}[self.loss](
                logits, self.labels
            )
        if self.loss == "dlr":
            return targeted_dlr(logits, self.labels, self.targets)
        towards = {"ce": targeted_cross_entropy, "margin": targeted_margin}[self.loss]
        return towards(logits, self.targets)

    def reached(self, logits: Tensor) -> Tensor:
        """Tell whether each sample is where the attack wants it, bool (N,)."""
        predicted = logits.argmax(dim=1)  # the lowest index of equal logits
        if self.reach and self.targets is not None:
            return predicted == self.targets
        return predicted != self.labels

    def take(self, rows: Tensor) -> "Goal":
        """Narrow the goal to some of the samples."""
        targets = None if self.targets is None else self.targets[rows]
        return Goal(self.loss, self.labels[rows], targets, self.reach)


class Standing(NamedTuple):
    """How the attacked samples stand."""

    loss: Tensor
    """(N,), what the attack raises."""

    reached: Tensor
    """bool (N,)."""


class Slope(NamedTuple):
    """Standing and gradient, of one forward and one backward pass."""

    loss: Tensor
    reached: Tensor
    gradient: Tensor
    """Of the sum of the losses with respect to the images, (N, C, H, W)."""

    logits: Tensor
    """(N, K), detached."""


def scores(model: Model, images: Tensor, doubts: Doubts | None = None) -> Tensor:
    """Look at images once, without gradients: logits (N, K).

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K).
        images: (N, C, H, W) in [0, 1].
        doubts: what the caller settles; None: logits are looked at before they are returned.

    Raises:
        IncompleteError: a logit is NaN or infinite (``E-NONFINITE``).
    """
    with torch.no_grad():
        return _finite(model(images.detach()), doubts)


def standing(model: Model, images: Tensor, goal: Goal, doubts: Doubts | None = None) -> Standing:
    """Score images by one forward pass; ``doubts`` as of :func:`scores`.

    Raises:
        IncompleteError: a logit is NaN or infinite (``E-NONFINITE``).
    """
    with torch.no_grad():
        logits = scores(model, images, doubts)
        return Standing(goal.values(logits).to(images.dtype), goal.reached(logits))


def slope(model: Model, images: Tensor, goal: Goal, doubts: Doubts | None = None) -> Slope:
    """Score images and take the gradient of the loss, by one forward and one backward pass.

    The losses are summed, not averaged, over the batch: a mean would scale small gradients
    towards zero as the batch grows, and their sign with them. Where the logits do not depend on
    the images by any path that can be differentiated, there is none: an attack that went on with
    zeros would return the clean images as its best. ``doubts`` is as of :func:`scores`.

    Raises:
        IncompleteError: a logit is NaN or infinite (``E-NONFINITE``), or there is no gradient at
            all (``E-NO-GRADIENT``).
    """
    probe, logits = probed(model, images, doubts)
    with torch.enable_grad():
        loss = goal.values(logits)
    gradient, seen = gradient_of(loss, probe), logits.detach()
    return Slope(loss.detach().to(images.dtype), goal.reached(seen), gradient, seen)


def probed(model: Model, images: Tensor, doubts: Doubts | None = None) -> tuple[Tensor, Tensor]:
    """Look at images once, to differentiate what is made of the logits: images and logits (N, K).

    Raises:
        IncompleteError: a logit is NaN or infinite (``E-NONFINITE``).
    """
    with torch.enable_grad():
        probe = images.detach().requires_grad_()
        return probe, _finite(model(probe), doubts)


def gradient_of(values: Tensor, probe: Tensor, *, again: bool = False) -> Tensor:
    """Differentiate the sum of values by the images that they were made of, (N, C, H, W).

    Args:
        values: (N,), of the logits of :func:`probed`.
        probe: the images of the same call.
        again: whether more is to be differentiated of the same logits.

    Raises:
        IncompleteError: there is no gradient at all (``E-NO-GRADIENT``).
    """
    gradient = None
    if values.requires_grad:
        with torch.enable_grad():
            total = values.sum()
        (gradient,) = torch.autograd.grad(total, probe, allow_unused=True, retain_graph=again)
    if gradient is None:
        raise no_gradient()
    return gradient


def _finite(logits: Tensor, doubts: Doubts | None) -> Tensor:
    # argmax of a NaN row names some class, which would count as a success of the attack.
    doubt(not_finite(logits), nonfinite_logits, doubts)
    return logits


def nonfinite_logits() -> IncompleteError:
    """Make the error for a model that returns NaN or infinite logits."""
    return IncompleteError(
        "the model returned NaN or infinite logits under attack",
        "look for a division or a logarithm of zero in it",
        code="E-NONFINITE",
    )


def no_gradient() -> IncompleteError:
    """Make the error for a model whose logits cannot be differentiated by the images."""
    return IncompleteError(
        "the model gives no gradient: its logits do not depend on the images by any path that can "
        "be differentiated",
        "take torch.no_grad(), detach() and casts to integers out of its forward pass, or use an "
        "attack without gradients such as square",
        code="E-NO-GRADIENT",
    )


def _one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.arange(logits.shape[1], device=logits.device) == labels.unsqueeze(1)


def at(logits: Tensor, classes: Tensor) -> Tensor:
    """Take one class's logit of each sample, (N,)."""
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def _need_classes(logits: Tensor, least: int, what: str) -> None:
    if logits.shape[1] < least:
        raise ValueError(f"{what} needs at least {least} classes, got {logits.shape[1]}")
