"""A training run in this process: what it is made of, and what a step and an epoch do to it."""

import contextlib
import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import torch

from robustmix.data.loader import Batch, train_batches
from robustmix.files import write_text
from robustmix.methods.momentum_pair import as_teacher_method
from robustmix.models.checkpoint import Checkpoint, save_checkpoint
from robustmix.models.names import OWN, own_name
from robustmix.models.registry import arch_options
from robustmix.training.checkpoints import Checkpoints
from robustmix.training.pictures import PICTURE_SAMPLES, draw_mixing, picture_samples
from robustmix.training.ranks import Ranks, shared_batch
from robustmix.training.recipe import Recipe
from robustmix.training.recipe_dict import write_recipe
from robustmix.training.run_data import RunData
from robustmix.training.run_folder import RunFolder, clear, new_state
from robustmix.training.state import Times
from robustmix.training.step import Stepper
from robustmix.training.validate import validate_state
from robustmix.training.watch import Watch


class Run:
    """One training run in this process."""

    def __init__(
        self,
        *,
        folder: RunFolder,
        recipe: Recipe,
        data: RunData,
        device: torch.device,
        checkpoint: Checkpoint | None,
        allow_download: bool,
        say: Callable[[str], None],
        ranks: Ranks | None = None,
        published_buffers: bool = False,
        allow_other_world: bool = False,
    ) -> None:
        self.ranks = ranks = ranks or Ranks()
        self.folder = folder
        self.recipe = recipe
        self.data = data
        self.device = device
        self.state = new_state(
            recipe,
            data,
            device,
            continued=checkpoint is not None,
            allow_download=allow_download,
            say=say,
            ranks=ranks,
        )
        self._checkpoints = Checkpoints(
            recipe=recipe,
            data=data,
            ranks=ranks,
            arch_options=arch_options(self.state.classifier),
            arch=own_name(recipe.arch) if recipe.arch.startswith(OWN) else recipe.arch,
            published_buffers=published_buffers,
        )
        self.watch = Watch(self.state, steps=data.steps, last=folder.last)
        self.stepper = Stepper(
            self.state, recipe=recipe, data=data, ranks=ranks, watch=self.watch, say=say
        )
        if checkpoint is not None:
            self._checkpoints.unpack(checkpoint, self.state, allow_other_world=allow_other_world)
            if ranks.first:
                write_recipe(folder.recipe, recipe)
            self.state.times = Times.read(folder.times, self.state.epoch)
        elif ranks.first:
            clear(folder)
            write_recipe(folder.recipe, recipe)
        self.opened = time.monotonic() - self.state.times.elapsed_s

    def identity(self) -> dict[str, str]:
        """Return hashes of what every process of the run must have alike."""
        weights = sum(
            float(p.detach().double().abs().sum()) for p in self.state.method.parameters()
        )
        return {
            "the recipe": self.state.run_id,
            "the data": self.state.data_sha256,
            "the first step": f"{self.state.epoch}/{self.state.step}/{weights!r}",
        }

    def batches(self) -> Generator[Batch]:
        """Yield what is left of the running epoch's batches."""
        state = self.state
        return train_batches(
            self.data.train,
            batch_size=self.recipe.batch_size,
            augment=self.data.augment,
            order=state.streams.order,
            draws=state.streams.draws,
            device=self.device,
            start=state.step,
            drop_last=self.data.augment.drop_last,
            repeats=self.recipe.repeated_augment,
            share=lambda n: shared_batch(n, self.ranks),
        )

    def step(self, batch: Batch) -> None:
        """Make one training step."""
        self.stepper.step(batch)

    def validate(self) -> dict[str, float]:
        """Return what validation finds, as ``validate_state``.

        Raises:
            IncompleteError: the loss is not finite, there or in training.
        """
        self.watch.check()
        self.state.method.eval()
        with self._shared_statistics():
            metrics = validate_state(
                self.state, self.data.val, self.ranks, channels_last=self.recipe.channels_last
            )
        if not all(math.isfinite(value) for value in metrics.values()):
            raise self.watch.error("the validation loss is not finite", self.state.step)
        return metrics

    def _shared_statistics(self) -> contextlib.AbstractContextManager[None]:
        """Let every process have the batch statistics that are validated and saved."""
        return self.ranks.shared_statistics(
            self.state.networks, published=self._checkpoints.published_buffers
        )

    def draw(self, every: int, *, again: bool = True) -> None:
        """Draw what the generator makes of a few validation images, if it is time to.

        Args:
            every: epochs between two pictures; 0 draws none.
            again: draw over a picture that is there.
        """
        epoch = self.state.epoch
        if not self.ranks.first:
            return
        if not again and self.folder.picture(epoch).exists():
            return
        generating = as_teacher_method(self.state.method)
        if generating is None or not every:
            return
        if epoch % every and epoch not in (1, self.recipe.epochs):
            return
        data = self.data.val
        preview = generating.preview(picture_samples(data, PICTURE_SAMPLES, self.device))
        draw_mixing(
            preview,
            self.folder.picture(epoch),
            mean=data.mean,
            std=data.std,
            title=f"{self.recipe.method}, {self.recipe.dataset}, epoch {epoch}",
        )

    def end_epoch(self, metrics: dict[str, float]) -> dict[str, Any]:
        """Add the record of the epoch, write the checkpoints, then the log."""
        state = self.state
        record: dict[str, Any] = {
            "epoch": state.epoch + 1,
            "lr": state.optimizer.param_groups[0]["lr"],
            **{f"train_{name}": value for name, value in state.means.read().items()},
            **metrics,
            "selected_on": self.data.selected_on,
        }
        seconds = time.monotonic() - self.opened - sum(state.times.epochs_s)
        state.times.epochs_s.append(round(seconds, 3))
        state.history.append(record)
        record["summary"] = state.summary()
        state.epoch, state.step = state.epoch + 1, 0
        if record["top1"] > state.best_top1:
            state.best_top1 = record["top1"]
            self._save(self.folder.best, resume=False)
        # ``best`` first: a crash in between repeats the epoch and writes the same ``best`` again.
        self.save_last()
        return self.records()[-1]

    def save_last(self) -> None:
        """Write the checkpoint from which the run continues, then its times and the log."""
        self.state.times.elapsed_s = time.monotonic() - self.opened
        self._save(self.folder.last, resume=True)
        if self.ranks.first:
            write_text(self.folder.times, self.state.times.text())
            self.write_log()

    def records(self) -> list[dict[str, Any]]:
        """Return the records of the finished epochs, with their times."""
        state = self.state
        return [
            {**record, "seconds": seconds}
            for record, seconds in zip(state.history, state.times.epochs_s, strict=True)
        ]

    def write_log(self) -> None:
        """Write the records of the finished epochs where the file does not hold them."""
        text = "".join(json.dumps(one, allow_nan=False) + "\n" for one in self.records())
        file = self.folder.metrics
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            write_text(file, text)

    def _save(self, path: Path, *, resume: bool) -> None:
        self.watch.check()
        own = self.ranks.gathered(self.state.pack_own()) if self.ranks.world > 1 else None
        with self._shared_statistics():
            if not self.state.finite():
                raise self.watch.error("a weight is not finite", self.state.step)
            if self.ranks.first:
                save_checkpoint(
                    path,
                    self._checkpoints.pack(
                        self.state, compiled=self.stepper.compiled, own=own, resume=resume
                    ),
                )


@contextlib.contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Give back torch's global random state, which dropout draws from, as it was."""
    devices = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
