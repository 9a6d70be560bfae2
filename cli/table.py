"""``robustmix table``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustmix.cli import console
from robustmix.cli.options import split_names
from robustmix.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from robustmix.studies.table import Table

SUFFIXES = {".md": "md", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}


Sort = Annotated[str, typer.Option(help="Column whose best comes first.")]
Format = Annotated[
    str | None,
    typer.Option(help="terminal, md, latex, csv, json or html [default: by the name of --out]."),
]
Out = Annotated[Path | None, typer.Option(help="File to write; - is stdout.")]
PrintedToo = Annotated[
    bool, typer.Option("--published", help="Show what papers print of the same runs.")
]
Significance = Annotated[
    bool, typer.Option("--significance", help="Mark figures that no test tells from the best.")
]


def table(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_OR_REPORT...",
            help="Run folders, report.json files, or folders that hold some.",
        ),
    ],
    rows: Annotated[
        str,
        typer.Option(
            help="What tells rows apart: recipe keys and run, name, model, with commas "
            "[default: method, and what else runs differ in]."
        ),
    ] = "",
    columns: Annotated[
        list[str] | None,
        typer.Option(
            help="Metrics, such as 'clean.top1,fgsm.robust_acc'; recipe keys among them, such as "
            "dataset, make a column of each value [default: one metric a suite]."
        ),
    ] = None,
    sort: Sort = "",
    format: Format = None,
    out: Out = None,
    published: PrintedToo = False,
    statistic: Annotated[
        str | None,
        typer.Option(
            help="Which epochs a run's clean.top1 is of: median-last10, median-last5, "
            "best-last10 or last [default: median-last10]."
        ),
    ] = None,
    significance: Significance = False,
    title: Annotated[str, typer.Option(help="What the table is called.")] = "Runs",
) -> None:
    """Put runs and reports side by side in one table: mean and spread over seeds.

    A run folder's clean.top1 is a statistic of its epochs; all other numbers, and those of lone
    reports, are of the evaluated checkpoints.
    """
    from robustmix.studies.side_by_side import table as side_by_side

    chosen = format_of(format, out)
    made = side_by_side(
        *places,
        rows=split_names([rows]),
        columns=split_names(columns or []),
        sort=sort,
        published=published,
        statistic=statistic,
        significance=significance,
        title=title,
        watch=console.Waiting(),
    )
    show_table(made, chosen, out)


def show_table(made: "Table", format: str, out: Path | None) -> None:
    """Print a table, or write it into a file whose path is then printed."""
    from robustmix.studies.formats import render

    if format == "terminal" and out is None and sys.stdout.isatty():
        from robustmix.studies.formats.terminal import parts

        for part in parts(made):
            console.table_result(part)
        return
    text = render(made, format, where=None if str(out) == "-" else out)
    console.write_results((out or Path("-"), lambda: text))
    if out is not None and str(out) != "-":
        console.result(str(out))


def format_of(asked: str | None, out: Path | None) -> str:
    """Return the format that is asked for, or that the name of the file means."""
    from robustmix.studies.formats import FORMATS

    if asked is not None:
        if asked not in FORMATS:
            raise unknown_name("format", asked, FORMATS)
        return asked
    suffix = "" if out is None else out.suffix.lower()
    if out is not None and str(out) != "-" and suffix not in (*SUFFIXES, ".txt"):
        raise UsageError(
            f"--out {out}: what is a {suffix or 'file without an end'}?",
            f"add --format, or call it {', '.join(SUFFIXES)} or .txt",
        )
    return SUFFIXES.get(suffix, "terminal")
