"""How often a training step waits for the device, method by method, counted without a GPU.

    python -m benchmarks.waits [METHOD ...] [--batch 8] [--places] [--out FILE.json]

Whole steps of the training loop on the digits, the preparation of their batches included, run on a
pretended GPU (``pretended_gpu.py``). What is counted, per step: waits, uploads that nothing waits
for, and operations, of the preparation, forward pass, backward pass, optimiser and what follows it.
The counts of waits and uploads do not depend on the network's size or, as a rule, the batch's.
"""

import argparse
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.pretended_gpu import GPU, Count, pretended_gpu
from robustmix.methods.registry import METHODS
from robustmix.training.run import Run
from robustmix.training.run_folder import RunFolder, prepare_run
from tests.training.runs import demo

WARM_UP, COUNTED = 2, 4
"""Steps that fill caches, and steps that are counted: as many adversarial ones as others."""


class StepCounts(NamedTuple):
    """Means over the counted steps."""

    waits: float
    uploads: float
    operations: float
    table: str
    """Where they are."""


def count_steps(method: str, *, batch: int = 8, **changes: Any) -> StepCounts:
    """Count the waits of whole steps of a method.

    Args:
        method: its name.
        batch: images a step.
        **changes: keys of its recipe for the digits.
    """
    recipe, needs = demo(method)
    settings = {
        "epochs": 1,
        "batch_size": batch,
        "limit_train": (WARM_UP + COUNTED) * batch,
        "limit_val": 8,
        "compile": "off",  # nothing traces what a pretended GPU does
        **needs,
        **changes,
    }
    with tempfile.TemporaryDirectory(prefix="robustmix-waits-") as name, pretended_gpu() as count:
        folder = RunFolder(path=Path(name))
        begun = prepare_run(recipe, folder, "never", False, settings, None, GPU)
        run = Run(
            folder=folder,
            recipe=begun.recipe,
            data=begun.data,
            device=GPU,
            checkpoint=None,
            allow_download=False,
            say=lambda text: None,
        )
        return _counted(run, count)


def _counted(run: Run, count: Count) -> StepCounts:
    run.state.method.train()
    run.state.begin_epoch()
    with contextlib.closing(run.batches()) as batches:
        for number, batch in enumerate(batches):
            run.step(batch)
            if number + 1 == WARM_UP:
                count.clear()
    return StepCounts(
        waits=sum(count.waits.values()) / COUNTED,
        uploads=sum(count.uploads.values()) / COUNTED,
        operations=sum(count.operations.values()) / COUNTED,
        table=count.table(COUNTED),
    )


def main() -> None:
    """Count, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", default=list(METHODS))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--places", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    print(f"{'method':14s} {'waits':>8s} {'uploads':>8s} {'operations':>10s}   a step")
    for name in options.methods:
        counts = count_steps(name, batch=options.batch)
        found[name] = {k: v for k, v in counts._asdict().items() if k != "table"}
        print(
            f"{name:14s} {counts.waits:8g} {counts.uploads:8g} {counts.operations:10g}", flush=True
        )
        if options.places:
            print(counts.table)
    if options.out:
        result = {
            "what": "per training step, preparation of the batch included, on a pretended GPU",
            "command": "python -m benchmarks.waits",
            "recipe": "digits-resnet8-METHOD; transmix: timm:test_vit",
            "batch": options.batch,
            "torch": torch.__version__,
            "methods": found,
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
