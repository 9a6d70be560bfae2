"""AutoAttack here and by its authors: which samples each leaves, and the time of each.

    git clone https://github.com/fra31/auto-attack
    PYTHONPATH=auto-attack python -m benchmarks.autoattack CHECKPOINT [--dataset cifar100]
        [--eps 1/255] [--n 100] [--batch 25] [--steps 100] [--queries 5000] [--out FILE.json]

Both attack the first images of the test split that the model classifies correctly, batch by batch
in turn in one process, with the budgets of the standard ensemble: APGD-CE, APGD-T with nine
targets, FAB-T with nine targets and Square. Here the model is asked as the toolkit asks it; the
authors' code is given the bare network behind its normalisation. Seconds are those of the process's
CPU, of one thread. A ratio of at most 1 and a robust set of at most the same size are the goal.
"""

import argparse
import importlib.util
import json
import platform
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustmix.attacks import autoattack
from robustmix.data.datasets import load_dataset
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel
from robustmix.rng import sample_keys


def authors_robust(
    robust: RobustModel, images: Tensor, labels: Tensor, *, eps: float, steps: int, queries: int
) -> Tensor:
    """Tell which images the authors' code leaves, bool (n,)."""
    from autoattack import AutoAttack

    made = AutoAttack(robust.logits, norm="Linf", eps=eps, seed=0, device="cpu", verbose=False)
    for part in (made.apgd, made.apgd_targeted, made.fab):
        part.n_iter = steps
    made.square.n_queries = queries
    found = made.run_standard_evaluation(images, labels, bs=len(images))
    with torch.no_grad():
        return robust(found).argmax(dim=1) == labels


def own_robust(
    robust: RobustModel, images: Tensor, labels: Tensor, ids: tuple[str, ...], **budget: Any
) -> tuple[Tensor, dict[str, int]]:
    """Tell which images robustmix leaves, bool (n,), and how many after each member."""
    keys = sample_keys(0, "autoattack", "", 0, ids)
    found = autoattack.outcome(robust, images, labels, keys=keys, **budget)
    return ~found.success, {stage.member: int((~stage.broken).sum()) for stage in found.stages}


def correct_images(
    robust: RobustModel, dataset: str, n: int
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Return the first ``n`` test images that are classified correctly, labels and ids."""
    data = load_dataset(dataset, "test")
    images, labels, ids = [], [], []
    for first in range(0, len(data), 100):
        rows = torch.arange(first, min(first + 100, len(data)))
        pixels, known = data.pixels.take(rows).float() / 255, data.labels[rows]
        with torch.no_grad():
            right = (robust(pixels).argmax(dim=1) == known).nonzero().flatten()
        images.append(pixels[right])
        labels.append(known[right])
        ids += [data.sample_ids[first + int(i)] for i in right]
        if len(ids) >= n:
            break
    return torch.cat(images)[:n], torch.cat(labels)[:n], tuple(ids[:n])


def main() -> None:
    """Measure, print, and write what there is after every batch if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--dataset", default="cifar100")
    parser.add_argument("--eps", type=Fraction, default=Fraction(1, 255))
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if importlib.util.find_spec("autoattack") is None:
        parser.error("the authors' code is not on PYTHONPATH; see the top of this file")
    torch.set_num_threads(1)
    robust = load_model(options.model)
    images, labels, ids = correct_images(robust, options.dataset, options.n)
    budget = {"eps": float(options.eps), "steps": options.steps, "queries": options.queries}
    batches: list[dict[str, Any]] = []
    for number, first in enumerate(range(0, len(ids), options.batch)):
        part = slice(first, first + options.batch)
        row: dict[str, Any] = {"n": len(ids[part])}
        for side in ("robustmix", "authors") if number % 2 == 0 else ("authors", "robustmix"):
            begun = time.process_time()
            if side == "authors":
                left = authors_robust(robust, images[part], labels[part], **budget)
            else:
                left, row["after"] = own_robust(
                    robust, images[part], labels[part], ids[part], **budget
                )
            row[side] = {
                "s": time.process_time() - begun,
                "robust": left.nonzero().flatten().tolist(),
            }
        batches.append(row)
        totals = {
            side: {
                "s": sum(b[side]["s"] for b in batches),
                "robust": sum(len(b[side]["robust"]) for b in batches),
            }
            for side in ("robustmix", "authors")
        }
        only = [
            sum(len({*b[one]["robust"]} - {*b[other]["robust"]}) for b in batches)
            for one, other in (("robustmix", "authors"), ("authors", "robustmix"))
        ]
        result = {
            "what": f"AutoAttack standard, linf, eps {options.eps}, {sum(b['n'] for b in batches)} "
            f"correctly classified test images of {options.dataset}, "
            f"{robust.info.arch} ({robust.info.method}, epoch {robust.info.epoch})",
            "command": "PYTHONPATH=auto-attack "
            f"python -m benchmarks.autoattack CHECKPOINT --dataset {options.dataset} "
            f"--eps {options.eps} --n {options.n} --batch {options.batch} "
            f"--steps {options.steps} --queries {options.queries}",
            "threads": 1,
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, cpu",
            "time_over_authors": totals["robustmix"]["s"] / totals["authors"]["s"],
            "totals": totals,
            "robust_only_here": only[0],
            "robust_only_for_the_authors": only[1],
            "batches": batches,
        }
        print(json.dumps({k: v for k, v in result.items() if k != "batches"}), flush=True)
        if options.out:
            options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
