"""What a study file says: which runs make a table, how they are measured, and what is shown.

A study is rows x columns x seeds. ``[grid]`` multiplies recipe keys; several ``[[grid]]`` tables
stand beside each other, for tables whose columns differ in more than one key. ``[[variant]]`` adds
a row under another name, ``[[settings]]`` changes what rows of the grid train without renaming
them. ``[table]`` says what stands where. ``method = []`` leaves all rows to the variants.

    title = "MixUp's alpha on CIFAR-100"
    seeds = [0, 1, 2]
    statistic = "median-last10"
    evaluate = { protocol = ["standard"], checkpoint = "last" }

    [grid]
    dataset = ["cifar100"]
    arch = ["resnet18"]
    method = ["mixup", "cutmix"]
    "method.alpha" = [0.2, 1.0]

    [[variant]]
    row = "no mixing"
    method = "vanilla"

    [table]
    rows = ["method", "method.alpha"]
    columns = ["clean.top1", "fgsm.acc"]
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from robustmix.errors import UsageError, unknown_name
from robustmix.files import expanded
from robustmix.studies.statistics import STATISTICS
from robustmix.toml_files import parse_toml, read_toml

Value = str | int | float | bool | list[str | int | float]
"""Of a recipe key."""

NAMING = ("dataset", "arch", "method")
"""Keys that every run of a study is told by."""

MOST_RUNS = 10_000
"""Of one study; the largest packaged one has a few hundred."""

SUFFIX = ".toml"


def _listed(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
"""One word, or a list of them."""

Choices = Annotated[tuple[Value, ...], BeforeValidator(_listed)]
"""One value of a recipe key, or several."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Evaluation(_Part):
    """How every run is measured after training, as ``robustmix eval`` takes it."""

    protocol: Words = ()
    suite: Words = ()
    checkpoint: Literal["last", "best"] = "last"
    limit: int | float | None = None
    """So many images, or that share; the whole test set by default."""

    options: Mapping[str, str | int | float] = {}
    """Options of suites, e.g. ``eps = "4/255"``."""


class Variant(_Part):
    """A row that differs by more than its name from those of the grid."""

    row: str
    """What the table calls it."""

    set: Mapping[str, Value] = {}
    """Recipe keys over those of the grid; those of ``keys`` too are written beside ``row``."""

    where: Mapping[str, Choices] = {}
    """Where in the grid it stands; everywhere by default."""

    published: str | None = None
    """Its name among the published figures [default: ``row``]."""

    note: str = ""

    keys: Mapping[str, Value] = {}
    """Recipe keys in place of the grid's; an empty list leaves the grid's key out."""


class Settings(_Part):
    """What some rows of the grid train otherwise than their recipes say."""

    where: Mapping[str, Choices]
    set: Mapping[str, Value] = {}
    statistic: str | None = None
    """Which number of their epochs is their clean accuracy, where it is not the study's."""

    note: str = ""


class TableForm(_Part):
    """What stands where in the table."""

    rows: Words = ("method",)
    """Grid keys that tell the rows apart."""

    across: Words = ()
    """Grid keys that multiply the columns, e.g. dataset and arch."""

    columns: Annotated[Words, Field(min_length=1)] = ("clean.top1",)
    """Metrics; ``clean.top1`` is the study's statistic of a run's epochs."""


