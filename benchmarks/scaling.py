"""How much sooner a step is done by two processes than by one, and what they say to each other.

    python benchmarks/scaling.py [--rounds 5] [--steps 8] [--batch 64] [--out FILE.json]

Each round trains the same steps of CIFAR-size noise with one process, then with two that torchrun
starts, one thread each, over gloo. ``efficiency`` is (seconds of one) / (2 x seconds of two), 1 at
best; ``exchange`` is the share of two processes' step that goes by in summing gradients, waiting
for the other included. Ratios are of one round; the median counts. Two
free cores are needed, else nothing is measured but their scarcity.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import robustmix
from robustmix.data.loader import Batch
from robustmix.launch import launched
from robustmix.training import resolve_recipe
from robustmix.training.ranks import Ranks, open_ranks, shared_batch
from robustmix.training.run import Run
from robustmix.training.run_data import complete_recipe, load_run_data
from robustmix.training.run_folder import RunFolder

METHODS = ("vanilla", "adautomix")


EXCHANGED: list[float] = []
"""Seconds of each exchange of this process."""


class Timed(Ranks):
    """Ranks that note how long they exchange."""

    def sum_gradients(self, parameters: Any, others: Any) -> None:
        """Sum, and note how long it took."""
        began = time.perf_counter()
        super().sum_gradients(parameters, others)
        EXCHANGED.append(time.perf_counter() - began)


def one_run(method: str, ranks: Ranks, batch_size: int, folder: str) -> Run:
    """Return a run of ResNet-18 on images of CIFAR's size, which the caller brings."""
    recipe = resolve_recipe(
        "digits-resnet8-vanilla",
        overrides={"arch": "resnet18", "method": method, "batch_size": batch_size},
    )
    data = load_run_data(recipe, None)
    return Run(
        folder=RunFolder(path=Path(folder)), recipe=complete_recipe(recipe, data), data=data,
        device=torch.device("cpu"), checkpoint=None, allow_download=False, say=lambda text: None,
        ranks=ranks,
    )  # fmt: skip


def worker(method: str, steps: int, batch_size: int) -> None:
    """Time the steps in this process; the first one prints seconds and the share of exchange."""
    torch.set_num_threads(1)
    with open_ranks(torch.device("cpu")) as found, tempfile.TemporaryDirectory() as folder:
        ranks = Timed(found.rank, found.world)
        run = one_run(method, ranks, batch_size, folder)
        run.state.method.train()
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch_size, 3, 32, 32, generator=generator)
        labels = torch.randint(10, (batch_size,), generator=generator)
        own = shared_batch(batch_size, ranks)
        batch = Batch(images[own], labels[own], torch.arange(batch_size)[own])
        for _ in range(2):
            run.step(batch)
        ranks.wait()
        EXCHANGED.clear()
        began = time.perf_counter()
        for _ in range(steps):
            run.step(batch)
        ranks.wait()
        took = time.perf_counter() - began
        if ranks.first:
            told = {"step_s": took / steps, "exchange": sum(EXCHANGED) / took}
            sys.stdout.write(json.dumps(told) + "\n")


def measured(method: str, processes: int, args: argparse.Namespace) -> dict[str, float]:
    """Start so many processes and return what the first one says."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes), __file__, "--worker", method]
    command += ["--steps", str(args.steps), "--batch", str(args.batch)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="scaling of a training step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker is not None:
        worker(args.worker, args.steps, args.batch)
        return
    assert not launched().together, "this starts processes by itself"
    results: dict[str, Any] = {}
    for method in METHODS:
        rounds = [[measured(method, n, args) for n in (1, 2)] for _ in range(args.rounds)]
        ratios = [one["step_s"] / (2 * two["step_s"]) for one, two in rounds]
        results[method] = {
            "step_s": {
                name: statistics.median(found[i]["step_s"] for found in rounds)
                for i, name in enumerate(("one process", "two processes"))
            },
            "efficiency": statistics.median(ratios),
            "efficiency_range": [min(ratios), max(ratios)],
            "exchange": statistics.median(two["exchange"] for _, two in rounds),
        }
        sys.stderr.write(f"{method}: {results[method]}\n")
    report = {
        "command": " ".join(["python", "benchmarks/scaling.py", *sys.argv[1:]]),
        "arch": "resnet18, 32x32", "batch": args.batch, "steps": args.steps, "rounds": args.rounds,
        "backend": "gloo", "threads": 1, "cores": os.cpu_count(), "machine": platform.machine(),
        "versions": {"robustmix": robustmix.__version__, "torch": torch.__version__,
                     "python": platform.python_version()},
        "methods": results,
    }  # fmt: skip
    text = json.dumps(report, indent=2) + "\n"
    sys.stdout.write(text)
    if args.out is not None:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
