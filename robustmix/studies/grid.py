"""From a study to its runs: every row, column and seed as a complete recipe."""

import functools
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from robustmix.data.augment import Augment
from robustmix.errors import RobustmixError, UsageError, unknown_name
from robustmix.files import hash_json
from robustmix.methods.registry import method_options
from robustmix.studies.study import MOST_RUNS, Settings, Study, Variant
from robustmix.training.catalogue import flat
from robustmix.training.recipe import INFORMATIVE, Recipe
from robustmix.training.recipe_dict import recipe_to_dict
from robustmix.training.resolve import resolve_recipe

HASH = 12
"""Digits of the hash in a run's name."""


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """One run of a study: a cell of its table and a seed."""

    labels: Mapping[str, str]
    """By grid key, as the table shows them; of a variant the row's name stands for its method."""

    seed: int
    recipe: Recipe
    """What is trained."""

    published_as: str
    """Its name among the published figures."""

    epochs: int
    """Length that the study gives it, whatever it is reduced to."""

    reduced: tuple[str, ...] = ()
    """What makes it less than the study says, in words; none if it is whole."""

    statistic: str
    """Which number of its epochs is its clean accuracy."""

    note: str = ""

    @functools.cached_property
    def name(self) -> str:
        """Name of its folder: the same recipe has the same one in every study."""
        return run_name(self.recipe)

    def of_seed(self, seed: int) -> "StudyRun":
        """Return the same run with another seed."""
        return replace(self, seed=seed, recipe=replace(self.recipe, seed=seed))

    @property
    def told(self) -> str:
        """What it is, in a line's place."""
        kept = [value for key, value in self.labels.items() if key != "epochs"]
        return f"{' '.join(kept)} {self.labels.get('epochs', '')} seed {self.seed}".replace(
            "  ", " "
        )


def run_name(recipe: Recipe) -> str:
    """Return the name of a run's folder: what it is, and the hash of its recipe with the seed.

    The hash is of what differs from the defaults: a key that a later version adds renames no run.
    """
    readable = "-".join((recipe.dataset, recipe.arch, recipe.method, f"s{recipe.seed}"))
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", readable).strip("-.")[-80:]
    return f"{safe}-{hash_json(telling_values(recipe))[:HASH]}"


def telling_values(recipe: Recipe) -> dict[str, Any]:
    """Return the values of a recipe that are not the defaults, by dotted key."""
    usual = _usual(recipe.method)
    return {
        key: value
        for key, value in flat(recipe_to_dict(recipe)).items()
        if key not in INFORMATIVE and (key not in usual or usual[key] != value)
    }


@functools.cache
def _usual(method: str) -> Mapping[str, Any]:
    """Return the defaults of a recipe's keys and of a method's options, by dotted key."""
    found = {
        **flat(recipe_to_dict(Recipe())),
        **{f"augment.{key}": value for key, value in asdict(Augment()).items()},
        **{f"method.{key}": value for key, value in method_options(method, {}).items()},
    }
    return {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()}


def study_runs(study: Study) -> list[StudyRun]:
    """Return the runs of a study in the order of its table, seeds innermost.

    Raises:
        UsageError: a recipe cannot be had as the study says, or two rows have one name.
    """
    found: dict[tuple[tuple[tuple[str, str], ...], int], StudyRun] = {}
    for cell in _cells(study):
        first = _run(study, cell, study.seeds[0])
        for seed in study.seeds:
            # A recipe does not depend on its seed in anything else.
            run = first if seed == first.seed else first.of_seed(seed)
            key = (tuple(sorted(run.labels.items())), seed)
            other = found.setdefault(key, run)
            if other.name != run.name:
                raise UsageError(
                    f"study {study.name}: two settings have one place in the table, {run.told}",
                    "name one of them by a row of its own ([[variant]])",
                    code="E-STUDY",
                )
            if len(found) > MOST_RUNS:
                raise UsageError(
                    f"study {study.name} has more than {MOST_RUNS} runs", "make its grid smaller"
                )
    return list(found.values())


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One row and column before seeds: recipe keys, and how the table calls it."""

    values: Mapping[str, Any]
    labels: Mapping[str, str]
    published_as: str
    statistic: str
    note: str = ""


def _cells(study: Study) -> Iterator[_Cell]:
    used: set[int] = set()
    for grid in study.grid:
        for values in _product(grid):
            fitting = [one for one in study.settings if _fits(one.where, values)]
            used |= {id(one) for one in fitting}
            yield _grid_cell(study, values, fitting)
    for variant in study.variant:
        cells = [cell for grid in study.grid for cell in _variant_cells(study, grid, variant)]
        if not cells:
            raise _nowhere(study, f"variant {variant.row!r}", variant.where)
        yield from cells
    for one in study.settings:
        if id(one) not in used:
            raise _nowhere(study, "settings", one.where)


def _nowhere(study: Study, what: str, where: Mapping[str, Any]) -> UsageError:
    chosen = ", ".join(f"{key} {' '.join(map(str, values))}" for key, values in where.items())
    return UsageError(
        f"study {study.name}: {what} stand nowhere: no run of the grid has {chosen}",
        "mend its where, or leave it out",
        code="E-STUDY",
    )


def _product(grid: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def _fits(where: Mapping[str, Sequence[Any]], values: Mapping[str, Any]) -> bool:
    return all(key in values and values[key] in wanted for key, wanted in where.items())


def _labels(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: " ".join(map(str, value)) if isinstance(value, list | tuple) else _shown(value)
        for key, value in values.items()
    }


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _grid_cell(study: Study, values: Mapping[str, Any], settings: Sequence[Settings]) -> _Cell:
    changed = {key: value for one in settings for key, value in one.set.items()}
    return _Cell(
        values={**values, **changed},
        labels=_labels(values),
        published_as=str(values["method"]),
        statistic=_statistic(study, settings),
        note="; ".join(one.note for one in settings if one.note),
    )


def _statistic(study: Study, settings: Sequence[Settings]) -> str:
    """Return which statistic a cell has: the last settings' that name one, or the study's."""
    own = [one.statistic for one in settings if one.statistic is not None]
    return own[-1] if own else study.statistic


def _variant_cells(
    study: Study, grid: Mapping[str, Sequence[Any]], variant: Variant
) -> Iterator[_Cell]:
    """Yield where a variant stands: the grid without the keys that it sets or leaves out."""
    own = {key: value for key, value in variant.keys.items() if value != []}
    rest = {key: choices for key, choices in grid.items() if key not in variant.keys}
    seen: set[str] = set()
    for values in _product(rest):
        whole = {**values, **own}
        where = {key: wanted for key, wanted in variant.where.items() if key in whole}
        if not _fits(where, whole) or len(where) < len(variant.where):
            continue
        named = _naming_key(study)
        if len(rest.get(named, ())) > 1:
            raise UsageError(
                f"study {study.name}: variant {variant.row!r} names no {named}",
                f"add {named} = ...",
                code="E-STUDY",
            )
        labels = _labels({key: value for key, value in whole.items() if key in grid})
        labels[named] = variant.row
        if hash_json(labels) in seen:
            continue
        seen.add(hash_json(labels))
        yield _Cell(
            values={**whole, **variant.set},
            labels=labels,
            published_as=variant.published or variant.row,
            statistic=_statistic(
                study, [one for one in study.settings if not one.set and _fits(one.where, whole)]
            ),
            note=variant.note,
        )


def _naming_key(study: Study) -> str:
    """Return the label that a variant's row takes the place of."""
    rows = study.table.rows
    return "method" if "method" in rows or not rows else rows[0]


