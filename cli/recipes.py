"""``robustmix recipes``: which there are, what they hold, and how to make one's own."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from robustmix.cli import completion, console
from robustmix.errors import UsageError, unknown_name
from robustmix.methods.registry import METHODS

if TYPE_CHECKING:
    from robustmix.training.catalogue import Row
    from robustmix.training.resolve import Resolved

recipes = typer.Typer(
    help="See the packaged recipes, compare them, and make your own.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PUBLISHED, EXTRAPOLATED, NEEDS = "x", "~", "!"

LEGEND = (
    f"{PUBLISHED} published   {EXTRAPOLATED} extrapolated: no published settings   "
    f"{NEEDS} cannot be trained yet"
)


RecipeName = Annotated[
    str,
    typer.Argument(
        help="DATASET-ARCH-METHOD[-EPOCHS|-VARIANT], or a TOML file.",
        autocompletion=completion.complete(completion.recipes),
    ),
]

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any recipe key, e.g. --set method.alpha=0.5; repeatable."),
]


@recipes.command("list")
def list_recipes(
    dataset: Annotated[str | None, typer.Option(help="Only this data set.")] = None,
    arch: Annotated[str | None, typer.Option(help="Only this architecture.")] = None,
    method: Annotated[str | None, typer.Option(help="Only this method.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Only what has published settings behind it.")
    ] = False,
    names: Annotated[bool, typer.Option("--names", help="Print names, one a line.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the packaged recipes: a row a data set and architecture, methods in columns."""
    rows = _chosen(dataset, arch, method, published)
    if names and as_json:
        raise UsageError("--names and --json are two ways to print", "give one of them")
    if as_json:
        console.result(json.dumps([as_record(row) for row in rows], indent=2))
    elif names:
        console.result("\n".join(row.name for row in rows))
    else:
        show_rows(rows)


def _chosen(
    dataset: str | None, arch: str | None, method: str | None, published: bool
) -> list["Row"]:
    from robustmix.training.catalogue import list_rows

    rows = list(list_rows())
    for what, value in (("dataset", dataset), ("arch", arch), ("method", method)):
        known = {getattr(row, what) for row in rows}
        if value is not None and value not in known:
            kind, code = f"{what} among the recipes", f"E-UNKNOWN-{what.upper()}"
            raise unknown_name(kind, value, sorted(known), code=code)
        rows = [row for row in rows if value in (None, getattr(row, what))]
    if published:
        rows = [row for row in rows if row.needs is None and row.extrapolated is None]
    return rows


def as_record(row: "Row") -> dict[str, Any]:
    """Give a row as JSON, with why its data set cannot be trained on here, if so."""
    return {
        "name": row.name,
        "dataset": row.dataset,
        "arch": row.arch,
        "method": row.method,
        "epochs": row.epochs,
        "variant": row.variant,
        "source": row.source,
        "extrapolated": row.extrapolated,
        "needs": row.needs,
        "data": missing_data(row.dataset),
    }


def show_rows(rows: Sequence["Row"]) -> None:
    """Print rows as a table that fits 80 columns; methods stand upright above theirs."""
    cells: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        cells.setdefault((row.dataset, row.arch), {}).setdefault(row.method, []).append(row)
    there = {row.method for row in rows}
    methods = [name for name in METHODS if name in there]
    width = max((len(arch) for _, arch in cells), default=4) + 3
    lines = [" " * width + " ".join(letters).rstrip() for letters in _upright(methods)]
    shown = None
    for (dataset, arch), own in cells.items():
        if dataset != shown:
            shown = dataset
            lack = missing_data(dataset)
            lines.append(dataset + (f"  ({lack})" if lack else ""))
        marks = [_mark(own.get(name, [])) for name in methods]
        epochs = sorted({row.epochs for found in own.values() for row in found})
        lengths = " ".join(map(str, epochs))
        lines.append(f"  {arch:<{width - 2}}{' '.join(marks)} {lengths}")
    console.result("\n".join([*lines, "", LEGEND]))
    console.say(
        "The last column is the lengths in epochs. A name is DATASET-ARCH-METHOD, and -EPOCHS or "
        "-VARIANT: --names prints them all; others compose too and are marked extrapolated."
    )


def _upright(names: Sequence[str]) -> Iterable[list[str]]:
    height = max(map(len, names), default=0)
    return [[name.rjust(height)[line] for name in names] for line in range(height)]


def _mark(rows: Sequence["Row"]) -> str:
    if not rows:
        return "."
    if all(row.needs is not None for row in rows):
        return NEEDS
    return EXTRAPOLATED if all(row.extrapolated or row.needs for row in rows) else PUBLISHED


def missing_data(dataset: str) -> str | None:
    """Return why a data set cannot be trained on here, or None if its files are there."""
    from robustmix.data.homes import is_here
    from robustmix.data.location import data_folder

    if is_here(dataset, data_folder(None)):
        return None
    return "its files are not in $ROBUSTMIX_DATA"


@recipes.command("show")
def show(
    name: RecipeName,
    sets: Sets = None,
    origin: Annotated[
        bool, typer.Option("--origin", help="Say where each value comes from.")
    ] = False,
) -> None:
    """Print a recipe, complete, as TOML; with --origin as a table with the source of each value."""
    resolved = _resolved(name, sets or ())
    if origin:
        console.table_result(_origins(resolved))
        return
    console.result(as_toml(resolved).rstrip("\n"))


def _resolved(name: str, sets: Iterable[str] = ()) -> "Resolved":
    from robustmix.training.resolve import resolve_source

    return resolve_source(name, sets=sets)


def as_toml(resolved: "Resolved") -> str:
    """Return a recipe as the file that trains it."""
    import tomli_w

    from robustmix.training.recipe_dict import recipe_to_dict

    return tomli_w.dumps(recipe_to_dict(resolved.recipe))


def _origins(resolved: "Resolved") -> Table:
    from robustmix.training.resolve import recipe_values

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("key", no_wrap=True)
    table.add_column("value")
    table.add_column("from")
    for key, value in recipe_values(resolved.recipe).items():
        table.add_row(key, _shown(value), resolved.origins[key])
    return table


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@recipes.command("diff")
def diff(one: RecipeName, other: RecipeName) -> None:
    """Print the keys in which two recipes differ, with both values."""
    from robustmix.training.resolve import recipe_values

    a, b = (recipe_values(_resolved(name).recipe) for name in (one, other))
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("key", no_wrap=True)
    table.add_column(one, overflow="fold")
    table.add_column(other, overflow="fold")
    for key in dict.fromkeys([*a, *b]):
        if a.get(key) != b.get(key):
            table.add_row(key, *(_shown(v[key]) if key in v else "-" for v in (a, b)))
    if not table.row_count:
        console.result("no difference")
        return
    console.table_result(table)


@recipes.command("copy")
def copy(
    name: RecipeName,
    file: Annotated[Path, typer.Argument(help="TOML file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the file.")] = False,
) -> None:
    """Write a recipe, complete, to a file of your own: edit it and train it."""
    from robustmix.files import write_text

    if file.exists() and not force:
        raise UsageError(f"{file} exists", "choose another name, or --force", code="E-EXISTS")
    if file.suffix != ".toml":
        raise UsageError(f"{file} is no name of a recipe file", "end it in .toml")
    write_text(file, as_toml(_resolved(name)))
    console.result(str(file))


@recipes.command("schema")
def schema() -> None:
    """Print the JSON Schema of recipe files, for editors and other programs."""
    from robustmix.training.recipe_schema import recipe_file_schema

    console.result(json.dumps(recipe_file_schema(), indent=2))
