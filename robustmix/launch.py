"""How this process was started: alone, or by torchrun as one of several ranks."""

import contextlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from robustmix.errors import UsageError


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together."""

    rank: int = 0
    """0-based, over all nodes."""

    local_rank: int = 0
    """0-based, on this node."""

    world: int = 1
    """Processes in all."""

    @property
    def together(self) -> bool:
        """Whether there are others."""
        return self.world > 1


def launched(environ: Mapping[str, str] = os.environ) -> Launch:
    """Read torchrun's variables; one process alone where torchrun did not start it.

    Raises:
        UsageError: they are not whole numbers that fit each other.
    """
    if "TORCHELASTIC_RUN_ID" not in environ:
        return Launch()
    try:
        found = Launch(*(int(environ[name]) for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")))
        fits = 0 <= found.rank < found.world and found.local_rank >= 0
    except (KeyError, ValueError):
        fits = False
    if not fits:
        raise UsageError(
            "RANK, LOCAL_RANK and WORLD_SIZE in the environment do not fit each other",
            "start with torchrun, which sets them",
            code="E-LAUNCH",
        )
    return found


def refuse_unlaunched(instead: str, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse several processes that something else started, each of which would do the whole work.

    Args:
        instead: what to do.
        environ: the environment.

    Raises:
        UsageError: it speaks of more than one process.
    """
    if "TORCHELASTIC_RUN_ID" not in environ and environ.get("WORLD_SIZE", "1") != "1":
        raise UsageError(
            f"WORLD_SIZE is {environ['WORLD_SIZE'][:20]}, but torchrun did not start this process",
            f"{instead}, or unset WORLD_SIZE",
            code="E-LAUNCH",
        )


def leave(code: int) -> NoReturn:
    """End this process; where there are others, without what Python does at its end.

    While the interpreter takes itself down, torch now and then aborts a process that was connected
    with others: in one run of seven on a busy machine (torch 2.14), after all its work was done.
    torchrun would then call the run failed, and end the others.

    Args:
        code: exit code.
    """
    with contextlib.suppress(UsageError):
        if launched().together:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError, AttributeError):  # none, or closed
                    stream.flush()
            os._exit(code)
    raise SystemExit(code)
