"""The evaluation engine: parts of suites, in blocks, in batches, with resume and guards.

Results do not depend on the batch size: every draw comes from the sample's id, and every batch is
padded (``robustmix.models.robust_model.padded``). The rows of a unit are scored and written beside
the work on the next, so that a GPU need not wait for either.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustmix.arrays import Array
from robustmix.batch_memory import halved
from robustmix.data.images import ImageSet
from robustmix.data.transforms import on_device
from robustmix.errors import IncompleteError, UsageError, out_of_memory
from robustmix.evaluation.block_order import Reading
from robustmix.evaluation.progress import EvalProgress, Silence
from robustmix.evaluation.resume_store import BLOCK, Kept, Unit, UnitStore
from robustmix.evaluation.suite import Batch, Columns, Context, Part, Prepared
from robustmix.metrics.scores import score_logits
from robustmix.models.checks import buffers_hash
from robustmix.precision import tf32
from robustmix.report.rows import own_places
from robustmix.report.samples import Added, Table
from robustmix.report.schema import ShardPart
from robustmix.signals import StopRequest
from robustmix.text import plain

ASK_SECONDS = 5.0
"""How often the caller is asked within a unit; unlike a signal, that may take its time."""

MOST_BATCH = 1_000_000
"""Largest batch; no device takes more, and counters of the network's kernels end at 2^31."""


AUTO = "auto"
"""Asks for batches that fit into the memory of the device."""


def read_batch_size(asked: int | str | None) -> int | None:
    """Read what was asked for: a number, also as text, or ``auto``; None stands for ``auto``.

    Raises:
        UsageError: it is neither, or no batch can have that size.
    """
    if asked is None or asked == AUTO:
        return None
    text = str(asked)
    if isinstance(asked, bool) or not text.removeprefix("-").isdecimal():
        raise UsageError(f"expected --batch-size auto or a number, got {plain(text, 40)!r}")
    check_batch_size(int(text) if len(text) < 20 else MOST_BATCH + 1)
    return int(text)


def check_batch_size(batch_size: int) -> None:
    """Refuse a size that no batch can have.

    Raises:
        UsageError: it is one.
    """
    if not 1 <= batch_size <= MOST_BATCH:
        raise UsageError(f"expected --batch-size from 1 to {MOST_BATCH}, got {batch_size}"[:200])


class Interrupted(BaseException):
    """The user asked to stop; what is done is kept.

    No ``Exception``: attacks of others that catch these must not go on.
    """


