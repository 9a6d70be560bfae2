"""The harness around all attacks: clip, re-check the ball, re-score, count; trust nothing."""

from typing import NamedTuple

from robustmix.attacks.ball import Norm, lengths, project
from robustmix.attacks.doubts import Doubts, doubt, not_finite
from robustmix.errors import IncompleteError
from robustmix.later import Tensor, torch
from robustmix.types import Model

BALL_TOLERANCE = 1e-6
"""How far an attack may leave its ball or [0, 1] by the rounding of float32 sums."""


class Attacked(NamedTuple):
    """What is left of an attack's claim after it was checked."""

    images: Tensor
    """(N, C, H, W), inside the ball and [0, 1]."""

    logits: Tensor
    """(N, K), scored by the harness."""

    linf: Tensor
    """(N,) largest absolute change of a value, in [0, 1] pixel units."""

    l2: Tensor
    """(N,) Euclidean length of the change, in [0, 1] pixel units."""

    overshoot: float
    """How far the attack had left the ball or [0, 1] before it was clipped; 0 for a correct one."""


class Verified(NamedTuple):
    """An attack's result that stayed in its ball, scored by the harness."""

    attacked: Attacked

    success: Tensor
    """bool (N,): misclassified, or predicted as the target where there are targets."""


def rescore(
    model: Model, images: Tensor, adversarial: Tensor, *, norm: Norm, eps: float
) -> Attacked:
    """Project an attack's result into the ball and [0, 1] and score it.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        adversarial: what the attack returned, same shape.
        norm: the norm of the ball.
        eps: its radius, in [0, 1] pixel units.

    Raises:
        ValueError: the attack changed the shape or returned NaN.
    """
    _check_shape(images, adversarial)
    doubt(not_finite(adversarial), _broken_pixels, None)
    adversarial = adversarial.detach()
    size = lengths(adversarial - images, norm=norm)
    outside = torch.maximum(-adversarial, adversarial - 1).amax()
    overshoot = max(0.0, float((size - eps).amax()), float(outside))
    # Where nothing was outside, the attack's own values are kept: image + (adv - image) may round.
    inside = adversarial
    if overshoot > 0:
        inside = project(images, adversarial, norm=norm, eps=eps)
    with torch.no_grad():
        logits = model(inside)
    moved = inside - images
    linf, l2 = lengths(moved, norm="linf"), lengths(moved, norm="l2")
    return Attacked(inside, logits, linf, l2, overshoot)


def verify(
    model: Model,
    images: Tensor,
    labels: Tensor,
    adversarial: Tensor,
    *,
    norm: Norm,
    eps: float,
    targets: Tensor | None = None,
    doubts: Doubts | None = None,
) -> Verified:
    """Score an attack's result, which must lie in the ball and [0, 1] but for rounding.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, (N,).
        adversarial: what the attack returned, same shape as ``images``.
        norm: the norm of the ball.
        eps: its radius, in [0, 1] pixel units.
        targets: classes (N,) that alone count as success; None: any wrong class does.
        doubts: what the caller settles before the result is used; None: it is checked here.

    Raises:
        IncompleteError: the attack left the ball or [0, 1] (``E-ATTACK-BALL``), or a logit is NaN
            or infinite (``E-NONFINITE``), which must never count as a wrong answer.
        ValueError: the attack changed the shape or returned NaN.
    """
    _check_shape(images, adversarial)
    own = Doubts() if doubts is None else doubts
    adversarial = adversarial.detach()
    clipped = adversarial.clamp(0, 1)
    own.note(not_finite(clipped), _broken_pixels)
    moved = clipped - images
    linf, l2 = lengths(moved, norm="linf"), lengths(moved, norm="l2")
    beyond = (linf if norm == "linf" else l2) - (eps + BALL_TOLERANCE)
    outside = (adversarial - clipped).abs().amax() - BALL_TOLERANCE
    left = torch.maximum(beyond.amax(), outside)

    def left_ball() -> IncompleteError:
        text = f"the attack left its ball by {float(left):.2g}"
        return IncompleteError(text, code="E-ATTACK-BALL")

    own.note(left > 0, left_ball)
    with torch.no_grad():
        logits = model(clipped)
    own.note(not_finite(logits), _broken_logits)
    if doubts is None:
        own.settle()
    predicted = logits.argmax(dim=1)
    success = predicted != labels if targets is None else predicted == targets
    return Verified(Attacked(clipped, logits, linf, l2, 0.0), success)


def _check_shape(images: Tensor, adversarial: Tensor) -> None:
    if adversarial.shape != images.shape:
        raise ValueError(f"an attack keeps the shape: {images.shape} became {adversarial.shape}")


def _broken_pixels() -> ValueError:
    return ValueError("an attack returned NaN or infinite pixels")


def _broken_logits() -> IncompleteError:
    return IncompleteError("the model returned NaN or infinite logits", code="E-NONFINITE")


class CountingModel:
    """A model that counts the images it answers for, whoever asks.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K).
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.forwards = 0
        """Images passed forward."""

        self.backwards = 0
        """Images whose logits a gradient was sent back from."""

    def __call__(self, images: Tensor) -> Tensor:
        """Ask the model, and count."""
        logits = self.model(images)
        n = len(images)
        self.forwards += n
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count_backward(n))  # type: ignore[no-untyped-call]
        return logits

    def _count_backward(self, n: int) -> None:
        self.backwards += n
