"""What a gate takes on large reports: 95 corruptions with calibration, of 10 000 images or more.

    python -m benchmarks.gate [--n 10000] [--repeats 3] [--compare-only] [--out FILE.json]

``robustmix check`` and ``compare`` are processes of their own, run in turn with one that does
nothing but read all rows of both reports with numpy: ratios to that of the same round are what is
told. The reports are made here: their rows are random logits, damaged by noise from severity to
severity, scored and summarised by the functions that an evaluation calls. Nothing is corrupted
and no network is run, which for so many images would take hours.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import robustmix
from benchmarks.start import PROGRAM, PYTHON, figures, in_turn, tell
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.evaluation.contradictions import lines_sha256
from robustmix.evaluation.recompute import remake
from robustmix.evaluation.suites.calibration import clean_temperatures
from robustmix.metrics.agreement import SCALED, SCORES
from robustmix.metrics.scores import FloatArray, score_logits
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from robustmix.report.samples import Samples, Table

CLASSES = 100
READ = "import numpy, sys\nfor path in sys.argv[1:]:\n    dict(numpy.load(path + '/samples.npz'))"
"""All that a program must do that goes by the rows."""

NARROW = {"pred": np.int32, "correct": np.bool_, "rank": np.int32}
"""Types of the columns that are not float64."""


def pattern() -> Report:
    """Evaluate a few random images, for the form of a report with all suites of interest."""
    generator = torch.Generator().manual_seed(0)
    data = ImageSet(
        name="random",
        split="test",
        pixels=TensorPixels(
            torch.randint(256, (24, 3, 32, 32), generator=generator, dtype=torch.uint8)
        ),
        labels=torch.randint(CLASSES, (24,), generator=generator),
        sample_ids=tuple(f"random/test/{i}" for i in range(24)),
        class_names=tuple(map(str, range(CLASSES))),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    net = build_model("resnet8", num_classes=CLASSES, input_size=(3, 32, 32))
    model = RobustModel(
        net, mean=data.mean, std=data.std, num_classes=CLASSES, input_size=(3, 32, 32)
    )
    return robustmix.evaluate(model, data, ["clean", "calibration", "corruption"])


def columns(
    logits: "np.ndarray[tuple[int, int], np.dtype[np.float32]]",
    labels: "np.ndarray[tuple[int], np.dtype[np.int64]]",
    temperature: FloatArray | None,
) -> dict[str, "np.ndarray[tuple[int], np.dtype[np.generic]]"]:
    """Score logits (n, K) as the engine and the corruption suite do; each column is (n,)."""
    scores = score_logits(logits, labels)
    found = {name: getattr(scores, name).astype(NARROW.get(name, np.float64)) for name in SCORES}
    if temperature is not None:
        scaled = score_logits(logits, labels, temperature=temperature)
        for name in ("confidence", "nll", "brier"):
            found[f"{name}{SCALED}"] = getattr(scaled, name).astype(np.float32)
    return found


def large(like: Report, n: int, seed: int) -> Report:
    """Make a report of ``n`` images in the form of another, of random logits."""
    assert like.samples is not None
    rng, labels_rng = np.random.default_rng(seed), np.random.default_rng(99)
    labels = labels_rng.integers(CLASSES, size=n)
    clean = rng.standard_normal((n, CLASSES), dtype=np.float32)
    clean[np.arange(n), labels] += 3 * labels_rng.random(n, dtype=np.float32)
    ids = tuple(f"random/test/{i}" for i in range(n))
    kept = {name: one[None, None] for name, one in columns(clean, labels, None).items()}
    rows = Table(("clean",), {**kept, "logits": clean[None, None]})
    samples: Samples = replace(like.samples, sample_ids=ids, labels=labels, tables={"clean": rows})
    content = like.content.model_copy(deep=True)
    fitted = clean_temperatures(samples.view("corruption"), content.run.seed)
    conditions = like.samples.tables["corruption"].conditions
    made: dict[str, list[np.ndarray[tuple[int], np.dtype[np.generic]]]] = {}
    for condition in conditions:
        severity = int(condition.rpartition("/")[2])
        noise = rng.standard_normal(clean.shape, dtype=np.float32)
        damaged = np.float32(1 - 0.08 * severity) * clean + np.float32(0.2 * severity) * noise
        for name, one in columns(damaged, labels, None if fitted is None else fitted[0]).items():
            made.setdefault(name, []).append(one)
    samples.tables["corruption"] = Table(
        conditions, {name: np.stack(parts)[:, None] for name, parts in made.items()}
    )
    whole = {"n": n, "n_total": n, "pixels_sha256": None, "order_sha256": lines_sha256(ids)}
    content.dataset = content.dataset.model_copy(update=whole)
    # Other weights than the other report's, or the two would be of one model.
    state = f"{seed:064d}"
    content.model = content.model.model_copy(update={"state_sha256": state})
    content.model.checks.pop("state_sha256", None)
    report = Report(content, samples)
    content.suites = remake(report)
    return report


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compare-only", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        first, second = (str(Path(folder) / name) for name in ("a", "b"))
        like = pattern()
        for seed, place in enumerate((first, second)):
            large(like, options.n, seed).save(place)
        lines: dict[str, Sequence[str]] = {
            "read": (*PYTHON, READ, first, second),
            "check": (*PROGRAM, "check", second, "--baseline", first),
            "compare": (*PROGRAM, "compare", first, second),
        }
        if options.compare_only:
            del lines["check"]
        measured = figures(in_turn(lines, options.repeats), "read")
    tell(
        options.out,
        what="check and compare of two reports, 95 conditions with calibration, 100 classes; "
        "ratio: CPU time to reading all rows of both with numpy",
        command=f"python -m benchmarks.gate --n {options.n} --repeats {options.repeats}",
        n=options.n,
        repeats=options.repeats,
        figures=measured,
    )


if __name__ == "__main__":
    main()