@dataclass
class Engine:
    """Runs suites over one model and one image set."""

    context: Context
    store: UnitStore
    batch_size: int
    progress: EvalProgress = field(default_factory=Silence)
    stop: StopRequest = field(default_factory=StopRequest)
    resumed_units: int = 0
    asked: float = 0.0
    """When it was last asked whether to stop."""

    def __post_init__(self) -> None:
        """Let every pass of the model answer signals: a batch of a long attack takes minutes."""
        model = self.context.model

        def answering(images: Tensor) -> Tensor:
            self._answer()
            return model(images)

        self.context = replace(self.context, model=answering)

    def _answer(self, *, unit: bool = False) -> None:
        """Stop if a signal came; ask the caller too before a unit, and now and then within one.

        Raises:
            Interrupted: it is to stop.
        """
        ask = unit or time.monotonic() - self.asked > ASK_SECONDS
        if self.stop.signal is None and not ask:
            return
        self.asked = time.monotonic()
        if self.stop():
            self.progress.stopping()
            raise Interrupted

    def run(
        self,
        suite: Prepared,
        key: str,
        positions: Tensor | None = None,
        *,
        shard: ShardPart | None = None,
    ) -> Table | None:
        """Do the work of a suite that is not done yet and return its rows (None if it has none).

        Where memory runs out, it goes on with half the batch, and half of that: no number changes.

        Args:
            suite: what to do.
            key: its name in the report, under which finished units are kept.
            positions: the samples it covers, rising, int64; None for all.
            shard: of which of these the rows are to be; None for all.

        Raises:
            IncompleteError: a logit is not finite, or the model changed while it was evaluated.
            Interrupted: it was asked to stop; what is done is on disk.
        """

        def run(batch_size: int) -> Table | None:
            self.batch_size = batch_size  # for the suites that follow, too
            with _Shelf(self.store) as shelf:
                return self._run(suite, key, positions, shard, shelf)

        return halved(run, self.batch_size, self.context.device)

    def _run(
        self,
        suite: Prepared,
        key: str,
        positions: Tensor | None,
        shard: ShardPart | None,
        shelf: "_Shelf",
    ) -> Table | None:
        added = suite.added()
        context = self.context.cut(positions)
        covered = len(context.data)
        context = context.beside(added)
        n = len(context.data)
        own, own_added = own_places(covered, shard), own_places(n - covered, shard)
        mine = np.isin(np.arange(n), np.append(own, covered + own_added))
        parts = suite.parts(context)
        self.progress.start(key, len(parts) * int(mine.sum()))
        before = buffers_hash(context.robust)
        rows = self._rows(suite, context, key, parts, mine, shelf)
        if buffers_hash(context.robust) != before:
            raise IncompleteError(
                "the model's buffers changed while it was evaluated",
                "make forward() leave the module as it is (no running statistics)",
                code="E-BUFFERS",
            )
        if not rows:
            return None
        table = _table(rows, suite.rounds)
        places = None if positions is None else positions.numpy()
        if shard is not None:
            table = table.take(np.flatnonzero(mine))
            places = own if places is None else places[own]
        return replace(table, positions=places, added=_own_added(added, own_added))

    def _rows(
        self,
        suite: Prepared,
        context: Context,
        key: str,
        parts: Sequence[Part],
        mine: NDArray[np.bool_],
        shelf: "_Shelf",
    ) -> dict[tuple[str, int], dict[str, Array]]:
        """Do the parts over the samples that are ``mine``; the rows are of all, zeros elsewhere."""
        rows: dict[tuple[str, int], dict[str, Array]] = {}
        selective = any(part.select for part in parts)
        for group in _together(parts):
            select = group[0].select
            chosen = np.arange(len(mine)) if select is None else select(rows)
            chosen = chosen[mine[chosen]]
            for part in group:
                self.progress.advance(key, part.name, int(mine.sum()) - len(chosen))
            found = self._group(context, key, group, torch.from_numpy(chosen), shelf)
            for part, columns in zip(group, found, strict=True):
                if len(chosen) < len(mine) or selective:
                    like = next(iter(rows.values()), {})
                    if selective:
                        like = {"tested": np.zeros(len(mine), dtype=bool), **like}
                    columns = {c: _spread(of, chosen, len(mine), like) for c, of in columns.items()}
                trials = range(suite.rounds) if part.all_trials else (part.trial,)
                for condition in part.conditions:
                    for trial in trials:
                        rows[condition, trial] = columns[condition]
        return rows

    def _group(
        self,
        context: Context,
        key: str,
        group: Sequence[Part],
        chosen: Tensor,
        shelf: "_Shelf",
    ) -> list[dict[str, dict[str, Array]]]:
        """Do parts over the same samples: spans outside, parts inside.

        The images of a span stay decoded, so each is decoded once for all the parts.
        """
        done: list[dict[int, Future[Kept]]] = [{} for _ in group]
        reading = Reading.of(context.data.pixels, self._largest(group))
        for start, stop in reading.spans(len(chosen)):
            for part, blocks in zip(group, done, strict=True):
                for visit in _visits(part, chosen, start, stop):
                    # The last visit of a unit has the whole of it.
                    blocks[visit.block] = self._visit(context, key, part, visit, reading, shelf)
        columns = []
        for part, blocks in zip(group, done, strict=True):
            columns.append(_columns(part, [one.result().arrays for one in blocks.values()]))
            blocks.clear()
        return columns

    def _largest(self, group: Sequence[Part]) -> int:
        return max(part.batch_size or self.batch_size for part in group)

    def _visit(
        self,
        context: Context,
        key: str,
        part: Part,
        visit: "_Visit",
        reading: "Reading",
        shelf: "_Shelf",
    ) -> "Future[Kept]":
        """Give the rows of a unit: those that are kept, and those that this span adds."""
        self._answer(unit=True)
        indices = visit.indices
        ids = [context.data.sample_ids[i] for i in indices.tolist()]
        unit = Unit(key, f"{part.name}-t{part.trial}", visit.block, ids)
        kept = shelf.get(unit) or Kept(0, {})
        if visit.first:
            self.progress.advance(key, part.name, kept.n)
        if kept.n == len(ids):
            self.resumed_units += visit.reach == len(ids)
            return _known(kept)
        # What is kept ends with a batch, so batches of a size of their own stay what they were.
        size = part.batch_size or self.batch_size
        left = max(0, visit.reach - kept.n)
        todo = left if visit.reach == len(ids) else left - left % size
        found: list[_Found] = []
        try:
            for chunk in torch.split(indices[kept.n : kept.n + todo], size) if todo else ():
                self._answer()
                at = kept.n + sum(len(one.indices) for one in found)
                with reading.ahead(f"{key} {part.name}", visit.later[at:]):
                    found.append(_Found(chunk, _computed(context, part, chunk, shelf)))
                self.progress.advance(key, part.name, len(chunk))
        except Interrupted:
            context.judge()
            if found:
                shelf.put(unit, partial(_added, context, part, kept, found))
            raise
        if not found:
            return _known(kept)
        context.judge()
        return shelf.put(unit, partial(_added, context, part, kept, found))


