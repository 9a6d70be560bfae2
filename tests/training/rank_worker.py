"""What a process of several does in the tests of runs that are shared: the module is its program.

torchrun ... -m tests.training.rank_worker MODE FOLDER
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from robustmix.cli.app import run as command_line
from robustmix.launch import launched, leave
from robustmix.training.ranks import Ranks, open_ranks, shared_batch
from robustmix.training.run import Run
from tests.training.runs import small_train, stop_after
from tests.training.test_parts import a_run, batches

RANK = launched().rank
METHOD = "automix"
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vanilla": ("vanilla", "timm:test_convnext", {}),
    "mixup": ("mixup", "timm:test_convnext", {}),
    "cutmix": ("cutmix", "timm:test_convnext", {}),
    "automix": ("automix", "timm:test_convnext", {}),
    "adautomix": ("adautomix", "timm:test_convnext", {}),
    "adautomix, norms": ("adautomix", "resnet8", {}),
    "cutmix, norms of 2": ("cutmix", "resnet8", {"norm_batch": 2}),
    "mixup, norms, 2 parts": ("mixup", "resnet8", {"accumulate": 2}),
    "mixup mp+ce, norms": ("mixup", "resnet8", {"method.pipeline": "mp+ce"}),
    "automix none": ("automix", "timm:test_convnext", {"method.pipeline": "none"}),
    "automix grids, norms": ("automix", "resnet8", {"method.mask_source": "grids"}),
}


def steps(folder: Path, ranks: Ranks) -> None:
    """Make three steps in float64 of every method; the first process saves what they led to."""
    for name, (method, arch, changes) in CASES.items():
        run = a_run(folder / f"{name}-{RANK}", method, arch, ranks, **changes)
        run.stepper.images_in_step = lambda batch: 12  # type: ignore[method-assign]
        for batch in batches():
            own = shared_batch(len(batch.labels), ranks)
            run.step(type(batch)(*(value[own] for value in batch)))
        with ranks.shared_statistics(run.state.networks):
            if ranks.first:
                found = {"state": run.state.method.state_dict(), "logs": run.state.means.read()}
                torch.save(found, folder / f"{name}.pt")


def primitives(folder: Path, ranks: Ranks) -> None:
    """Hold every exchange against what it is to give."""
    world, rank = ranks.world, ranks.rank
    assert ranks.agreed([rank, 5 - rank]) == [world - 1, 5]
    one, two = torch.full((3,), float(rank)), torch.tensor(10.0 * rank, dtype=torch.float64)
    ranks.sum_([one, two])
    total = sum(range(world))
    assert one.tolist() == [total] * 3
    assert float(two) == 10 * total
    there, absent, here = (torch.nn.Parameter(torch.zeros(2)) for _ in range(3))
    there.grad = torch.full((2,), rank + 1.0)
    if rank == world - 1:  # a part of a network that one process alone has used
        here.grad = torch.ones(2)
    ranks.sum_gradients([there, absent, here], [])
    assert there.grad.tolist() == [total + world] * 2
    assert absent.grad is None
    assert here.grad is not None
    assert here.grad.tolist() == [1, 1]
    norm = torch.nn.BatchNorm2d(2)
    assert norm.running_mean is not None
    norm.running_mean.fill_(float(rank))
    for published, mean in ((False, total / world), (True, 0.0)):
        with ranks.shared_statistics([norm], published=published):
            assert norm.running_mean.tolist() == [mean] * 2
        assert norm.running_mean.tolist() == [rank] * 2
    assert ranks.gathered(rank) == (list(range(world)) if rank == 0 else None)
    ranks.require_equal({"this": "same"})
    if rank == 0:
        (folder / "agreed").touch()


def at_step(number: int, act: Any) -> None:
    """Do something in this process when it begins a step, counted from 1."""
    made, step = iter(range(1, 10**6)), Run.step

    def counted(self: Run, batch: Any) -> None:
        if next(made) == number:
            act()
        step(self, batch)

    Run.step = counted  # type: ignore[method-assign]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def note_writes(folder: Path) -> None:
    """Note in the other processes what they open to write below the folder."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | Path):
            path, flags = str(arguments[0]), arguments[2]
            if path.startswith(str(folder)) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                sys.stderr.write(f"WROTE {path}\n")

    sys.addaudithook(hook)


def recipe(folder: Path, method: str = METHOD) -> list[str]:
    return (
        f"train digits-resnet8-{method} --out {folder} --epochs 2 --batch-size 16 --lr 0.1 "
        "--set limit_train=40 --set limit_val=31 --progress none --device cpu --log csv"
    ).split()


def main(mode: str, folder: Path) -> int:
    """Do what a test asks for."""
    if mode in ("steps", "primitives"):
        with open_ranks(torch.device("cpu")) as ranks:
            {"steps": steps, "primitives": primitives}[mode](folder, ranks)
        return 0
    if mode == "whole" and RANK:
        note_writes(folder)
    if mode == "terminated" and RANK == 1:
        at_step(2, terminate)
    if mode == "killed" and RANK == 1:
        at_step(3, kill)
    if mode == "all killed":
        at_step(5, kill)
        small_train(folder, METHOD, save_interval=0.0)
    if mode == "stopped":
        small_train(folder, METHOD, should_stop=stop_after(2) if RANK == 1 else None)
        return 0
    if mode in ("python", "first buffers"):
        small_train(folder, METHOD, published_buffers=mode == "first buffers")
        return 0
    return command_line(recipe(folder))


if __name__ == "__main__":
    leave(main(sys.argv[1], Path(sys.argv[2])))
