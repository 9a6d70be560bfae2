"""The evaluation engine: parts of suites, in blocks, in batches, with resume and guards.

Results do not depend on the batch size: every draw comes from the sample's id, and every batch is
padded (``robustmix.models.robust_model.padded``).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.errors import IncompleteError
from robustmix.evaluation.progress import EvalProgress, Silence
from robustmix.evaluation.resume_store import BLOCK, UnitStore
from robustmix.evaluation.suite import Batch, Context, Part, Prepared
from robustmix.metrics.scores import score_logits
from robustmix.models.checks import buffers_hash
from robustmix.report.samples import Array, Table


class Interrupted(Exception):
    """The user asked to stop; finished units are kept."""


@dataclass
class Engine:
    """Runs suites over one model and one image set."""

    context: Context
    store: UnitStore
    batch_size: int
    progress: EvalProgress = field(default_factory=Silence)
    should_stop: Callable[[], bool] = lambda: False
    resumed_units: int = 0

    def run(self, suite: Prepared, key: str, positions: Tensor | None = None) -> Table | None:
        """Do the work of a suite that is not done yet and return its rows (None if it has none).

        Args:
            suite: what to do.
            key: its name in the report, under which finished units are kept.
            positions: the samples it covers, rising, int64; None for all.

        Raises:
            IncompleteError: a logit is not finite, or the model changed while it was evaluated.
            Interrupted: ``should_stop`` said so; finished units are on disk.
        """
        context = self.context.cut(positions)
        parts = suite.parts(context)
        self.progress.start(key, len(parts) * len(context.data))
        before = buffers_hash(context.robust)
        rows: dict[tuple[str, int], dict[str, Array]] = {}
        partial = any(part.select for part in parts)
        for part in parts:
            chosen = np.arange(len(context.data)) if part.select is None else part.select(rows)
            columns = self._part(context, key, part, torch.from_numpy(chosen))
            if partial:
                n = len(context.data)
                like = next(iter(rows.values()), {})
                columns = {c: _spread(found, chosen, n, like) for c, found in columns.items()}
            trials = range(suite.rounds) if part.all_trials else (part.trial,)
            for condition in part.conditions:
                for trial in trials:
                    rows[condition, trial] = columns[condition]
        if buffers_hash(context.robust) != before:
            raise IncompleteError(
                "the model's buffers changed while it was evaluated",
                "make forward() leave the module as it is (no running statistics)",
                code="E-BUFFERS",
            )
        if not rows:
            return None
        covered = None if positions is None else positions.numpy()
        return replace(_table(rows, suite.rounds), positions=covered)

    def _part(
        self, context: Context, key: str, part: Part, chosen: Tensor
    ) -> dict[str, dict[str, Array]]:
        unit_name = f"{part.name}-t{part.trial}"
        size = min(part.block or BLOCK, BLOCK)
        blocks = []
        self.progress.advance(key, part.name, len(context.data) - len(chosen))
        for block, start in enumerate(range(0, len(chosen), size)):
            if self.should_stop():
                raise Interrupted
            indices = chosen[start : start + size]
            arrays = self.store.get(key, unit_name, block)
            if arrays is None:
                arrays = self._block(context, key, part, indices)
                self.store.put(key, unit_name, block, arrays)
            else:
                self.resumed_units += 1
                self.progress.advance(key, part.name, len(indices))
            blocks.append(arrays)
        columns: dict[str, dict[str, Array]] = {condition: {} for condition in part.conditions}
        joined = {n: np.concatenate([b[n] for b in blocks]) for n in (blocks[0] if blocks else ())}
        for name, array in joined.items():
            condition, _, column = name.rpartition("|")
            columns[condition][column] = array
        return columns

    def _block(self, context: Context, key: str, part: Part, indices: Tensor) -> dict[str, Array]:
        collected: dict[str, list[Tensor]] = {}
        for chunk in torch.split(indices, part.batch_size or self.batch_size):
            for condition, columns in part.compute(_batch(context, chunk)).items():
                for name, column in columns.items():
                    collected.setdefault(f"{condition}|{name}", []).append(column.detach())
            self.progress.advance(key, part.name, len(chunk))
        arrays: dict[str, Array] = {}
        data = context.data
        ids = [data.sample_ids[i] for i in indices.tolist()]
        for found, tensors in collected.items():
            condition, _, name = found.rpartition("|")
            column = torch.cat(tensors).cpu()
            if name != "logits":
                arrays[found] = column.numpy()
                continue
            scores = score_logits(column, data.labels[indices], sample_ids=ids)
            arrays |= {f"{condition}|{k}": v for k, v in score_columns(scores).items()}
            if part.keep_logits:
                arrays[found] = column.numpy()
        return arrays


def _spread(
    columns: Mapping[str, Array], chosen: NDArray[np.int64], n: int, like: Mapping[str, Array]
) -> dict[str, Array]:
    """Return columns (n,) from those of the chosen samples, with a column ``tested``.

    Where none were chosen there are no columns; they are made in the image of ``like``.
    """
    whole: dict[str, Array] = {name: np.zeros_like(column) for name, column in like.items()}
    whole["tested"] = np.isin(np.arange(n), chosen)
    for name, column in columns.items():
        whole[name] = np.zeros((n, *column.shape[1:]), dtype=column.dtype)
        whole[name][chosen] = column
    return whole


def _batch(context: Context, indices: Tensor) -> Batch:
    data, device = context.data, context.device
    return Batch(
        indices=indices,
        sample_ids=tuple(data.sample_ids[i] for i in indices.tolist()),
        labels=data.labels[indices].to(device),
        images=lambda: data.pixels.take(indices).to(device),
    )


def score_columns(scores: Any) -> dict[str, Array]:
    """Return the per-sample score columns in the types they are stored in."""
    return {
        "pred": scores.pred.astype(np.int32),
        "correct": scores.correct,
        "rank": scores.rank.astype(np.int32),
        "confidence": scores.confidence,
        "nll": scores.nll,
        "brier": scores.brier,
        "margin": scores.margin,
    }


def _table(rows: Mapping[tuple[str, int], Mapping[str, Array]], trials: int) -> Table:
    conditions = tuple(dict.fromkeys(condition for condition, _ in rows))
    names = next(iter(rows.values()))
    return Table(
        conditions,
        {
            name: np.stack(
                [np.stack([rows[c, t][name] for t in range(trials)]) for c in conditions]
            )
            for name in names
        },
    )


@contextlib.contextmanager
def guarded(device: torch.device) -> Iterator[None]:
    """Evaluate without side effects: TF32 off, the caller's generators and settings restored."""
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    devices = [device] if device.type == "cuda" else []
    try:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
