"""What a command takes before it does anything: time and peak memory of whole processes.

    python benchmarks/start.py [--repeats 5] [--out FILE.json]

Every command line of robustmix is a process of its own, run in turn with ``python -c pass`` and
``python -c "import torch"``; its figures are ratios to the latter in the same round, so a machine
whose speed drifts does not decide. Small reports and a checkpoint are made first.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pydantic
import scipy
import torch
import typer

import robustmix
from robustmix.data.datasets import load_dataset
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel

PYTHON = (sys.executable, "-c")
PROGRAM = (sys.executable, "-m", "robustmix")

ASKED = """
import json, resource, subprocess, sys, time
nowhere = subprocess.DEVNULL
begun = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=nowhere, stderr=nowhere).returncode
clock_s = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, clock_s, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
"""Runs a command line from a small process: a child's peak is at least that of its parent."""


class Taken(NamedTuple):
    """What a process took."""

    clock_s: float
    """Seconds until it ended; it may use two cores."""

    cpu_s: float
    """User and system time."""

    peak_mb: float
    """Largest resident memory, in 10^6 bytes."""


def taken(line: Sequence[str]) -> Taken:
    """Run a command line to its end, one thread, its output unseen.

    Raises:
        RuntimeError: it fails; a check that finds a loss does not.
    """
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    told = subprocess.run(
        (*PYTHON, ASKED, *line), env={**os.environ, **threads}, capture_output=True, check=True
    )
    code, clock_s, cpu_s, peak = json.loads(told.stdout)
    if code not in (0, 1):
        raise RuntimeError(f"{' '.join(line)} ended with {code}")
    return Taken(clock_s, cpu_s, peak * (1 if sys.platform == "darwin" else 1024) / 1e6)


def in_turn(lines: Mapping[str, Sequence[str]], repeats: int) -> dict[str, list[Taken]]:
    """Run every command line once a round."""
    found: dict[str, list[Taken]] = {name: [] for name in lines}
    for number in range(repeats):
        for name, line in lines.items():
            found[name].append(taken(line))
        print(f"round {number + 1} of {repeats}", flush=True)
    return found


def figures(found: Mapping[str, list[Taken]], beside: str) -> dict[str, dict[str, float]]:
    """Give the medians of each command line, and of its CPU time beside another's of its round."""
    return {
        name: {
            "clock_s": round(statistics.median(one.clock_s for one in rounds), 3),
            "cpu_s": round(statistics.median(one.cpu_s for one in rounds), 3),
            "peak_mb": round(statistics.median(one.peak_mb for one in rounds), 1),
            "ratio": round(
                statistics.median(
                    one.cpu_s / other.cpu_s
                    for one, other in zip(rounds, found[beside], strict=True)
                ),
                3,
            ),
        }
        for name, rounds in found.items()
    }


def versions() -> dict[str, str]:
    """Name what the figures hang on."""
    used = (robustmix, torch, numpy, scipy, pydantic, typer)
    named = {one.__name__: str(one.__version__) for one in used}
    return {"python": platform.python_version(), **named}


def small_reports(folder: Path) -> tuple[Path, Path]:
    """Write two reports of 100 digits with accuracies, an attack and calibration."""
    places = folder / "a", folder / "b"
    for seed, place in enumerate(places):
        net = build_model(
            "resnet8",
            num_classes=10,
            input_size=(3, 32, 32),
            generator=torch.Generator().manual_seed(seed),
        )
        data = load_dataset("digits", "test")
        model = RobustModel(
            net, mean=data.mean, std=data.std, num_classes=10, input_size=(3, 32, 32)
        )
        suites = ["clean", "calibration", "fgsm"]
        robustmix.evaluate(model, data, suites, limit=100, out=place, masking="off")
    return places


def checkpoint(folder: Path) -> Path:
    """Train for a moment, for a checkpoint that can be evaluated."""
    words = ["train", "--dataset", "digits", "--arch", "resnet8", "--method", "vanilla"]
    words += ["--epochs", "1", "--limit-train", "64", "--device", "cpu", "--out", str(folder)]
    subprocess.run([*PROGRAM, *words], check=True, capture_output=True)
    return folder / "checkpoints" / "last.pth"


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = map(str, small_reports(folder))
        trained = str(checkpoint(folder / "run"))
        lines: dict[str, Sequence[str]] = {
            "python -c pass": (*PYTHON, "pass"),
            "import torch": (*PYTHON, "import torch"),
            "--version": (*PROGRAM, "--version"),
            "--help": (*PROGRAM, "--help"),
            "list suites": (*PROGRAM, "list", "suites"),
            "recipes list": (*PROGRAM, "recipes", "list"),
            "report show": (*PROGRAM, "report", "show", first),
            "check": (*PROGRAM, "check", second, "--baseline", first),
            "compare": (*PROGRAM, "compare", first, second),
            # Of digits, which scikit-learn reads: importing that is in the figure.
            "eval --dry-run": (*PROGRAM, "eval", trained, "--suite", "clean", "--dry-run"),
        }
        measured = figures(in_turn(lines, options.repeats), "import torch")
    tell(
        options.out,
        what="CPU time and peak memory of whole processes; ratio: CPU time to `import torch`",
        command=f"python benchmarks/start.py --repeats {options.repeats}",
        repeats=options.repeats,
        figures=measured,
    )


def tell(out: Path | None, **result: Any) -> None:
    """Print a result with what it was measured on, and write it to a file if one is named."""
    told = {
        **result,
        "threads": 1,
        "versions": versions(),
        "machine": f"{platform.machine()}, CPU",
    }
    print(json.dumps(told, indent=2))
    if out:
        out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
