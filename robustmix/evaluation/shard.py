"""One of several shares of an evaluation, each computed by a process of its own.

A shard evaluates the clean images of the whole split, so that whatever is fitted to them or chosen
by them is every shard's, and of each other suite its share of the images. Nothing passes between
the processes; ``robustmix report merge`` joins what they leave.
"""

import os
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from robustmix.errors import UsageError
from robustmix.launch import launched

Divided: TypeAlias = Literal["samples", "whole", "one"]
"""How shards share a suite. ``samples``: each takes its part of them. ``whole``: each takes all,
for others need all of it. ``one``: one shard takes all, for what is found of a sample depends on
the others."""

MOST_SHARDS = 100_000


def parse_shard(text: str, environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Read ``I/N``, I from 1 to N, or ``auto``: of torchrun or of a Slurm job array.

    Args:
        text: what was asked for.
        environ: for ``auto``: RANK and WORLD_SIZE, or SLURM_ARRAY_TASK_ID, _MIN, _MAX
            and _COUNT.

    Raises:
        UsageError: it is neither, or there is nothing to be read.

    Example:
        >>> parse_shard("2/8")
        (2, 8)
        >>> parse_shard("auto", {"RANK": "0", "WORLD_SIZE": "4"})
        (1, 4)
    """
    if text == "auto":
        return _from_environment(environ)
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count <= MOST_SHARDS:
        raise UsageError(
            f"cannot take --shard {text[:60]}",
            "write I/N with I from 1 to N, e.g. 2/8, or auto",
            code="E-SHARD",
        )
    return index, count


def _from_environment(environ: Mapping[str, str]) -> tuple[int, int]:
    try:
        if "WORLD_SIZE" in environ:
            index, count = int(environ["RANK"]) + 1, int(environ["WORLD_SIZE"])
        else:
            first, last = (int(environ[f"SLURM_ARRAY_TASK_{end}"]) for end in ("MIN", "MAX"))
            index = int(environ["SLURM_ARRAY_TASK_ID"]) - first + 1
            count = int(environ["SLURM_ARRAY_TASK_COUNT"])
            if first > 1 or last - first + 1 != count:  # some tasks of an array, submitted again
                count = 0
        if 1 <= index <= count <= MOST_SHARDS:
            return index, count
    except (KeyError, ValueError):
        pass
    raise UsageError(
        "--shard auto finds no RANK of WORLD_SIZE and no whole Slurm job array 0-(N-1) or 1-N in "
        "the environment",
        "write --shard I/N, start with torchrun, or submit with sbatch --array=1-N",
        code="E-SHARD",
    )


def shard_of_launch() -> tuple[int, int] | None:
    """Give the shard of a process that torchrun started with others; None of any other."""
    launch = launched()
    return (launch.rank + 1, launch.world) if launch.together else None
