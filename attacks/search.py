"""What the searches inside a ball share: their plan of attempts and the best so far."""

from typing import NamedTuple

from robustmix.attacks.losses import Goal, Loss, scores, top_targets
from robustmix.later import Tensor, torch
from robustmix.types import Model


class Attempt(NamedTuple):
    """One start of a search: the number of its random stream and what it raises."""

    stream: int
    goal: Goal


def plan(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    loss: Loss,
    targets: Tensor | int | None,
    restarts: int,
) -> tuple[list[Attempt], int]:
    """List the attempts of a search in order, and count the forward passes spent on planning.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W).
        labels: true classes, (N,).
        loss: what is raised.
        targets: None: away from the label. Classes (N,): towards these, and only they count as
            success. A number: towards each of that many highest other classes of the clean image
            in turn (all others, if there are fewer); any wrong class counts as success.
        restarts: number of starts for every target.

    Raises:
        ValueError: fewer than one restart or target, or a target that is the label itself.
    """
    if restarts < 1:
        raise ValueError(f"expected restarts >= 1, got {restarts}")
    cost = 0
    if targets is None:
        goals = [Goal(loss, labels)]
    elif isinstance(targets, Tensor):
        if targets.shape != labels.shape or bool((targets == labels).any()):
            raise ValueError("expected one target a sample, other than its label")
        goals = [Goal(loss, labels, targets, reach=True)]
    else:
        logits = scores(model, images)
        cost = 1
        count = min(targets, logits.shape[1] - 1)
        goals = [Goal(loss, labels, each) for each in top_targets(logits, labels, count).unbind(1)]
    # All targets come before a second start: the first restart is then a whole targeted search, and
    # a longer list of restarts begins with the shorter one, streams included.
    rounds = [goal for _ in range(restarts) for goal in goals]
    return [Attempt(stream, goal) for stream, goal in enumerate(rounds)], cost


class Leader:
    """The best image so far of each sample: a reached goal comes first, then a higher loss."""

    def __init__(self, images: Tensor) -> None:
        n = len(images)
        self.images = images.detach().clone()
        self.reached = torch.zeros(n, dtype=torch.bool, device=images.device)
        self.loss = torch.full((n,), -torch.inf, dtype=images.dtype, device=images.device)

    def survivors(self) -> Tensor:
        """The rows whose goal is not reached, int64 (n,)."""
        return (~self.reached).nonzero().flatten()

    def offer(self, rows: Tensor, images: Tensor, reached: Tensor, loss: Tensor) -> None:
        """Keep what is better than the rows' present images."""
        held = self.reached[rows]
        better = (reached & ~held) | ((reached == held) & (loss > self.loss[rows]))
        won = rows[better]
        self.images[won] = images[better]
        self.reached[won] = reached[better]
        self.loss[won] = loss[better]
