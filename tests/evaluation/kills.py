"""A program that kills evaluations, one fork a kill, and continues them.

``python -m tests.evaluation.kills FOLDER renames 0,1,5`` kills before and after these renames of an
evaluation, ``... random 20`` at random moments. Every evaluation that was killed is continued until
it ends; what it leaves is then compared with what one leaves that was let alone.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from robustmix.errors import IncompatibleError, UsageError
from robustmix.evaluation import engine
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.report.report import Report
from tests.evaluation.attacks import attack
from tests.evaluation.test_engine import comparable
from tests.evaluation.tiny import tiny_images, tiny_model

SUITES: list[Any] = [
    "clean",
    "calibration",
    Corruption(corruptions="fog,snow", severity=(2,)),
    attack("pgd", steps=3, sweep=()),
    Occlusion(ratios=(0.25, 0.5), trials=2),  # type: ignore[arg-type] # natural types will do
]
BEFORE: list[Any] = ["clean", Occlusion(ratios=(0.5,), trials=1)]  # type: ignore[arg-type]
"""Another evaluation, whose report lies where the killed one begins with ``force``."""


def run(out: Path, **how: Any) -> Report:
    return evaluate(tiny_model(), tiny_images(90), SUITES, out=out, **how)


def forked(work: Callable[[], object]) -> int:
    """Do something in a process of its own and return its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"the child ended with {error!r}\n")
        os._exit(3)


def killed_at(place: int, after: bool) -> None:
    """Kill this process before or after one of the renames to come."""
    real, count = os.replace, [0]

    def replace(*paths: Any) -> None:
        count[0] += 1
        if count[0] - 1 == place and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*paths)
        if count[0] - 1 == place:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, "replace", replace)  # noqa: B010 # a plain assignment is of another type


def renames(out: Path) -> int:
    """Count the renames of an evaluation that is let alone."""
    real, count = os.replace, [0]

    def replace(*paths: Any) -> None:
        count[0] += 1
        real(*paths)

    setattr(os, "replace", replace)  # noqa: B010
    run(out)
    setattr(os, "replace", real)  # noqa: B010
    return count[0]


def continued(out: Path) -> None:
    """Continue as a user does, who is told when there is nothing to continue."""
    try:
        run(out, resume=True)
    except IncompatibleError:  # killed before the old report was touched
        assert list((out / "units").rglob("*")) == []
        with pytest.raises(UsageError, match="already holds a report"):
            run(out)
        run(out, force=True)


def check(out: Path, whole: Path) -> None:
    """Compare what two evaluations left."""
    found, wanted = Report.load(out), Report.load(whole)
    assert found.content.run.status == "success"
    assert comparable(found) == comparable(wanted)
    assert recompute(found) == []
    assert files(out) == files(whole), (files(out), files(whole))


def files(folder: Path) -> dict[str, str]:
    """Everything in a folder; of the report, which has times, only that it is there."""
    return {
        str(path.relative_to(folder)): ""
        if path.name == "report.json" or path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
    }


def kill_at_renames(folder: Path, places: list[int], over: bool) -> int:
    kills = 0
    for place in places:
        for after in (False, True):
            out = folder / f"{place}-{after}"
            if over:
                evaluate(tiny_model(), tiny_images(90), BEFORE, out=out)

            def work(place: int = place, after: bool = after, out: Path = out) -> None:
                killed_at(place, after)
                run(out, force=over)

            status = os.waitpid(forked(work), 0)[1]
            assert os.WIFSIGNALED(status), (place, after, status)
            assert os.WTERMSIG(status) == signal.SIGKILL, (place, after, status)
            kills += 1
            continued(out)
            check(out, folder / "whole")
            shutil.rmtree(out)
    return kills


def kill_at_random(folder: Path, count: int, seconds: float) -> int:
    draw, kills, turn = random.Random(0), 0, 0
    while kills < count:
        out, turn = folder / f"random{turn}", turn + 1
        for _ in range(5):
            pid = forked(lambda out=out: run(out, resume=True))  # type: ignore[misc]
            time.sleep(draw.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            kills += os.WIFSIGNALED(status)
            assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
        continued(out)
        check(out, folder / "whole")
    return kills


def main(folder: Path, kind: str, what: str) -> None:
    torch.set_num_threads(1)
    setattr(engine, "BLOCK", 40)  # noqa: B010 # several units a suite
    begun = time.monotonic()
    count = renames(folder / "whole")
    seconds = time.monotonic() - begun
    places = list(range(count)) if what == "all" else [int(n) % count for n in what.split(",")]
    if kind == "random":
        kills = kill_at_random(folder, int(what), seconds)
    else:
        kills = kill_at_renames(folder, places, kind == "over")
    sys.stdout.write(json.dumps({"renames": count, "kills": kills}) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
