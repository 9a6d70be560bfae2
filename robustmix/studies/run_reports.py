"""The reports of one run, or one that lies alone: their numbers, and which are of less than all.

Nothing here needs torch.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from robustmix.comparison.paths import completed
from robustmix.evaluation.protocols import PROTOCOLS, ProtocolScene
from robustmix.metrics.definition import metric_path
from robustmix.metrics.metric import Direction, Unit
from robustmix.report.report import REPORT_FILE, metrics_of, read_report
from robustmix.report.schema import JsonDict, ReportModel
from robustmix.report.text import plain
from robustmix.training.catalogue import flat

EVALUATIONS = "eval"
"""Folder of a run folder that the reports of its checkpoints lie in."""

UNTOLD = frozenset({"seed", "description", "extrapolated", "variant", "published_batch"})
"""Keys of a recipe that tell no two experiments apart."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """One number of a run."""

    value: float
    """In the unit; fractions lie in [0, 1]."""

    unit: Unit
    direction: Direction
    reduced: tuple[str, ...] = ()
    """Why it is of less than the whole, e.g. of 500 of 10,000 images."""

    report: Path | None = None
    """The report it stands in; of a statistic of epochs one that has the number of a checkpoint."""


def reports_of(folder: Path) -> list[Path]:
    """List the report files of a run folder."""
    evaluations = folder / EVALUATIONS
    found = [folder / REPORT_FILE, evaluations / REPORT_FILE]
    found += sorted(evaluations.glob(f"*/{REPORT_FILE}"))
    return [path for path in found if path.is_file()]


class RunReports:
    """The reports of one run, of which each number is taken once."""

    def __init__(self, recipe: Mapping[str, Any], done: int) -> None:
        self._recipe = recipe
        self._done = done
        self._read: list[tuple[ReportModel, Path, tuple[str, ...]]] = []
        self.notes: list[str] = []
        self.leading: list[str] = []
        self.aliases: dict[str, str] = {}
        self.params: dict[str, JsonDict] = {}
        """Suite -> how it was measured, of those that count."""

    def add(self, path: Path) -> None:
        """Read a report; one of another run is noted and left out."""
        content = read_report(path)
        difference = _other_run(content, self._recipe)
        if difference:
            self.notes.append(f"{path.parent.name} is a report of another run: {difference}")
            return
        cuts = [*evaluation_cuts(content), *_stale(content, self._done)]
        self._read.append((content, path, tuple(cuts)))
        self.leading += leading_of(content)
        self.aliases |= aliases_of(content)

    def chosen(self) -> tuple[dict[str, Value], dict[str, str]]:
        """Give every number, and the suites that have none with the reason."""
        values: dict[str, Value] = {}
        missing: dict[str, str] = {}
        # The best first: whole ones, and of these the newest, whose numbers hide the others'.
        by_time = sorted(self._read, key=lambda one: one[0].run.finished, reverse=True)
        for content, path, cuts in sorted(by_time, key=lambda one: bool(one[2])):
            own, failed = values_of(content, path, cuts)
            self._note_params(content, {name.partition(".")[0] for name in own})
            values = {**own, **values}
            missing = {**failed, **missing}
        suites = {path.partition(".")[0] for path in values}
        return values, {suite: why for suite, why in missing.items() if suite not in suites}

    def _note_params(self, content: ReportModel, suites: set[str]) -> None:
        """Keep how suites were measured; say so where reports of the run differ in it."""
        for suite in sorted(suites & content.protocol.params.keys()):
            params = content.protocol.params[suite]
            difference = params_difference(self.params.setdefault(suite, params), params)
            if difference:
                self.notes.append(
                    f"{suite} was measured in several ways: {difference}; the newest "
                    "whole report counts"
                )


def values_of(
    content: ReportModel, path: Path, cuts: tuple[str, ...]
) -> tuple[dict[str, Value], dict[str, str]]:
    """Give the numbers of a report by their paths, and suites without any with the reason.

    Args:
        content: the report.
        path: its file.
        cuts: why all of it is of less than the whole.
    """
    values: dict[str, Value] = {}
    missing: dict[str, str] = {}
    for suite, part in content.ordered_suites().items():
        if part.status != "ok":
            missing[suite] = plain(f"{part.status}: {part.reason or 'no reason is told'}", 300)
            continue
        limit = content.protocol.limits.get(suite)
        limited = () if limit is None else (f"{suite}: at most {limit} images",)
        for condition, name, metric in metrics_of(part):
            if metric.value is not None:
                values[f"{suite}.{metric_path(condition, name)}"] = Value(
                    value=metric.value,
                    unit=metric.unit,
                    direction=metric.direction,
                    reduced=cuts + limited,
                    report=path,
                )
    return values, missing


def params_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Say in what two suites were measured differently; empty where they were measured alike.

    Example:
        >>> params_difference({"eps": "8/255"}, {"eps": "4/255"})
        'eps is 8/255 and 4/255'
    """
    for key in sorted(one.keys() | other.keys()):
        if one.get(key) != other.get(key):
            return f"{plain(key)} is {plain(one.get(key), 60)} and {plain(other.get(key), 60)}"
    return ""


