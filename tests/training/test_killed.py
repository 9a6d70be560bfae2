"""A run that is killed at any rename, or at any moment, ends as one that never was."""

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

DRIVER = """
import json, os, signal, sys, tempfile, time
import torch
torch.set_num_threads(1)
from robustmix.training import train

def run(out, method):
    return train(f"digits-resnet8-{method}", out=out, epochs=2, batch_size=16, limit_train=40,
                 limit_val=31, picture_every=1, progress="none", device="cpu")

def child(work):
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return pid, os.waitpid(pid, 0)[1]

def killed_at(place, when, out, method):
    real, made = os.replace, [0]
    def replace(source, target, **more):
        made[0] += 1
        if made[0] == place and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target, **more)
        if made[0] == place and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
    os.replace = replace
    run(out, method)

def killed_after(seconds, out, method):
    pid = os.fork()
    if pid == 0:
        run(out, method)
        os._exit(0)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]

for method in ("mixup", "automix", "adautomix"):  # forks need not import it all again
    with tempfile.TemporaryDirectory() as folder:
        run(folder, method)
for line in sys.stdin:
    task = json.loads(line)
    out, method = task["out"], task["method"]
    if "place" in task:
        status = child(lambda: killed_at(task["place"], task["when"], out, method))[1]
    elif "seconds" in task:
        status = killed_after(task["seconds"], out, method)
    else:
        status = child(lambda: run(out, method))[1]
    print(json.dumps(status), flush=True)
"""


class Driver:
    """A process that has torch imported and makes each run in a fork of itself."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __call__(self, out: Path, method: str, **task: Any) -> int:
        """Make a run; return how its process ended, as ``os.waitpid`` says."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"out": str(out), "method": method, **task}) + "\n")
        self.process.stdin.flush()
        return int(json.loads(self.process.stdout.readline()))


@pytest.fixture(scope="module")
def driver() -> Any:
    made = Driver()
    with made.process:  # closes the pipes, at which it ends
        yield made


def content(value: Any) -> Any:
    """What a checkpoint holds, its tensors as digests: pickles of equal values may differ."""
    if isinstance(value, Tensor):
        data = value.contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return [str(value.dtype), list(value.shape), hashlib.sha256(data).hexdigest()]
    if isinstance(value, dict):
        return {str(key): content(item) for key, item in value.items()}
    return [content(item) for item in value] if isinstance(value, list | tuple) else value


def left(folder: Path) -> dict[str, object]:
    """What a run left, but for what tells of time."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name == "times.json":
            continue
        if name == "metrics.jsonl":
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        elif path.suffix == ".pth":
            found[name] = content(torch.load(path, weights_only=True))
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def whole(driver: Driver, folder: Path, method: str) -> dict[str, object]:
    """What a run leaves that nothing disturbs."""
    assert driver(folder, method) == 0
    return left(folder)


def test_equal_runs_leave_equal_files(driver: Driver, tmp_path: Path) -> None:
    one = whole(driver, tmp_path / "one", "mixup")
    assert one == whole(driver, tmp_path / "another place", "mixup")
    for name in ("last.pth", "best.pth"):
        files = (tmp_path / run / "checkpoints" / name for run in ("one", "another place"))
        assert len({path.read_bytes() for path in files}) == 1
    checkpoints = {"checkpoints/last.pth", "checkpoints/best.pth"}
    assert {"recipe.toml", "metrics.jsonl", *checkpoints} == {*one}
    assert json.loads((tmp_path / "one" / "times.json").read_text())["elapsed_s"] > 0


def renames(driver: Driver, folder: Path, method: str) -> int:
    """How many files a run renames into place: as many as it survives being killed at none of."""
    place = 1
    while driver(folder / str(place), method, place=place, when="before") != 0:
        place += 1
    return place - 1


def killed_everywhere(driver: Driver, folder: Path, method: str, places: list[int]) -> None:
    want = whole(driver, folder / "whole", method)
    for place in places:
        for when in ("before", "after"):
            out = folder / f"{when}-{place}"
            assert driver(out, method, place=place, when=when) == 9, (place, when)
            assert driver(out, method) == 0
            assert left(out) == want, (place, when)


def test_killed_at_some_renames(driver: Driver, tmp_path: Path) -> None:
    # The first last.pth; what follows the second one. The second epoch is no better than the first.
    killed_everywhere(driver, tmp_path, "mixup", [3, 7])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mixup", "adautomix"])
def test_killed_at_every_rename(driver: Driver, tmp_path: Path, method: str) -> None:
    count = renames(driver, tmp_path, method)
    assert count >= {"mixup": 8, "adautomix": 10}[method]
    killed_everywhere(driver, tmp_path / "killed", method, list(range(1, count + 1)))


@pytest.mark.slow
def test_killed_at_thirty_moments(driver: Driver, tmp_path: Path) -> None:
    want = whole(driver, tmp_path / "whole", "mixup")  # also waits for the driver to be ready
    begun = time.monotonic()
    assert driver(tmp_path / "timed", "mixup") == 0
    length = time.monotonic() - begun  # of a run on this machine
    moments = random.Random(0)
    out = tmp_path / "killed"
    kills = 0
    for trial in range(30):
        seconds = moments.uniform(0.1, 0.9) * length
        kills += driver(out / str(trial // 3), "mixup", seconds=seconds) == 9
    assert kills >= 10
    for folder in sorted(out.iterdir()):
        assert driver(folder, "mixup") == 0
        assert left(folder) == want


def test_a_late_kill_leaves_nothing_undone(driver: Driver, tmp_path: Path) -> None:
    """A finished run completes the log and the picture that a kill kept it from."""
    want = whole(driver, tmp_path / "whole", "automix")
    assert driver(tmp_path / "late", "automix") == 0
    (tmp_path / "late" / "metrics.jsonl").write_text("")
    (tmp_path / "late" / "pictures" / "epoch-0002.png").unlink()
    (tmp_path / "late" / ".last.pth.abcdefgh.tmp").write_bytes(b"of a kill")
    assert driver(tmp_path / "late", "automix") == 0
    assert left(tmp_path / "late") == want
