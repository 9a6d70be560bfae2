"""The watch over a run: that its loss stays finite, and the line that ends it where it does not."""

from pathlib import Path

import torch
from torch import Tensor

from robustmix.errors import IncompleteError
from robustmix.training.state import TrainState

CHECK_EVERY = 50
"""Steps between two looks at the loss on an accelerator, for each look waits for the device; the
running means that are logged come with it."""


class Watch:
    """Notes the first step whose loss is not finite, and looks at the note now and then.

    Args:
        state: the run's.
        steps: of an epoch.
        last: where the run's newest checkpoint is, if one is written.
    """

    def __init__(self, state: TrainState, *, steps: int, last: Path) -> None:
        self._state = state
        self._steps = steps
        self._last = last
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=state.device)
        self.looked: dict[str, float] = {}
        """The running means, after a step that was looked at."""

    def note(self, loss: Tensor, lr: float) -> None:
        """Note whether the loss of the running step is finite; look at the note if it is time to.

        Raises:
            IncompleteError: it was not, in this step or an earlier one.
        """
        bad = ~loss.isfinite() & (self._first_bad < 0)
        self._first_bad = torch.where(bad, self._state.step, self._first_bad)
        self.looked = {}
        iteration = self._state.epoch * self._steps + self._state.step
        if (iteration + 1) % CHECK_EVERY == 0:
            self.looked, (step,) = self._state.means.read_with(self._first_bad)
            self._check_step(int(step), lr)
        elif self._state.device.type == "cpu":
            self.check(lr)

    def check(self, lr: float | None = None) -> None:
        """Look at the note, which waits for the device.

        Args:
            lr: the learning rate to tell; that of the optimiser if None.

        Raises:
            IncompleteError: the loss of a step was not finite.
        """
        self._check_step(int(self._first_bad), lr)

    def _check_step(self, first_bad: int, lr: float | None) -> None:
        if first_bad >= 0:
            raise self.error("the loss is not finite", first_bad + 1, lr)

    def error(self, what: str, step: int, lr: float | None = None) -> IncompleteError:
        """Return the error of what is not finite.

        Args:
            what: the complaint.
            step: of the running epoch, from 1.
            lr: the learning rate to tell; that of the optimiser if None.
        """
        epoch = self._state.epoch + 1
        rate = self._state.optimizer.param_groups[0]["lr"] if lr is None else lr
        kept = "; the checkpoint before it is kept" if self._last.exists() else ""
        return IncompleteError(
            f"{what} in epoch {epoch}, step {step} of {self._steps}, lr {rate:.4g}{kept}",
            "lower lr, set grad_clip, or use precision fp32, and train into a new folder",
            code="E-NONFINITE-LOSS",
        )
