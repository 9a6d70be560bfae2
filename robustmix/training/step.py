"""One training step: the learning rates, the gradient of a batch, and what the gradient changes."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch, images_per_epoch
from robustmix.methods.method import Method, StepResult
from robustmix.training.compiled import Step, compile_mode, compiled_step, why_eager
from robustmix.training.optim import set_learning_rates, trainable, update
from robustmix.training.parts import NormAverage, batch_parts
from robustmix.training.ranks import Ranks
from robustmix.training.recipe import Recipe
from robustmix.training.run_data import RunData
from robustmix.training.state import TrainState
from robustmix.training.watch import Watch


class Stepper:
    """Makes the steps of a run.

    Args:
        state: what a step changes.
        recipe: of the run, complete.
        data: of the run.
        ranks: this process among those of the run.
        watch: told of every loss.
        say: told whether steps are compiled.

    Raises:
        UsageError: they should be, and cannot be here.
    """

    def __init__(
        self,
        state: TrainState,
        *,
        recipe: Recipe,
        data: RunData,
        ranks: Ranks,
        watch: Watch,
        say: Callable[[str], None],
    ) -> None:
        self._state = state
        self._recipe = recipe
        self._data = data
        self._ranks = ranks
        self._watch = watch
        self._method = cast(Method, state.method)
        self.compiled = compile_mode(recipe.compile, state.device)
        """How steps are compiled; None where they are not."""
        self._step = self._make_step(say)

    def step(self, batch: Batch) -> None:
        """Make one training step."""
        state, recipe, steps = self._state, self._recipe, self._data.steps
        iteration, total = state.epoch * steps + state.step, recipe.epochs * steps
        lr = set_learning_rates(state.optimizer, recipe, iteration, steps)
        teacher = state.teacher
        if teacher is not None:
            teacher.before_step(iteration, total)
        if recipe.accumulate * recipe.norm_groups(self._ranks.world) * self._ranks.world == 1:
            loss, logs = self._forward(batch)
            state.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            state.means.add(logs, len(batch.labels))
            left_out = logs.get("skipped")
        else:
            loss, left_out = self._gradient_of_parts(batch)
        if recipe.grad_clip and recipe.optimizer != "lamb":  # which does it itself
            nn.utils.clip_grad_norm_(state.method.parameters(), recipe.grad_clip)
        # Eagerly on the CPU a term that is left out is no part of the gradient either.
        known = state.device.type == "cpu" and self.compiled is None
        update(state.optimizer, None if known else left_out)
        if teacher is not None:
            teacher.after_step(iteration, total)
        if state.ema is not None:
            state.ema.update(state.classifier, iteration)
        self._watch.note(loss.detach(), lr)
        state.step += 1

    def images_in_step(self, batch: Batch) -> int:
        """Return how many images the batch of the coming step has in all processes."""
        if self._ranks.world == 1:
            return len(batch.labels)
        shown = images_per_epoch(len(self._data.train), self._recipe.repeated_augment)
        size = self._recipe.batch_size
        return min(size, shown - self._state.step * size)

    def _make_step(self, say: Callable[[str], None]) -> Step:
        """Return what makes a batch a loss, compiled if it is to be; say so."""
        if self.compiled is None:
            return self._method.training_step
        size = -(-self._recipe.batch_size // (self._recipe.accumulate * self._ranks.world))

        def otherwise(why: str) -> None:
            self.compiled = None
            say(f"W-NOT-COMPILED: steps are computed eagerly, for they cannot be compiled: {why}")

        asked = self._recipe.compile == "on"
        step = compiled_step(
            self._method, size, self.compiled, otherwise=None if asked else otherwise
        )
        if step is None:
            say(
                f"W-NOT-COMPILED: steps of {self._recipe.method} are computed eagerly: "
                f"{why_eager(self._method)}"
            )
            self.compiled = None
            return self._method.training_step
        say(f"steps are compiled ({self.compiled}); the first of each kind takes its time")
        return step

    def _forward(self, batch: Batch) -> StepResult:
        bf16 = self._recipe.precision == "bf16"
        with torch.autocast(self._state.device.type, torch.bfloat16, enabled=bf16):
            return self._step(self._layout(batch))

    def _layout(self, batch: Batch) -> Batch:
        if not self._recipe.channels_last:
            return batch
        return batch._replace(images=batch.images.contiguous(memory_format=torch.channels_last))

    def _gradient_of_parts(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Leave the gradient of a batch that has parts, here or elsewhere.

        Return its loss, and how many terms were left out.
        """
        state, ranks, ways = self._state, self._ranks, self._recipe.accumulate
        groups = self._recipe.norm_groups(ranks.world)
        count, own = self.images_in_step(batch), len(batch.labels)
        # Of a small batch every process has all, with the draws of one alone.
        rank, world = (ranks.rank, ranks.world) if own < count else (0, 1)
        weight = 1.0 if own < count else 1 / ranks.world
        mix = state.streams.mix
        key = int(mix.integers(2**63))
        state.optimizer.zero_grad(set_to_none=True)
        average, sums = NormAverage(state.method), dict[str, Tensor]()
        left_out: list[Tensor] = []
        for i, part in enumerate(batch_parts(batch, ways)):
            average.begin_part()
            with mix.of_parts(key, [rank + world * (i + ways * j) for j in range(groups)]):
                loss, logs = self._forward(part)
            share = weight * len(part.labels) / count
            torch.autograd.backward(share * loss)
            average.end_part()
            for name, value in {"": loss.detach(), **logs}.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + share * value
            if "skipped" in logs:
                left_out.append(logs["skipped"].clone())  # a CUDA graph overwrites it
        average.end()
        skipped = torch.stack(left_out).sum() if left_out else None
        others = [sums[name] for name in sorted(sums)] + ([] if skipped is None else [skipped])
        ranks.sum_gradients(trainable(state.method), others)
        total = sums.pop("")
        state.means.add(sums, count)
        return total, skipped
