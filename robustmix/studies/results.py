"""What one run says: its recipe's values as labels, its numbers, and why they may not be whole.

A run is a folder that ``robustmix train`` wrote, with the reports of ``robustmix eval`` below it; a
report that lies alone is one too. Nothing here needs torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from robustmix.comparison.paths import matching_key, parse_path
from robustmix.errors import IncompleteError, IntakeError
from robustmix.files import expanded
from robustmix.report.report import REPORT_FILE, read_report, report_path
from robustmix.report.schema import JsonDict
from robustmix.report.text import plain
from robustmix.studies.published import published
from robustmix.studies.run_reports import (
    UNTOLD,
    RunReports,
    Value,
    aliases_of,
    evaluation_cuts,
    leading_of,
    reports_of,
    values_of,
)
from robustmix.studies.statistics import RunStatistic, find_statistic, run_statistic
from robustmix.toml_files import read_toml
from robustmix.training.catalogue import flat

RECIPE_FILE = "recipe.toml"
CLEAN = "clean.top1"
DEFAULT_STATISTIC = "median-last10"

DEEPEST = 6
"""Folders below the one that is searched for runs."""

NAMES = ("run", "model", "name")
"""Labels that are a run's own, whatever it was made of."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One run, as a table takes it."""

    labels: Mapping[str, str]
    """What rows and columns may be made of: ``dataset``, ``arch``, ``method``, ``epochs``, every
    other key of the recipe by its dotted name, and ``run``, the name of its folder."""

    seed: int | None = None
    values: Mapping[str, Value] = field(default_factory=dict)
    """By metric path: ``clean.top1``, ``fgsm@paper-adautomix.error``, ``corruption.acc[fog/3]``."""

    reports: tuple[Path, ...] = ()
    """The reports that the values stand in."""

    run: Path | None = None
    """Its folder; None for a report that lies alone."""

    complete: bool = True
    """Whether the training came to its end; of others no value counts."""

    reduced: tuple[str, ...] = ()
    """Why the training is less than what is published: fewer epochs, fewer images, ..."""

    statistic: str = ""
    """Of which epochs ``clean.top1`` is; empty where it is of an evaluated checkpoint."""

    why: str = ""
    """Why it is not complete: ``12 of 200 epochs``, or how it failed."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    """``corruption@paper-adautomix`` -> ``corruption``, where that is what the protocol asks for
    and it was run once for several."""

    leading: tuple[str, ...] = ()
    """Paths of the numbers that stand for its suites."""

    params: Mapping[str, JsonDict] = field(default_factory=dict)
    """Suite -> how it was measured."""

    missing: Mapping[str, str] = field(default_factory=dict)
    """Suite -> why it has no values."""

    notes: tuple[str, ...] = ()
    """What a reader must know of it."""

    @property
    def name(self) -> str:
        """How it is called where only one is meant."""
        return self.labels.get("run") or self.labels.get("name") or "a run"

    def label(self, key: str) -> str:
        """Give a label, empty where it has none; ``seed`` is one too."""
        seed = "" if self.seed is None else str(self.seed)
        return self.labels.get(key, seed if key == "seed" else "")

    def find(self, path: str) -> Value | None:
        """Give a number; that of a radius also by its value, ``8/255`` or 0.0313725.

        Raises:
            UsageError: it is no metric path.
        """
        key = self.key_of(path)
        return None if key is None else self.values[key]

    def key_of(self, path: str) -> str | None:
        """Give the path by which the reports have a number that is asked for; None for none.

        Raises:
            UsageError: it is no metric path.
        """
        if path in self.values:
            return path
        asked = parse_path(path)
        asked = replace(asked, suite=self.aliases.get(asked.suite, asked.suite))
        # By hand, for a stranger's report may name what no path can ask for.
        start = f"{asked.suite}."
        own = (text for text in self.values if text.startswith(start))
        parts = {text: text.removeprefix(start).removesuffix("]").partition("[") for text in own}
        known = {(condition, name): text for text, (name, _, condition) in parts.items()}
        key = matching_key(known, asked)
        return None if key is None else known[key]

    def why_missing(self, path: str) -> str:
        """Say why there is no number of a path, or none that counts."""
        if not self.complete:
            return self.why or "not complete"
        suite = path.partition(".")[0]
        if suite in self.missing:
            return f"{suite}: {self.missing[suite]}"
        return f"no {path} in its reports" if self.reports else "no report"


def read_run(
    folder: Path | str,
    statistic: str = DEFAULT_STATISTIC,
    *,
    labels: Mapping[str, str] | None = None,
    reports: Sequence[Path] | None = None,
) -> RunResult:
    """Read a run folder and the reports below it: ``eval/*/report.json``.

    ``clean.top1`` is the statistic of its validation accuracies; all else is from the reports.
    Where several have a number, that of a whole one counts, and of these the newest.

    Args:
        folder: what ``robustmix train`` wrote.
        statistic: a name of ``STATISTICS``.
        labels: what a study calls its parts, over what the recipe says. ``epochs`` among them is
            how many there should be: a run of others is a reduced one.
        reports: the report files to take, those that are not there left out; by default all below
            the folder. A study gives those of its own evaluation, where others share the run.

    Raises:
        UsageError: there is no such statistic.
        IntakeError: the recipe, the log or a report is missing or damaged.
        IncompatibleError: a report is of a newer version.
    """
    folder = Path(folder)
    recipe = read_toml(folder / RECIPE_FILE, what="recipe")
    own = {**recipe_labels(recipe), "run": _named(folder)}
    told = {**own, **(labels or {})}
    epochs, values = _count(recipe.get("epochs")), dict[str, Value]()
    found = _statistic(folder, statistic)
    done = 0 if found is None else found.last
    if found is not None:
        cuts = _validation_cuts(recipe, found.selected_on)
        values[CLEAN] = Value(
            value=found.value, unit="fraction", direction="higher", reduced=tuple(cuts)
        )
    read = RunReports(recipe, done)
    for path in reports_of(folder) if reports is None else reports:
        if path.is_file():
            read.add(path)
    taken, missing = read.chosen()
    if CLEAN in taken and CLEAN in values:
        values[CLEAN] = replace(values[CLEAN], report=taken[CLEAN].report)
    values = {**taken, **values}
    return RunResult(
        labels=told,
        seed=_count(recipe.get("seed")),
        values=values,
        reports=tuple(dict.fromkeys(v.report for v in values.values() if v.report is not None)),
        run=folder,
        statistic="" if found is None else statistic,
        complete=epochs is not None and done >= epochs,
        reduced=tuple(training_cuts(recipe, _count((labels or {}).get("epochs")))),
        why="" if epochs is not None and done >= epochs else _how_far(done, epochs),
        aliases=read.aliases,
        params=read.params,
        leading=tuple(dict.fromkeys((CLEAN, *read.leading))),
        missing=missing,
        notes=tuple(read.notes),
    )


def _how_far(done: int, epochs: int | None) -> str:
    return (
        f"{done} epochs, of an unknown number" if epochs is None else f"{done} of {epochs} epochs"
    )


def _statistic(folder: Path, name: str) -> RunStatistic | None:
    """Give the statistic of a run's epochs; None before the first is done."""
    if not (folder / "metrics.jsonl").exists():
        find_statistic(name)
        return None
    try:
        return run_statistic(folder, name)
    except IncompleteError:
        return None


def read_report_alone(path: Path | str, *, labels: Mapping[str, str] | None = None) -> RunResult:
    """Read a report of whatever model; its own ``clean.top1`` counts.

    Args:
        path: a report file, or the folder it lies in.
        labels: over what the report says.

    Raises:
        IntakeError: it is missing or damaged.
        IncompatibleError: it is of a newer version.
    """
    path = report_path(path)
    content = read_report(path)
    recipe = content.model.training.get("recipe")
    recipe = recipe if isinstance(recipe, dict) else {}
    cuts = tuple(evaluation_cuts(content))
    values, missing = values_of(content, path, cuts)
    method = content.model.training.get("method")
    return RunResult(
        labels={
            "dataset": plain(content.dataset.name),
            "arch": plain(content.model.arch),
            **({"method": plain(method)} if method else {}),
            **recipe_labels(recipe),
            "model": plain(content.model.source),
            "name": plain(content.run.name),
            "run": _named(path.parent),
            **(labels or {}),
        },
        seed=_count(recipe.get("seed")),
        values=values,
        reports=(path,),
        reduced=tuple(training_cuts(recipe)),
        aliases=aliases_of(content),
        params=content.protocol.params,
        leading=tuple(leading_of(content)),
        missing=missing,
    )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies in some places."""

    results: tuple[RunResult, ...]
    notes: tuple[str, ...]
    """What was left out, and why."""


def read_results(places: Sequence[Path | str], statistic: str = DEFAULT_STATISTIC) -> Found:
    """Read run folders, reports, and all of both in other folders, in the order of their names.

    A run or report that is named must be readable. One that lies in a folder which is searched is
    left out with a note where it is damaged.

    Raises:
        UsageError: there is no such statistic.
        IntakeError: a place is not there or holds neither; one that is named is damaged.
        IncompatibleError: a report that is named is of a newer version.
    """
    find_statistic(statistic)
    results, notes = [], []
    for place in map(expanded, places):
        found = list(_places_in(place))
        if not found:
            raise IntakeError(
                f"{plain(place)} holds no run and no report",
                "give what `robustmix train --out` or `robustmix eval --out` wrote, or a folder "
                "of such folders",
            )
        for one in found:
            try:
                results.append(_read(one, statistic))
            except IntakeError as error:
                if one == place:
                    raise
                notes.append(f"left out: {error.message}")
    if not results:
        raise IntakeError("none of the runs can be read: " + notes[0])
    unique = {(one.run or one.reports[0]).resolve(): one for one in results}
    return Found(results=tuple(unique.values()), notes=tuple(notes))


def _read(place: Path, statistic: str) -> RunResult:
    is_run = (place / RECIPE_FILE).is_file()
    return read_run(place, statistic) if is_run else read_report_alone(place)


def _places_in(place: Path, deep: int = 0) -> Iterator[Path]:
    """Yield the run folders and reports that a place is or holds; a run's own reports are its."""
    if not place.is_dir() or (place / RECIPE_FILE).is_file() or (place / REPORT_FILE).is_file():
        yield place
    elif deep < DEEPEST:
        try:
            inside = sorted(path for path in place.iterdir() if path.is_dir())
        except OSError as error:
            raise IntakeError(f"cannot read {place}: {error.strerror}") from None
        for path in inside:
            yield from _places_in(path, deep + 1)


def training_cuts(recipe: Mapping[str, Any], epochs: int | None = None) -> list[str]:
    """Say why a training is less than a published one; nothing for one that is not.

    Args:
        recipe: as ``recipe.toml`` holds it.
        epochs: how many there should be; None for the fewest that figures were published of for
            this data set, architecture and method.
    """
    own, cuts = _count(recipe.get("epochs")) or 0, []
    full = epochs if epochs is not None else min(_published_lengths(recipe), default=0)
    if own < full:
        cuts.append(f"{own} of {full} epochs")
    elif epochs is not None and own > epochs:
        cuts.append(f"{own} epochs in place of {epochs}")
    if recipe.get("limit_train") is not None:
        cuts.append(f"trained on a part of the images ({recipe['limit_train']})")
    if recipe.get("allow_partial"):
        cuts.append("trained on what was there of the images")
    return cuts


def _published_lengths(recipe: Mapping[str, Any]) -> list[int]:
    labels = recipe_labels(recipe)
    asked = tuple(labels.get(key) for key in ("dataset", "arch", "method"))
    return [
        figure.epochs
        for figure in published()
        if figure.epochs and (figure.dataset, figure.arch, figure.method) == asked
    ]


def _validation_cuts(recipe: Mapping[str, Any], selected_on: str) -> list[str]:
    cuts = []
    if recipe.get("limit_val") is not None:
        cuts.append(f"validated on a part of the images ({recipe['limit_val']})")
    if selected_on != "test":
        cuts.append("validated on training images that were kept out")
    return cuts


def recipe_labels(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Give a recipe's values as text by dotted key; ``method`` is the method's name.

    Example:
        >>> recipe_labels({"arch": "resnet18", "method": {"name": "mixup", "alpha": 1.0}})
        {'arch': 'resnet18', 'method': 'mixup', 'method.alpha': '1.0'}
    """
    values = {("method" if k == "method.name" else k): v for k, v in flat(recipe).items()}
    return {plain(key): _text(value) for key, value in values.items() if key not in UNTOLD}


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return plain(" ".join(_text(one) for one in value))
    return plain(str(value).lower() if isinstance(value, bool) else value)


def _count(value: object) -> int | None:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _named(folder: Path) -> str:
    return plain(folder.name or folder.resolve().name)
