"""Projected gradient ascent in an L-infinity or L2 ball."""

from robustmix.attacks.attack import attack, own_keys
from robustmix.attacks.ball import (
    Norm,
    ascent_direction,
    check_problem,
    per_sample,
    project,
    start_in_ball,
)
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.expectation import Looks
from robustmix.attacks.losses import Loss
from robustmix.attacks.outcome import Outcome, Trace
from robustmix.attacks.search import Leader, look_every, of_rows, plan, with_rows
from robustmix.later import Tensor, torch
from robustmix.types import Model

STEPS_TO_EDGE: dict[Norm, int] = {"linf": 4, "l2": 5}
"""Steps from the image to the edge of the ball, where no length of a step is asked for."""

NEVER = -1


@attack
def pgd(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 20,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = True,
    loss: Loss = "ce",
    targets: Tensor | int | None = None,
    stop_early: bool = False,
    eot: int = 1,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Raise a loss inside a ball by steps of fixed length along the gradient.

    Every iterate is projected into the ball and [0, 1]. The first restart makes all its steps for
    every sample; later ones take only the samples of which no iterate has reached the goal yet,
    so success never falls as restarts are added.

    Targets can be a tensor too: of classes (N,), which alone count as success. With ``stop_early``
    it is the same which samples are reached, and after how many steps; the losses, the last iterate
    and what the trace has of later steps is not, for these are not made.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: ``linf`` steps along the sign of the gradient, ``l2`` along the gradient itself.
        steps: gradient steps of a restart; 0 scores the start alone.
        step_size: length of a step, in norm and unit of the radius; by default a quarter of the
            radius in linf, a fifth in l2.
        restarts: random starts of a search (for every target).
        random_start: start at a uniformly random point of the ball, else at the image.
        loss: what is raised: ``ce``, ``margin`` or ``dlr`` (at least 3 classes, with targets 4).
        targets: a number such as 9: go towards each of that many highest other classes in turn,
            any wrong class counts as success; by default away from the label.
        stop_early: end a sample's search at the first iterate that reaches the goal.
        eot: passes that each gradient is the mean of, for a network whose answers are random
            (expectation over transformation); its draws follow from the keys.
        seed: what the random starts follow from where there are no keys.
        keys: one 64-bit key a sample for the random starts, int64 (N,)
            (:func:`robustmix.rng.sample_keys`); no draw depends on the batch.

    Returns:
        Images (N, C, H, W): of all iterates one that reached the goal if any did, and of those the
        one of highest loss. The outcome has all its fields but ``stages``.

    Raises:
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Madry et al. 2018, arXiv:1706.06083, section 2.1.

    Example:
        >>> toward = lambda x: torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1]], dim=1)
        >>> image, label = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
        >>> pgd(toward, image, label, eps=0.25, random_start=False).flatten().tolist()
        [0.25, 0.75]
        >>> pgd.outcome(toward, image, label, eps=0.25, random_start=False).success.tolist()
        [True]
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    step_size = _checked_step(steps, step_size, eps / STEPS_TO_EDGE[norm])
    if restarts > 1 and not random_start:
        raise ValueError("restarts without a random start would repeat the same search")
    keys = own_keys(keys, seed, images)
    looks = Looks(eot, keys)
    with looks.drawing(images.device):
        tries, planning = plan(
            model, images, labels, loss=loss, targets=targets, restarts=restarts, doubts=doubts
        )
    record, every = _Record(images, steps), look_every(images.device)
    for stream, whole in tries:
        rows = record.best.survivors()
        if not len(rows):
            break
        centres = adv = images[rows]
        if random_start:
            adv = start_in_ball(centres, keys[rows], norm=norm, eps=eps, stream=stream)
        goal, live = whole.take(rows), torch.ones_like(rows, dtype=torch.bool)
        for step in range(steps):
            value, reached, gradient, _ = looks.slope(model, adv, goal, doubts)
            record.iterate(step, rows, adv, reached, value, live, gradient)
            if stop_early:
                live = live & ~reached
                if (step + 1) % every == 0 and len(left := live.nonzero().flatten()) < len(rows):
                    record.last.offer(rows, adv, reached, value, among=~live)
                    rows, adv, centres, gradient, live = (
                        each[left] for each in (rows, adv, centres, gradient, live)
                    )
                    goal = whole.take(rows)
                    if not len(rows):
                        break
            moved = adv + step_size * ascent_direction(gradient, norm=norm)
            moved = project(centres, moved, norm=norm, eps=eps)
            # Who is done but not yet left out stands still; where all is left out at once, no one.
            still = stop_early and every > 1
            adv = torch.where(per_sample(live), moved, adv) if still else moved
        if len(rows):
            value, reached = looks.standing(model, adv, goal, doubts)
            record.iterate(steps, rows, adv, reached, value, live)
            record.last.offer(rows, adv, reached | ~live, value)
    doubts.settle()
    return record.outcome(eot, planning)


def _checked_step(steps: int, step_size: float | None, usual: float) -> float:
    if steps < 0 or not (step_size is None or step_size > 0):
        step = "none" if step_size is None else step_size
        raise ValueError(f"expected steps >= 0 and step_size > 0, got {steps} and {step}")
    return usual if step_size is None else step_size


class _Record:
    """What is kept of the iterates."""

    def __init__(self, images: Tensor, steps: int) -> None:
        n, device = len(images), images.device
        self.best, self.last = Leader(images), Leader(images)
        self.reached_at = torch.zeros(steps + 1, n, dtype=torch.bool, device=device)
        self.loss_at = self.best.loss.repeat(steps + 1, 1)  # all minus infinity
        self.forwards = torch.zeros(n, dtype=torch.int64, device=device)
        self.backwards = torch.zeros_like(self.forwards)
        self.zero_gradient: Tensor | None = None

    def iterate(
        self,
        step: int,
        rows: Tensor,
        adv: Tensor,
        reached: Tensor,
        loss: Tensor,
        live: Tensor,
        gradient: Tensor | None = None,
    ) -> None:
        """Note the live iterates of some samples after so many steps, and the gradient there."""
        self.best.offer(rows, adv, reached, loss, among=live)
        there, highest = self.reached_at[step], self.loss_at[step]
        now = torch.where(live, loss, -torch.inf)
        self.reached_at[step] = with_rows(there, rows, of_rows(there, rows) | (reached & live))
        self.loss_at[step] = with_rows(highest, rows, of_rows(highest, rows).maximum(now))
        self.forwards = with_rows(self.forwards, rows, of_rows(self.forwards, rows) + live)
        if gradient is not None:
            self.backwards = with_rows(self.backwards, rows, of_rows(self.backwards, rows) + live)
            if self.zero_gradient is None:  # the first gradient is taken of all samples
                self.zero_gradient = (gradient == 0).flatten(1).to(loss.dtype).mean(dim=1)

    def outcome(self, eot: int, planning: int) -> Outcome:
        """Give what was kept as the attack's result, at so many passes a look and for the plan."""
        flat, first = self.zero_gradient, self.reached_at.int().argmax(dim=0)
        return Outcome(
            images=self.best.images,
            success=self.best.reached,
            loss=self.best.loss,
            forwards=eot * self.forwards + planning,
            backwards=eot * self.backwards,
            first_step=torch.where(self.reached_at.any(dim=0), first, NEVER).int(),
            last=self.last.images,
            zero_gradient=torch.ones_like(self.best.loss) if flat is None else flat,
            trace=Trace(
                reached_at=self.reached_at,
                loss_at=self.loss_at,
                last_success=self.last.reached,
                last_loss=self.last.loss,
            ),
        )
