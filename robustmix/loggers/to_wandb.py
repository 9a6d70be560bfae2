"""Numbers and pictures to Weights & Biases."""

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustmix.errors import UsageError
from robustmix.loggers.events import Event, Hook, Pictures, RunFinished, RunStarted, Scalars
from robustmix.loggers.events import SuiteFinished as Suite
from robustmix.loggers.memory import Memory

PROJECT = "robustmix"

_ALONE = "wandb" not in sys.modules
"""Whether nobody else in this process uses W&B, whose own process may then be ended."""


def open_wandb(started: RunStarted, folder: Path, memory: Memory) -> Hook:
    """Return a logger of a run with the service, or of an offline one below ``folder/wandb``.

    A continued run goes on under its id; steps that it makes again stay as they were logged first.
    Metrics of suites are the run's summary, ``SUITE/METRIC``. ``WANDB_PROJECT``, ``WANDB_ENTITY``,
    ``WANDB_NAME``, ``WANDB_RUN_GROUP``, ``WANDB_TAGS``, ``WANDB_MODE`` and ``WANDB_DIR`` act as
    everywhere.
    """
    import wandb

    memory.id = memory.id or secrets.token_hex(4)
    memory.save()
    with _own_cache(folder):
        run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", started.name),
            id=memory.id,
            dir=os.environ.get("WANDB_DIR", folder),
            resume="allow",
            job_type=started.kind,
            config=dict(started.config),
            # Output is the user's: it is neither captured nor added to.
            settings=wandb.Settings(silent=True, console="off", **_written_soon(wandb.Settings)),
        )

    def log(event: Event) -> None:
        match event:
            case Scalars():
                # At once: rows that wait for more of their step are lost in a kill.
                values = {"epoch": event.epoch, **event.values}
                run.log(values, step=event.step, commit=True)
            case Pictures():
                step = event.step or None  # in an evaluation W&B counts
                run.log({event.name: wandb.Image(event.pixels)}, step=step, commit=step is None)
            case Suite():
                run.summary.update({f"{event.suite}/{k}": v for k, v in event.metrics.items()})
            case RunFinished():
                if event.error:
                    run.summary["error"] = event.error
                run.finish(exit_code=0 if event.status == "done" else 1)
                if _ALONE:  # else the last lines are written after this process has gone on
                    wandb.teardown()

    return log


def _written_soon(settings: type) -> dict[str, Any]:
    """Ask for a file that is at most a second behind, where this version of W&B can be asked.

    Its own process ends with this one, and by default a kill costs what 15 seconds have brought.
    """
    name = "x_transaction_log_flush_interval"
    return {name: 1.0} if name in getattr(settings, "model_fields", ()) else {}


@contextlib.contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    """Let W&B's own process, which is started inside, keep its logs below the run's folder."""
    name = "WANDB_CACHE_DIR"
    if name in os.environ:
        yield
        return
    os.environ[name] = str((folder / "wandb" / "cache").absolute())
    try:
        yield
    finally:
        os.environ.pop(name, None)


def require_account() -> None:
    """Refuse to begin where W&B would ask for a key in the middle.

    Raises:
        UsageError: nobody is logged in, and it is not offline.
    """
    import wandb

    if os.environ.get("WANDB_MODE") in ("offline", "disabled", "dryrun") or wandb.api.api_key:
        return
    raise UsageError(
        "--log wandb: nobody is logged in",
        "log in with `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline",
        code="E-LOGGER",
    )
