"""The checkpoints of a run: what they hold, and how a run goes on from one."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from robustmix.errors import IncompatibleError, IntakeError
from robustmix.methods.momentum_pair import DEPLOYED_HEAD
from robustmix.models.checkpoint import Checkpoint
from robustmix.training.ranks import Ranks
from robustmix.training.recipe import Recipe
from robustmix.training.recipe_dict import recipe_to_dict
from robustmix.training.run_data import RunData
from robustmix.training.run_folder import foreign_parts
from robustmix.training.state import TrainState, data_digest_without_pixels, to_cpu


@dataclass(frozen=True, kw_only=True)
class Checkpoints:
    """What all checkpoints of a run have in common."""

    recipe: Recipe
    """Complete."""

    data: RunData
    ranks: Ranks
    arch: str
    arch_options: dict[str, str | int | float]
    published_buffers: bool
    """Whether the first process's batch statistics are saved, not the mean over the processes."""

    def unpack(self, checkpoint: Checkpoint, state: TrainState, *, allow_other_world: bool) -> None:
        """Let a run go on from a checkpoint.

        Args:
            checkpoint: of this run or of an equal one.
            state: the run's, which becomes what it was.
            allow_other_world: also with another number of processes.

        Raises:
            IntakeError: the checkpoint holds no state, or one that does not fit.
            IncompatibleError: it is of a run on other images or of another number of processes.
        """
        if checkpoint.resume is None:
            raise IntakeError(
                "the checkpoint holds a model only, not the state of its training",
                "continue from last.pth",
            )
        recorded, data = checkpoint.resume.get("data_sha256"), self.data
        if recorded != state.data_sha256 and recorded != data_digest_without_pixels(
            data.train, data.val
        ):
            raise IncompatibleError(
                f"the images of {self.recipe.dataset} are not those the run began with",
                "restore them, or start anew with --resume never",
            )
        own = checkpoint.resume.get("ranks", [None])
        if len(own) != self.ranks.world and not allow_other_world:
            raise IncompatibleError(
                f"the run was stopped with {len(own)} process{'es' if len(own) > 1 else ''}, here "
                f"{'are' if self.ranks.world > 1 else 'is'} {self.ranks.world}: batch statistics "
                "and partners are of a process's own images",
                "start as many, or go on inexactly with --allow-other-world",
                code="E-OTHER-WORLD",
            )
        state.unpack(checkpoint.resume)
        if len(own) == self.ranks.world > 1:
            state.unpack_own(own[self.ranks.rank])
        state.run_id = checkpoint.run_id

    def pack(
        self, state: TrainState, *, compiled: str | None, own: list[Any] | None, resume: bool
    ) -> Checkpoint:
        """Return the checkpoint of a run as it is now.

        Args:
            state: the run's.
            compiled: how its steps are compiled; None where they are not.
            own: what each process has of its own, ``TrainState.pack_own``; None of one alone.
            resume: whether a run can go on from it.
        """
        train = self.data.train
        shared = {} if own is None else {"ranks": own}
        seen: dict[Any, Tensor] = {}
        return Checkpoint(
            arch=self.arch,
            arch_options=self.arch_options,
            method=self.recipe.method,
            num_classes=train.num_classes,
            input_size=train.input_size,
            mean=train.mean,
            std=train.std,
            class_names=train.class_names,
            dataset=self.recipe.dataset,
            recipe=recipe_to_dict(self.recipe),
            run_id=state.run_id,
            epoch=state.epoch,
            metrics=self._metrics(state, compiled),
            weights="ema" if _averaged(state) else "raw",
            head=None if state.teacher is None else DEPLOYED_HEAD,
            model=to_cpu(state.deployed.state_dict(), seen),
            raw=None if state.ema is None else to_cpu(state.classifier.state_dict(), seen),
            resume={**state.pack(seen), **shared} if resume else None,
            plugins=foreign_parts(self.recipe),
        )

    def _metrics(self, state: TrainState, compiled: str | None) -> dict[str, Any]:
        """Return what is known of the weights as they are now."""
        metrics: dict[str, Any] = {"selected_on": self.data.selected_on}
        if compiled is not None:
            metrics["compiled"] = compiled
        if self.data.selected_on == "val":
            metrics["val_split"] = {"fraction": self.recipe.val_split, "seed": self.recipe.seed}
        if self.data.partial:
            metrics["partial"] = {name: list(counts) for name, counts in self.data.partial.items()}
        if self.ranks.world > 1:
            metrics["processes"] = self.ranks.world
            metrics["buffers"] = "first process" if self.published_buffers else "mean"
        if state.step:
            return {**metrics, "steps_into_epoch": state.step}
        return {**metrics, **state.history[-1]} if state.history else metrics


def _averaged(state: TrainState) -> bool:
    teacher = state.teacher
    return state.ema is not None or (teacher is not None and teacher.pair.averaged)
