"""What a training tells its hook, and when."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from robustmix.data.decode import open_rgb
from robustmix.errors import RobustmixError, explained
from robustmix.loggers.events import Hook, Pictures, RunFinished, RunStarted, Scalars
from robustmix.training.recipe import Recipe
from robustmix.training.recipe_dict import recipe_to_dict
from robustmix.training.run_folder import RunFolder
from robustmix.training.state import TrainState

MIXING = "mixing"
"""Name of the pictures of masks and mixtures."""


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of ``metrics.jsonl``, those inside others by dotted names.

    Example:
        >>> numbers_of({"epoch": 2, "lr": 0.1, "selected_on": "val", "summary": {"best": 0.5}})
        {'lr': 0.1, 'summary.best': 0.5}
    """
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": number for inner, number in numbers_of(value).items()}
        elif isinstance(value, int | float) and name != "epoch":
            found[name] = float(value)
    return found


@dataclass(frozen=True, kw_only=True)
class Telling:
    """A run, and who is told of it; None: nobody."""

    hook: Hook | None
    folder: RunFolder
    steps: int
    """Steps an epoch."""

    pictures: bool
    """Whether the run draws any; what an older one left in its place is none of its own."""

    def started(self, recipe: Recipe, state: TrainState) -> RunStarted:
        """Return what is told of the run when it begins or goes on."""
        path = self.folder.path.absolute()
        step = state.epoch * self.steps + state.step
        # Folders of several seeds have names that say no more than the seed.
        seeds = path.name == f"seed-{recipe.seed}"
        return RunStarted(
            kind="train",
            name=f"{path.parent.name}-{path.name}" if seeds else path.name,
            run_id=state.run_id,
            folder=self.folder.path,
            config=recipe_to_dict(recipe),
            continued=step > 0,
            step=step,
        )

    @contextlib.contextmanager
    def run(self, started: RunStarted, records: Sequence[Mapping[str, Any]]) -> Iterator["Ended"]:
        """Tell that a run begins, what its earlier epochs came to, and how it ends.

        Args:
            started: the run.
            records: of the finished epochs.
        """
        ended = Ended()
        if self.hook is None:
            yield ended
            return
        self.hook(started)
        try:
            for record in records:
                self.epoch(record)
            yield ended
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)
            told = "" if stopped or not isinstance(error, Exception) else explained(error).line()
            self.hook(RunFinished(status="stopped" if stopped else "failed", error=told))
            raise
        self.hook(RunFinished(status="done" if ended.whole else "stopped"))

    def means(self, epoch: int, step: int, lr: float, means: Mapping[str, float]) -> None:
        """Tell numbers inside an epoch, called as they are at its end.

        Args:
            epoch: finished ones.
            step: of the epoch after them, from 1.
            lr: the learning rate.
            means: over the epoch so far.
        """
        if self.hook is not None:
            at = epoch * self.steps + step
            values = {"lr": lr, **{f"train_{name}": value for name, value in means.items()}}
            self.hook(Scalars(step=at, epoch=at / self.steps, values=values))

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Show the picture of an epoch if it has one, and tell what it came to."""
        if self.hook is None:
            return
        epoch = int(record["epoch"])
        step = epoch * self.steps
        picture = self.folder.picture(epoch)
        if self.pictures and picture.is_file():
            with contextlib.suppress(RobustmixError):  # damaged since it was drawn
                pixels = np.array(open_rgb(picture))
                self.hook(Pictures(step=step, name=MIXING, pixels=pixels))
        self.hook(Scalars(step=step, epoch=float(epoch), values=numbers_of(record)))


@dataclass
class Ended:
    """How a run ended."""

    whole: bool = False
    """Whether all its epochs are made."""
