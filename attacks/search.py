"""What the searches inside a ball share: their plan of attempts and the best so far."""

from typing import NamedTuple

from robustmix.attacks.ball import per_sample
from robustmix.attacks.doubts import Doubts, doubt
from robustmix.attacks.losses import Goal, Loss, scores, top_targets
from robustmix.later import Tensor, torch
from robustmix.types import Model

LOOK_EVERY = 10
"""After how many steps an accelerator is asked which samples are done. Asking makes the host wait,
so that the device idles; done samples that stay in the batch cost their share of a step."""


def look_every(device: "torch.device") -> int:  # a name, so that nothing is imported for it
    """Tell after how many steps a search leaves out the samples that are done.

    Until then these stay in its batch, and nothing more is noted of them. On a CPU, where asking
    costs nothing, that is after each step.
    """
    return 1 if device.type == "cpu" else LOOK_EVERY


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
    doubts: Doubts,
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
        doubts: where it is noted that a target is the label itself, or a logit not finite.

    Raises:
        ValueError: fewer than one restart or target.
    """
    if restarts < 1:
        raise ValueError(f"expected restarts >= 1, got {restarts}")
    cost = 0
    if targets is None:
        goals = [Goal(loss, labels)]
    elif isinstance(targets, Tensor):
        if targets.shape != labels.shape:
            raise _wrong_targets()
        doubt((targets == labels).any(), _wrong_targets, doubts)
        goals = [Goal(loss, labels, targets, reach=True)]
    else:
        logits = scores(model, images, doubts)
        cost = 1
        count = min(targets, logits.shape[1] - 1)
        goals = [Goal(loss, labels, each) for each in top_targets(logits, labels, count).unbind(1)]
    # All targets come before a second start: the first restart is then a whole targeted search, and
    # a longer list of restarts begins with the shorter one, streams included.
    rounds = [goal for _ in range(restarts) for goal in goals]
    return [Attempt(stream, goal) for stream, goal in enumerate(rounds)], cost


def _wrong_targets() -> ValueError:
    return ValueError("expected one target a sample, other than its label")


def of_rows(whole: Tensor, rows: Tensor) -> Tensor:
    """Give the rows of a tensor; rising rows as many as it has are all, and itself is given."""
    return whole if len(rows) == len(whole) else whole[rows]


def with_rows(whole: Tensor, rows: Tensor, part: Tensor) -> Tensor:
    """Give a tensor with other rows: the new ones if these are all, else itself, written into."""
    if len(rows) == len(whole):
        return part
    whole[rows] = part
    return whole


class Leader:
    """The best image so far of each sample: a reached goal comes first, then a higher loss."""

    def __init__(self, images: Tensor) -> None:
        n = len(images)
        self._offered = False
        self.images = images.detach().clone()
        self.reached = torch.zeros(n, dtype=torch.bool, device=images.device)
        self.loss = torch.full((n,), -torch.inf, dtype=images.dtype, device=images.device)

    def survivors(self) -> Tensor:
        """The rows whose goal is not reached, rising, int64 (n,)."""
        if not self._offered:  # all of them, without asking the device
            return torch.arange(len(self.reached), device=self.reached.device)
        return (~self.reached).nonzero().flatten()

    def offer(
        self,
        rows: Tensor,
        images: Tensor,
        reached: Tensor,
        loss: Tensor,
        *,
        among: Tensor | None = None,
    ) -> None:
        """Keep what is better than the rows' present images.

        Args:
            rows: whose images these are, rising, int64 (n,).
            images: (n, C, H, W).
            reached: bool (n,).
            loss: (n,).
            among: which of them may be kept at all, bool (n,); None: any.
        """
        self._offered = True
        held, highest = of_rows(self.reached, rows), of_rows(self.loss, rows)
        better = (reached & ~held) | ((reached == held) & (loss > highest))
        if among is not None:
            better = better & among
        # Not indexed by what is better: how many these are would have to be asked of the device.
        kept = torch.where(per_sample(better), images, of_rows(self.images, rows))
        self.images = with_rows(self.images, rows, kept)
        self.reached = with_rows(self.reached, rows, torch.where(better, reached, held))
        self.loss = with_rows(self.loss, rows, torch.where(better, loss, highest))
