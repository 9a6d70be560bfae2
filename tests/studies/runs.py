"""Run folders as ``train`` and ``eval`` leave them, made by hand in a moment."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from robustmix.evaluation.suites.attack import Attack
from robustmix.metrics.metric import Direction
from robustmix.report.report import Report
from robustmix.studies.results import RunResult
from robustmix.studies.run_reports import Value
from tests.comparison.reports import changed, report_of

RECIPE: dict[str, Any] = {
    "dataset": "cifar100",
    "arch": "resnet18",
    "epochs": 4,
    "lr": 0.1,
    "seed": 0,
    "method": {"name": "mixup", "alpha": 1.0},
}


def make_run(
    folder: Path,
    top1: Sequence[float] = (0.1, 0.2, 0.3, 0.4),
    *,
    selected_on: str = "test",
    method: str = "mixup",
    **recipe: Any,
) -> Path:
    """Write recipe and log; ``top1`` has a value for each epoch that is done."""
    values = {**RECIPE, "method": {**RECIPE["method"], "name": method}, **recipe}
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(tomli_w.dumps(values))
    lines = [
        json.dumps({"epoch": i, "top1": value, "selected_on": selected_on}) + "\n"
        for i, value in enumerate(top1, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


def small_report() -> Report:
    """Clean and one attack on all of the digits' test images."""
    return report_of(suites=("clean", Attack(attack="fgsm", masking="off")), limit=None)


def add_report(run: Path, name: str = "last", **changes: Any) -> Path:
    """Save a report below a run.

    Args:
        run: the folder.
        name: of the evaluation.
        changes: ``path__to__value`` of the report's JSON; training and time have usual values.
    """
    import tomllib

    recipe = tomllib.loads((run / "recipe.toml").read_text())
    done = len((run / "metrics.jsonl").read_text().splitlines())
    usual: dict[str, Any] = {
        "model__training": {"recipe": recipe, "epoch": done, "method": recipe["method"]["name"]},
        "model__source": "last.pth",
    }

    def change(value: dict[str, Any]) -> None:
        for path, to in {**usual, **changes}.items():
            *above, last = path.split("__")
            inside = value
            for key in above:
                inside = inside[key]
            inside[last] = to

    report = changed(small_report(), change)
    return Report(report.content).save(run / "eval" / name)


def result(
    method: str,
    seed: int | None = 0,
    *,
    reduced: tuple[str, ...] = (),
    complete: bool = True,
    why: str = "",
    labels: Mapping[str, str] | None = None,
    directions: Mapping[str, Direction] | None = None,
    **values: float,
) -> RunResult:
    """Make what one run says; ``clean__top1=0.8`` is its clean accuracy."""
    directions = directions or {"fgsm.error": "lower"}
    return RunResult(
        labels={
            "dataset": "cifar100",
            "arch": "resnet18",
            "epochs": "200",
            "method": method,
            "run": f"{method}-{seed}",
            **(labels or {}),
        },
        seed=seed,
        values={
            path: Value(value=value, unit="fraction", direction=directions.get(path, "higher"))
            for name, value in values.items()
            if (path := name.replace("__", "."))
        },
        statistic="median-last10",
        reduced=reduced,
        complete=complete,
        why=why,
    )