class _Shelf:
    """Scores and writes the rows of units, one after the other, beside what else is done.

    At most one unit waits, so that no more than the results of two are held.
    """

    def __init__(self, store: UnitStore) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, "robustmix-rows")
        self._last: tuple[Unit, Future[Kept]] | None = None

    def __enter__(self) -> "_Shelf":
        return self

    def __exit__(self, *raised: object) -> None:
        """Let what was begun come to its end: it is on disk when an evaluation stops."""
        self._thread.shutdown()
        if raised[0] is None:
            self.settle()

    def get(self, unit: Unit) -> Kept | None:
        """Return the rows that are there of a unit, or None."""
        if self._last is not None and self._last[0] == unit:
            return self._last[1].result()
        return self._store.get(unit)

    def put(self, unit: Unit, rows: Callable[[], Kept]) -> "Future[Kept]":
        """Make the rows of a unit and write them.

        Raises:
            IncompleteError: the rows of the unit before are none.
        """
        self.settle()

        def work() -> Kept:
            kept = rows()
            self._store.put(unit, kept)
            return kept

        self._last = unit, self._thread.submit(work)
        return self._last[1]

    def settle(self) -> None:
        """Wait for the unit that is being put away, and raise what it raised."""
        if self._last is not None:
            self._last[1].result()


def _known(kept: Kept) -> "Future[Kept]":
    future: Future[Kept] = Future()
    future.set_result(kept)
    return future


def _own_added(added: ImageSet | None, places: NDArray[np.int64]) -> Added | None:
    """Name a suite's own samples that a shard has."""
    if added is None or not len(places):
        return None
    ids = tuple(added.sample_ids[i] for i in places)
    return Added(ids, added.labels.numpy().astype(np.int64)[places])


class _Visit(NamedTuple):
    """What a span has of a unit."""

    block: int
    indices: Tensor
    """Of all samples of the unit."""

    reach: int
    """Up to which of them the span goes."""

    first: bool
    """Whether no earlier span has any of them."""

    later: Tensor
    """The samples of the unit and all that follow it."""


