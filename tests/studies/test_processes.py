"""Studies in processes of their own: killed and run again, two at once, on a full disk."""

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from robustmix.studies.folder import require_study_in
from robustmix.studies.formats import render
from robustmix.studies.study_results import study_table

pytestmark = pytest.mark.slow  # some twenty processes, each of which imports torch

SMALL = """
seeds = [0]
statistic = "last"
evaluate = { suite = ["clean", "fgsm"], limit = 50, options = { masking = "off" } }
grid = { dataset = "digits", arch = "resnet8", method = ["mixup", "automix"], epochs = 2 }
changes = { limit_train = 96, limit_val = 50 }
table = { columns = ["clean.top1", "fgsm.robust_acc", "clean.nll"] }
"""


def begin(study: str, out: Path, *, room: int | None = None) -> "subprocess.Popen[str]":
    """Begin a study; ``room`` is the most bytes of a file that it may write."""
    words = ["study", "run", study, "--out", str(out), "--progress", "plain", "--jobs", "2"]
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}));"
    program = "import sys; from robustmix.cli.app import run; sys.exit(run(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", program if room is None else limit + program, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, which is killed as a whole
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def table(out: Path, form: str) -> str:
    return render(study_table(require_study_in(out), out / "runs", published=True), form)


def finish(study: str, out: Path) -> str:
    process = begin(study, out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return errors


def kill_at(study: str, out: Path, seconds: float) -> bool:
    """Kill a study with all its processes after some time; return whether it was still at work."""
    process = begin(study, out)
    time.sleep(seconds)
    early = process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return early


def same_table(one: Path, other: Path) -> None:
    for form in ("json", "csv", "md", "terminal"):
        # Links to reports are relative to the current folder, and so name the study's own.
        ours = table(one, form).replace(f"/{one.name}/", f"/{other.name}/")
        assert ours == table(other, form)


def killed_and_run_again(study: str, out: Path, whole: float, kills: int, seed: int) -> None:
    """Kill a study that takes ``whole`` seconds, run it again, and let it end."""
    draws = random.Random(seed)
    # The parts are together shorter than the whole: every kill meets work.
    moments = [draws.uniform(0.03, 0.9) * whole / kills for _ in range(kills)]
    assert all(kill_at(study, out, moment) for moment in moments)
    finish(study, out)


@dataclass
class Alone:
    """A small study that nobody disturbed."""

    study: str
    out: Path
    seconds: float


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    folder = tmp_path_factory.mktemp("alone")
    path = folder / "small.toml"
    path.write_text(SMALL)
    began = time.monotonic()
    finish(str(path), folder / "out")
    return Alone(study=str(path), out=folder / "out", seconds=time.monotonic() - began)


def test_a_study_without_room_then_killed_ends_as_one_that_was_not(alone: Alone) -> None:
    out = alone.out.parent / "disturbed"
    process = begin(alone.study, out, room=40_000)
    _, errors = process.communicate()
    assert process.returncode == 4, errors
    assert errors.count("error[E-WRITE]") >= 2
    killed_and_run_again(alone.study, out, alone.seconds, kills=1, seed=1)
    same_table(out, alone.out)


def test_two_at_once_make_every_run_once(alone: Alone) -> None:
    out = alone.out.parent / "both"
    both = [begin(alone.study, out) for _ in range(2)]
    told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    same_table(out, alone.out)
    assert all("[2 of 2 done]" in text for text in told)
    began = [line for text in told for line in text.splitlines() if line.startswith("train ")]
    # One that finds a folder taken after it has begun its process says so, and waits.
    waits = [line for text in told for line in text.splitlines() if line.startswith("waiting ")]
    assert len(began) <= 2 + len(waits)


def test_quick_killed_five_times(tmp_path: Path) -> None:
    began = time.monotonic()
    finish("quick", tmp_path / "alone")
    whole = time.monotonic() - began
    killed_and_run_again("quick", tmp_path / "killed", whole, kills=5, seed=int(began))
    same_table(tmp_path / "killed", tmp_path / "alone")