def leading_of(content: ReportModel) -> Iterator[str]:
    """Yield the number that stands for each suite: the first of those that are compared."""
    for suite, part in completed(content):
        paths = [*part.shown.compared, *part.shown.gated]
        known = (path for path in paths if part.number(path) is not None)
        yield from (f"{suite}.{path}" for path in islice(known, 1))


def aliases_of(content: ReportModel) -> dict[str, str]:
    """Give the suites of a report's protocols that were run under their plain name.

    Of two protocols that ask for one suite alike it is run once, so ``corruption`` may be that of
    ``paper-adautomix`` too.
    """
    presets = [name for name in content.protocol.presets if name in PROTOCOLS]
    if not presets:
        return {}
    from robustmix.evaluation.suites.registry import name_of

    scene = ProtocolScene.of(content.model.input_size[1], content.dataset.name, {})
    standard = list(PROTOCOLS["standard"].suites(scene))
    # What repeats a published tool has a key of its own always, and so none here.
    return {
        f"{name_of(suite)}@{preset}": name_of(suite)
        for preset in presets
        for suite in PROTOCOLS[preset].suites(scene)
        if name_of(suite) in content.suites
        and f"{name_of(suite)}@{preset}" not in content.suites
        and (suite in standard or not PROTOCOLS[preset].nonstandard)
    }


def evaluation_cuts(content: ReportModel) -> list[str]:
    """Say why a report is of less than the whole; nothing for one that is of all images."""
    data = content.dataset
    cuts = [f"evaluated on {data.n} of {data.n_total} images"] if data.n < data.n_total else []
    if data.partial_of is not None:
        cuts.append(f"only {data.n_total} of the split's {data.partial_of} images were there")
    if data.shard is not None:
        cuts.append(f"shard {data.shard.index} of {data.shard.count} alone")
    return cuts


def _stale(content: ReportModel, done: int) -> list[str]:
    """Say so where ``last.pth`` has moved on since it was evaluated."""
    epoch = content.model.training.get("epoch")
    is_last = Path(content.model.source).name == "last.pth"
    if is_last and isinstance(epoch, int) and epoch < done:
        return [f"evaluated after epoch {epoch}, trained {done}"]
    return []


def _other_run(content: ReportModel, recipe: Mapping[str, Any]) -> str:
    """Say in what a report's run differs from that of the folder; empty for its own.

    Text is left out: reports are published without the paths that a recipe may hold.
    """
    recorded = content.model.training.get("recipe")
    there = flat(recorded) if isinstance(recorded, dict) else {}
    here = flat(recipe)
    for key in sorted(there.keys() & here.keys() - UNTOLD | {"seed"} & there.keys()):
        theirs, ours = there[key], here.get(key)
        if not isinstance(theirs, str) and theirs != ours:
            return f"{plain(key)} is {plain(theirs, 40)} there, {plain(ours, 40)} here"
    return ""