def _visits(part: Part, chosen: Tensor, start: int, stop: int) -> Iterator[_Visit]:
    """List the units that have samples from ``start`` to ``stop``."""
    size = min(part.block or BLOCK, BLOCK)
    for block in range(start // size, -(-stop // size)):
        begin = block * size
        indices = chosen[begin : begin + size]
        reach = min(stop - begin, len(indices))
        yield _Visit(block, indices, reach, begin >= start, chosen[begin:])


def _together(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Group parts that follow one another over all samples; others wait for rows before them."""
    group: list[Part] = []
    for part in parts:
        if group and (part.select is not None or group[-1].select is not None):
            yield group
            group = []
        group.append(part)
    if group:
        yield group


def _columns(part: Part, blocks: Sequence[Mapping[str, Array]]) -> dict[str, dict[str, Array]]:
    columns: dict[str, dict[str, Array]] = {condition: {} for condition in part.conditions}
    for name, array in _joined(blocks).items():
        condition, _, column = name.rpartition("|")
        columns[condition][column] = array
    return columns


class _Found(NamedTuple):
    """What a part computed of some samples."""

    indices: Tensor
    rows: Mapping[str, Columns]


def _computed(
    context: Context, part: Part, indices: Tensor, shelf: _Shelf
) -> Mapping[str, Columns]:
    """Work on a batch; what came before it, and only shows now, explains what it led to."""
    try:
        return part.compute(_batch(context, indices))
    except Exception as error:
        if not out_of_memory(error):  # to look takes memory, too
            shelf.settle()
            context.judge()
        raise


def _added(context: Context, part: Part, kept: Kept, found: Sequence[_Found]) -> Kept:
    """Put the rows of some batches behind those that were kept, scores in the place of logits."""
    columns: dict[str, list[Tensor]] = {}
    for one in found:
        for condition, of in one.rows.items():
            for name, column in of.items():
                columns.setdefault(f"{condition}|{name}", []).append(column.detach())
    indices = torch.cat([one.indices for one in found])
    ids = [context.data.sample_ids[i] for i in indices.tolist()]
    arrays: dict[str, Array] = {}
    for name, tensors in columns.items():
        condition, _, kind = name.rpartition("|")
        column = torch.cat(tensors).cpu()
        if kind != "logits":
            arrays[name] = column.numpy()
            continue
        scores = score_logits(column, context.data.labels[indices], sample_ids=ids)
        arrays |= {f"{condition}|{k}": v for k, v in score_columns(scores).items()}
        if part.keep_logits:
            arrays[name] = column.numpy()
    return Kept(kept.n + len(ids), _joined([kept.arrays, arrays] if kept.n else [arrays]))


def _joined(pieces: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    names = pieces[0] if pieces else ()
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}


def _spread(
    columns: Mapping[str, Array], chosen: NDArray[np.int64], n: int, like: Mapping[str, Array]
) -> dict[str, Array]:
    """Return columns (n,) from those of the chosen samples, zeros for the others.

    Where none were chosen there are no columns; they are made in the image of ``like``. Its column
    ``tested``, if it has one, says which were chosen.
    """
    whole: dict[str, Array] = {name: np.zeros_like(column) for name, column in like.items()}
    if "tested" in whole:
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
        labels=on_device(data.labels[indices], device),
        images=lambda: on_device(data.pixels.take(indices), device),
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


def _table(rows: Mapping[tuple[str, int], dict[str, Array]], trials: int) -> Table:
    conditions = tuple(dict.fromkeys(condition for condition, _ in rows))
    names = max(rows.values(), key=len)  # those that no sample was chosen for may lack columns
    for found in rows.values():
        for name in names:
            found.setdefault(name, np.zeros_like(names[name]))
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
    devices = [device] if device.type == "cuda" else []
    with tf32(False), torch.random.fork_rng(devices=devices):
        yield
