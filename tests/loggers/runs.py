"""Small runs that are logged, and what lies in the logs."""

import importlib.util
import json
import shutil
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from robustmix.loggers import Event, Hook, Scalars
from robustmix.training import TrainResult, watch
from tests.training.runs import log, small_train, stop_after

EPOCHS, STEPS = 4, 3

LOOK_EVERY = 5
"""Instead of 50 steps."""

ENDS = [STEPS * epoch for epoch in range(1, EPOCHS + 1)]
"""Last steps of the epochs."""

LOOKS = [5, 10]
"""Steps inside an epoch whose means are told."""

TOLD = sorted([*ENDS, *LOOKS])

Rows: TypeAlias = dict[int, dict[str, float]]
"""Step -> numbers."""


def logged_train(out: Path, hook: Hook | None, **changes: Any) -> TrainResult:
    """Train for four epochs of three steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "CHECK_EVERY", LOOK_EVERY)
        return small_train(out, epochs=EPOCHS, on_event=hook, **changes)


def train_with_the_log_ahead(out: Path, *hooks: Hook) -> TrainResult:
    """Stop at step 4, at 8, and go on from 4 as after a kill; a hook for each of the calls."""
    first, second, third = hooks
    logged_train(out, first, should_stop=stop_after(4))
    kept = out.with_name("kept")
    shutil.copytree(out / "checkpoints", kept)
    logged_train(out, second, should_stop=stop_after(4))
    shutil.rmtree(out / "checkpoints")
    kept.rename(out / "checkpoints")
    return logged_train(out, third)


def scalars_of(events: list[Event]) -> Rows:
    return {one.step: dict(one.values) for one in events if isinstance(one, Scalars)}


def from_metrics(run_dir: Path) -> Rows:
    """What ``metrics.jsonl`` says at the end of each epoch, flat."""
    found = {}
    for line in log(run_dir):
        summary = {f"summary.{name}": value for name, value in line.pop("summary").items()}
        numbers = {k: v for k, v in line.items() if k not in ("epoch", "selected_on")}
        found[line["epoch"] * STEPS] = {**numbers, **summary}
    return found


def untimed(rows: Rows) -> Rows:
    """Without what equal runs differ in."""
    return {
        step: {k: v for k, v in row.items() if k not in ("seconds", "epoch")}
        for step, row in rows.items()
    }


def wandb_records(folder: Path) -> Iterator[Any]:
    """What the offline runs in a folder hold, in the order they were made."""
    from wandb.proto import wandb_internal_pb2

    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for _ in range(1000):
            records = [
                wandb_internal_pb2.Record.FromString(data)
                for data in leveldb_records(path.read_bytes())
            ]
            if records and records[-1].WhichOneof("record_type") == "exit":
                break
            # W&B's own process may still be writing, where another test had it started.
            time.sleep(0.01)
        yield from records


def leveldb_records(data: bytes) -> Iterator[bytes]:
    """Read LevelDB's log format, as W&B writes it after a head of seven bytes.

    Blocks of 32 KiB; in them records, each a checksum (4), a length (2), a kind (1), and its bytes:
    all of a record, its first, a middle or its last part.
    """
    at, record = 7, b""
    while at + 7 <= len(data):
        if at % 2**15 > 2**15 - 7:  # a rest too short for a head
            at += -at % 2**15
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""


def wandb_rows(folder: Path) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for record in wandb_records(folder):
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            values = {i.key or i.nested_key[0]: json.loads(i.value_json) for i in items}
            found.append((int(values["_step"]), values))
    return found


def without(package: str) -> pytest.MarkDecorator:
    """Skip where an optional package is not installed."""
    there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not there, reason=f"{package} is not installed")