def _run(study: Study, cell: _Cell, seed: int) -> StudyRun:
    try:
        planned = resolve_recipe(overrides={**cell.values, "seed": seed})
        recipe = (
            resolve_recipe(overrides={**cell.values, **study.changes, "seed": seed})
            if study.changes
            else planned
        )
    except RobustmixError as error:
        row = " ".join(cell.labels.values())
        raise type(error)(
            f"study {study.name}, {row}: {error.message}", error.hint, code=error.code
        ) from error
    return StudyRun(
        labels=cell.labels,
        seed=seed,
        recipe=recipe,
        published_as=cell.published_as,
        statistic=cell.statistic,
        epochs=planned.epochs,
        reduced=reductions(planned, recipe, study),
        note=cell.note,
    )


def reductions(planned: Recipe, recipe: Recipe, study: Study) -> tuple[str, ...]:
    """Return what makes a run less than the table it stands in, in words."""
    found = []
    both = (planned, recipe) if study.changes else ()
    whole, made = [flat(recipe_to_dict(one)) for one in both] or [{}, {}]
    for key in study.changes:
        name = "method.name" if key == "method" else key
        if whole.get(name) != made.get(name):
            usual = "" if whole.get(name) is None else f" instead of {_shown(whole[name])}"
            found.append(f"{key} {_shown(made.get(name))}{usual}")
    for key, value in (("limit_train", recipe.limit_train), ("limit_val", recipe.limit_val)):
        if value is not None and key not in study.changes:
            found.append(f"{key} {value}")
    if recipe.allow_partial and "allow_partial" not in study.changes:
        found.append("allow_partial")
    if study.evaluate is not None and study.evaluate.limit is not None:
        found.append(f"evaluated on {study.evaluate.limit} images")
    return tuple(found)


def chosen_runs(runs: Sequence[StudyRun], only: Sequence[str]) -> list[StudyRun]:
    """Return the runs that ``--only`` chooses.

    Args:
        runs: of a study.
        only: ``KEY=VALUE,VALUE`` each; of several all must hold.

    Raises:
        UsageError: a key or value is none of the study's.
    """
    for text in only:
        key, sign, values = text.partition("=")
        key, wanted = key.strip(), [value.strip() for value in values.split(",")]
        known = {name for run in runs for name in run.labels} | {"seed"}
        if not sign or not all(wanted):
            raise UsageError(f"cannot read --only {text!r}", "write method=adautomix,vanilla")
        if key not in known:
            raise unknown_name("key for --only", key, known, code="E-STUDY")
        there = {_value_of(run, key) for run in runs}
        for value in wanted:
            if value not in there:
                raise unknown_name(f"{key} among the runs", value, there, code="E-STUDY")
        runs = [run for run in runs if _value_of(run, key) in wanted]
    return list(runs)


def _value_of(run: StudyRun, key: str) -> str:
    return str(run.seed) if key == "seed" else run.labels.get(key, "")


def with_seeds(study: Study, seeds: Sequence[int]) -> Study:
    """Return a study with other seeds."""
    return study.model_copy(update={"seeds": tuple(seeds)})


def reduced_study(study: Study, changes: Mapping[str, Any], limit: int | float | None) -> Study:
    """Return a study whose every run is reduced.

    Args:
        study: as it is published.
        changes: recipe keys over everything.
        limit: images that are evaluated on, or a share; None for what the study says.
    """
    evaluate = study.evaluate
    if limit is not None:
        if evaluate is None:
            raise UsageError(
                f"--limit: study {study.name} evaluates nothing after training",
                "limit the validation with --set limit_val=N",
                code="E-UNUSED-OPTION",
            )
        evaluate = evaluate.model_copy(update={"limit": limit})
    return study.model_copy(update={"changes": {**study.changes, **changes}, "evaluate": evaluate})
