"""The demonstration: two small models on real digits, measured side by side."""

import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.progress import open_progress
from robustmix.evaluation.suites.attack import Attack
from robustmix.pages.overview_figure import draw_reports
from robustmix.report.report import REPORT_FILE, Report
from robustmix.training.loop import train
from robustmix.training.progress import open_progress as open_training_progress

METHODS = ("vanilla", "adautomix")

EPOCHS = 6
"""Of both, so that what they differ in is the method."""

# What shows the most in a minute; the masking checks and iterative attacks take several.
SUITES = ("clean", "calibration", "corruption", Attack(attack="fgsm", masking="off"), "occlusion")


@dataclass(frozen=True)
class Demo:
    """What the demonstration leaves."""

    reports: list[Report]
    paths: list[Path]
    """The reports, then the picture that shows them side by side."""

    seconds: float = 0.0
    """What this call took."""

    interrupted_by: int | None = None
    """The signal that ended the demonstration early; the same call continues it."""


def run_demo(out: Path, *, seed: int, console: Console) -> Demo:
    """Train and evaluate both models into ``out``; a second call takes up what is there.

    Args:
        out: folder of the two runs.
        seed: of everything random.
        console: where progress is shown.
    """
    began = time.monotonic()
    reports: list[Report] = []
    paths: list[Path] = []
    for method in METHODS:
        folder = Path(out) / method
        console.print(f"== {method}", highlight=False)
        trained = train(
            f"digits-resnet8-{method}",
            out=folder,
            epochs=EPOCHS,
            seed=seed,
            device="cpu",
            progress=open_training_progress("auto", console),
        )
        if trained.interrupted:
            return Demo(reports, paths, interrupted_by=trained.signal)
        progress = open_progress("auto", console)
        try:
            report = evaluate(
                trained.last,
                "digits",
                SUITES,
                seed=seed,
                out=folder,
                device="cpu",
                resume=True,
                name=method,
                progress=progress,
            )
        finally:
            progress.close()
        if report.interrupted_by is not None:
            return Demo(reports, paths, interrupted_by=report.interrupted_by)
        reports.append(report)
        paths.append(folder / REPORT_FILE)
    picture = Path(out) / "comparison.png"
    draw_reports(reports, picture)
    return Demo(reports, [*paths, picture], seconds=time.monotonic() - began)