class Study(_Part):
    """A study file."""

    name: str
    """Of the packaged study, or of the file."""

    title: str = ""
    source: str = ""
    notes: Words = ()
    """What is known to differ from what was published, and what a reader must know."""

    published: Words = ()
    """Studies of the published figures whose numbers stand beside ours first."""

    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    statistic: str = "median-last10"
    """Which number of a run's epochs is its clean accuracy."""

    evaluate: Evaluation | None = None
    grid: Annotated[tuple[Mapping[str, Choices], ...], BeforeValidator(_listed)]
    settings: tuple[Settings, ...] = ()
    variant: tuple[Variant, ...] = ()
    table: TableForm = TableForm()
    runs: str | None = None
    """Folder of the runs, where several studies share one [default: below the study's own]."""

    changes: Mapping[str, Value] = {}
    """Recipe keys that reduce every run, beside what the study is; its table then says so."""

    @model_validator(mode="before")
    @classmethod
    def _variants_keys(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Take what a variant says of recipe keys beside its own fields together."""
        own = Variant.model_fields
        variants = values.get("variant")
        if isinstance(variants, list | tuple):
            values = {
                **values,
                "variant": [
                    {
                        **{key: value for key, value in one.items() if key in own},
                        "keys": {
                            **one.get("keys", {}),
                            **{key: value for key, value in one.items() if key not in own},
                        },
                    }
                    if isinstance(one, Mapping)
                    else one
                    for one in variants
                ],
            }
        return values

    @property
    def measured(self) -> bool:
        """Whether runs are evaluated after training."""
        return self.evaluate is not None


def packaged_studies() -> dict[str, str]:
    """Return the text of every packaged study by its name, sorted."""
    folder = resources.files("robustmix.studies")
    found = {
        entry.name.removesuffix(SUFFIX): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(SUFFIX)
    }
    return dict(sorted(found.items(), key=lambda item: _natural(item[0])))


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d+)", name)]


def read_study(source: str | Path) -> Study:
    """Return a packaged study by its name, or the one in a file (``.toml`` or an existing path).

    Raises:
        UsageError: there is no such study, or the file says what no study can.
        IntakeError: the file cannot be read.
    """
    text = str(source)
    if isinstance(source, Path) or text.endswith(SUFFIX) or expanded(text).is_file():
        path = expanded(source)
        hint = "a study is a TOML file, or a name of `robustmix study list`"
        return study_of(read_toml(path, what="study", hint=hint), path.stem, str(path))
    packaged = packaged_studies()
    if text not in packaged:
        raise unknown_name("study", text, packaged)
    return study_of(parse_toml(packaged[text]), text, f"study {text}")


def study_of(values: Mapping[str, Any], name: str, where: str) -> Study:
    """Return the study of a file's values.

    Args:
        values: as TOML holds them.
        name: the study's, if the file does not say one.
        where: how errors call the file.

    Raises:
        UsageError: a key does not exist, a value is invalid, or the parts do not fit each other.
    """
    try:
        study = Study.model_validate({"name": name, **values})
    except ValidationError as error:
        raise _told(error, where) from None
    _check(study, where)
    return study


def study_values(study: Study) -> dict[str, Any]:
    """Return what a file must hold to be read as this study."""
    values = study.model_dump(mode="json", exclude_defaults=True)
    if "variant" in values:
        values["variant"] = [
            {**{k: v for k, v in one.items() if k != "keys"}, **one.get("keys", {})}
            for one in values["variant"]
        ]
    return values


def study_text(study: Study) -> str:
    """Return a study as the text of its file."""
    import tomli_w

    return tomli_w.dumps(study_values(study))


def _check(study: Study, where: str) -> None:
    _check_statistics(study)
    if len(set(study.seeds)) < len(study.seeds):
        raise _invalid(where, f"seeds {list(study.seeds)} name one twice", "name each once")
    if not study.grid:
        raise _invalid(where, "the study has no grid", "write [grid] with dataset, arch and method")
    for grid in study.grid:
        lacking = [key for key in NAMING if key not in grid]
        if lacking:
            raise _invalid(where, f"[grid] lacks {', '.join(lacking)}", "name one, or a list")
        _check_choices(grid, study.variant, where)
        _check_keys(grid, where)
    gridded = {key for grid in study.grid for key in grid}
    for settings in study.settings:
        _check_where(settings.where, gridded, where)
        _check_keys(settings.set, where)
        if not settings.set and settings.statistic is None:
            raise _invalid(where, "[[settings]] set nothing", "write set or statistic")
    for variant in study.variant:
        _check_where(variant.where, gridded, where)
        _check_keys(variant.set, where)
        _check_keys(variant.keys, where)
        both = sorted(set(variant.keys) & set(variant.set))
        if both:
            raise _invalid(where, f"variant {variant.row!r} gives {both[0]} twice", "give it once")
    _check_keys(study.changes, where)
    _check_table(study, gridded, where)


def _check_statistics(study: Study) -> None:
    own = [one.statistic for one in study.settings if one.statistic is not None]
    for statistic in (study.statistic, *own):
        if statistic not in STATISTICS:
            raise unknown_name("statistic", statistic, STATISTICS)


def _check_choices(
    grid: Mapping[str, Sequence[Value]], variants: Sequence[Variant], where: str
) -> None:
    """Refuse a key without a value, but for method where variants are all the rows."""
    for key, values in grid.items():
        if not values and not (key == "method" and variants):
            raise _invalid(where, f"[grid] has no value of {key}", "name one, or a list")


def _check_table(study: Study, gridded: set[str], where: str) -> None:
    form = study.table
    for key in (*form.rows, *form.across):
        if key not in gridded | {"seed"}:
            raise _invalid(
                where,
                f"[table] tells rows or columns apart by {key}, which no [grid] has",
                f"choose from {', '.join(sorted(gridded))}",
            )
    shared = sorted(set(form.rows) & set(form.across))
    if shared:
        raise _invalid(where, f"[table] has {shared[0]} in rows and across", "choose one")
    for column in form.columns:
        if not re.fullmatch(r"[\w@.-]+?\.[^.\s].*", column):
            raise _invalid(
                where, f"[table] column {column!r} is no metric", "write SUITE.METRIC: clean.top1"
            )
    if not study.measured and set(form.columns) != {"clean.top1"}:
        raise _invalid(
            where,
            f"[table] has columns that nothing measures: {', '.join(form.columns)}",
            "say how in evaluate, or show clean.top1 alone",
        )


def _check_keys(values: Iterable[str], where: str) -> None:
    """Refuse keys that no recipe has; the seeds have a place of their own."""
    from robustmix.training.recipe_dict import nested

    for key in values:
        if key == "seed":
            raise _invalid(where, "seed is no key of a grid", "write seeds = [0, 1, 2]")
        if key == "method.name":
            raise _invalid(where, "method.name is written method in a study", "write method")
        if key != "method":
            nested({key: None})


def _check_where(chosen: Mapping[str, Any], gridded: set[str], where: str) -> None:
    for key in chosen:
        if key not in gridded:
            raise _invalid(
                where,
                f"where = {{ {key} = ... }} chooses by a key that no [grid] has",
                f"choose from {', '.join(sorted(gridded))}",
            )


def _told(error: ValidationError, where: str) -> UsageError:
    """Return the first complaint of pydantic in the words of this program."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"]]
    key = ".".join(part for part in place if not part.isdecimal()) or "the file"
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {
            "evaluate": Evaluation,
            "settings": Settings,
            "table": TableForm,
        }
        part = parts.get(place[0], Study) if len(place) > 1 else Study
        known = [name for name in part.model_fields if name != "name"]
        return unknown_name("study key", place[-1], known, code="E-STUDY")
    if first["type"] == "missing":
        return _invalid(where, f"{key} is missing", "every study needs it")
    message = first["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return _invalid(where, f"{key}: expected {message}", f"it is {str(first['input'])[:80]!r}")


def _invalid(where: str, what: str, hint: str) -> UsageError:
    return UsageError(f"{where}: {what}", hint, code="E-STUDY")
