"""What a fault inside a suite is called in its part of the report."""

import traceback
from pathlib import Path

from robustmix.errors import IncompleteError
from robustmix.errors import out_of_memory as out_of_memory
from robustmix.report.schema import OriginPart

LONGEST = 500
"""Most characters of what an exception says; it may print a tensor."""


def suite_fault(key: str, error: BaseException, origins: list[OriginPart]) -> IncompleteError:
    """Say in one line which suite raised what, and where.

    Args:
        key: the suite's place in the report.
        error: what it raised.
        origins: the foreign things that make the suite's numbers, if any.
    """
    if out_of_memory(error):
        return IncompleteError(
            f"suite {key} ran out of memory",
            "give a smaller --batch-size or another --device",
            code="E-MEMORY",
        )
    said = f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST]
    if origins:
        return IncompleteError(
            f"{origins[0].module} raised {said}, in suite {key}", code="E-PLUGIN"
        )
    frames = traceback.extract_tb(error.__traceback__)
    # The file's name alone: reports are published.
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return IncompleteError(f"suite {key} raised {said}{where}", code="E-SUITE-RAISED")
