"""Looking at a network that is random: the mean of several passes, with draws of their own."""

import contextlib
from collections.abc import Iterator

from robustmix.attacks.doubts import Doubts
from robustmix.attacks.losses import Goal, Slope, Standing, scores, slope, standing
from robustmix.later import Tensor, torch
from robustmix.rng import philox
from robustmix.types import Model

_STREAMS = 1 << 30  # other streams of a key are for starts (fewer) and for members (more)


class Looks:
    """How a search looks at images: by one pass, or by the mean of several of a random network.

    A network that draws from torch's own stream draws for a whole batch. Every look of several
    passes therefore sets the stream by the first sample's key and the number of the look, and puts
    it back afterwards. What is found of a sample then depends on the samples that come with it, but
    neither on what was drawn before nor on the day. With one pass nothing is set.

    Args:
        eot: passes of a look.
        keys: one 64-bit key a sample, int64 (N,).

    Raises:
        ValueError: fewer than one pass.

    Reference:
        Athalye et al. 2018, arXiv:1802.00420, section 4.2 ("expectation over transformation").
    """

    def __init__(self, eot: int, keys: Tensor) -> None:
        if eot < 1:
            raise ValueError(f"expected eot >= 1, got {eot}")
        self.eot = eot
        self._key = keys[:1].cpu() if eot > 1 else keys[:0]
        self._made = 0

    @contextlib.contextmanager
    def drawing(self, device: "torch.device") -> Iterator[None]:
        """Let what the network draws follow from the keys, if it is looked at several times."""
        if not len(self._key):
            yield
            return
        (seed,) = philox(self._key, 1, counter_high=_STREAMS + self._made)[0].tolist()
        self._made += 1
        with own_stream(device, seed):
            yield

    def slope(self, model: Model, images: Tensor, goal: Goal, doubts: Doubts) -> Slope:
        """Give means of loss, gradient and logits; the goal is reached where the mean logits do.

        Raises:
            IncompleteError: as :func:`robustmix.attacks.losses.slope`.
        """
        with self.drawing(images.device):
            first = slope(model, images, goal, doubts)
            if self.eot == 1:
                return first
            loss, gradient, logits = first.loss, first.gradient, first.logits
            for _ in range(self.eot - 1):
                more = slope(model, images, goal, doubts)
                loss, gradient = loss + more.loss, gradient + more.gradient
                logits = logits + more.logits
        logits = logits / self.eot
        return Slope(loss / self.eot, goal.reached(logits), gradient / self.eot, logits)

    def standing(self, model: Model, images: Tensor, goal: Goal, doubts: Doubts) -> Standing:
        """Give means of loss and logits, likewise, without gradients.

        Raises:
            IncompleteError: a logit is NaN or infinite (``E-NONFINITE``).
        """
        if self.eot == 1:
            return standing(model, images, goal, doubts)
        with self.drawing(images.device), torch.no_grad():
            seen = [scores(model, images, doubts) for _ in range(self.eot)]
            losses = torch.stack([goal.values(logits) for logits in seen])
        reached = goal.reached(torch.stack(seen).mean(dim=0))
        return Standing(losses.mean(dim=0).to(images.dtype), reached)


@contextlib.contextmanager
def own_stream(device: "torch.device", seed: int) -> Iterator[None]:
    """Seed torch's own stream, and put it back afterwards.

    Args:
        device: whose stream is put back, beside the processor's.
        seed: in [0, 2^63).
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
