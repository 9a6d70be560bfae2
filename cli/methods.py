"""``robustmix methods``: which there are, and the card of each. Needs no torch."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from robustmix.cli import completion, console
from robustmix.cli.listing import from_where
from robustmix.methods.method_card import MethodCard, Parameter, RecipeUse, Value, method_card
from robustmix.methods.registry import METHODS

methods = typer.Typer(
    help="See the training methods and what they do.", no_args_is_help=True, rich_markup_mode=None
)

STATUS = {
    "verified": "verified: equal to the published implementation on reference vectors",
    "untested": "untested: compared with no other implementation",
}

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@methods.command("list")
def list_methods(as_json: Json = False) -> None:
    """List the methods with their cost in forward passes and their papers."""
    if as_json:
        rows = [
            {
                "name": name,
                "summary": row.help,
                "paper": row.paper,
                "status": row.status,
                "cost": row.cost,
                "origin": None if row.origin is None else str(row.origin),
            }
            for name, row in METHODS.rows().items()
        ]
        console.result(json.dumps(rows, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("method", no_wrap=True)
    table.add_column("what it does")
    table.add_column("passes a step", justify="right")
    table.add_column("status")
    table.add_column("paper", min_width=27)
    for name, row in METHODS.rows().items():
        text = row.help + from_where(row)
        table.add_row(name, text, f"{row.cost:g}", row.status, row.paper)
    console.table_result(table)


@methods.command("info")
def info(
    name: Annotated[
        str,
        typer.Argument(
            help="Method (robustmix methods list).",
            autocompletion=completion.complete(completion.methods),
        ),
    ],
    as_json: Json = False,
) -> None:
    """Print a method's card: paper, deviations, cost, options, and what recipes set."""
    from robustmix.training.catalogue import list_rows

    card = method_card(name, {row.name: row.as_toml() for row in list_rows() if row.method == name})
    if as_json:
        console.result(json.dumps(dataclasses.asdict(card), indent=2))
        return
    console.table_result(Group(*_head(card), *_options(card.parameters), *_recipes(card.uses)))


@methods.command("preview")
def preview(
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    dataset: Annotated[
        str, typer.Option(help="digits, cifar10, cifar100 or folder:PATH.")
    ] = "digits",
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Trained network for methods that ask one [default: digits trains a small one]."
        ),
    ] = None,
    lam: Annotated[float, typer.Option(help="Weight of the image itself.")] = 0.5,
    pairs: Annotated[int, typer.Option(help="Pairs of images, one a column.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of boxes and masks.")] = 0,
) -> None:
    """Draw what each method makes of the same pairs of images, a row a method."""
    console.starting("drawing methods")
    from robustmix.training.method_sheet import draw_method_sheet

    sheet = draw_method_sheet(
        out,
        dataset=dataset,
        data_dir=data_dir,
        checkpoint=checkpoint,
        lam=lam,
        pairs=pairs,
        seed=seed,
    )
    for name, why in sheet.left_out.items():
        console.say(f"no row for {name}: {why}")
    console.result(str(sheet.path))


def _head(card: MethodCard) -> list[Text | Table]:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for label, text in (
        ("Paper", card.paper),
        ("Does", card.does),
        ("Cost", card.cost),
        ("Deviations", card.deviations),
        ("Status", STATUS[card.status]),
        ("From", card.origin),
    ):
        if text:
            table.add_row(label, text)
    return [Text(f"{card.name}: {card.summary}\n"), table]


def _options(parameters: tuple[Parameter, ...]) -> list[Text | Table]:
    if not parameters:
        return [Text("\nNo options.")]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("option", no_wrap=True)
    table.add_column("default", no_wrap=True)
    table.add_column("meaning")
    for parameter in parameters:
        choices = f" (one of {', '.join(parameter.choices)})" if parameter.choices else ""
        table.add_row(parameter.name, _shown(parameter.default), parameter.meaning + choices)
    return [Text("\nOptions, set with --set method.OPTION=VALUE"), table]


def _recipes(uses: tuple[RecipeUse, ...]) -> list[Text | Table]:
    if not uses:
        return [Text("\nNo packaged recipe.")]
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("data set", no_wrap=True)
    # A value may be a name to be copied, so the architectures make room for the longest.
    told = [f"{key}={_shown(value)}" for use in uses for key, value in use.options.items()]
    long = max(map(len, told), default=0) > 38
    table.add_column("architectures", max_width=33 if long else None)
    table.add_column("options that differ from the default", overflow="fold")
    rows: dict[tuple[str, str], list[str]] = {}
    for use in uses:
        options = ", ".join(f"{key}={_shown(value)}" for key, value in use.options.items())
        arch = f"{use.arch}\N{NO-BREAK SPACE}*" if use.extrapolated else use.arch
        rows.setdefault((use.dataset, options or "-"), []).append(arch)
    for (dataset, options), archs in rows.items():
        table.add_row(dataset, ", ".join(archs), options)
    lines: list[Text | Table] = [Text("\nPackaged recipes"), table]
    if any(use.extrapolated for use in uses):
        lines.append(Text("* extrapolated: nobody published this combination"))
    return lines


def _shown(value: Value) -> str:
    """Return a value as ``--set`` takes it."""
    return value if isinstance(value, str) else json.dumps(value).replace("null", "none")
