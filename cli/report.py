"""``robustmix report``: look at a report, check it, print its schema."""

import json
from pathlib import Path
from typing import Annotated

import typer

from robustmix.cli import console
from robustmix.errors import IntakeError

report = typer.Typer(help="Work with report files.", no_args_is_help=True)

ReportPath = Annotated[Path, typer.Argument(help="report.json, or the folder it lies in.")]

OutFile = Annotated[Path, typer.Option(help="File to write; - is stdout.")]


@report.command()
def show(
    path: ReportPath,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Only this number, e.g. 'fgsm.robust_acc[8/255]'; repeatable."),
    ] = None,
) -> None:
    """Print the headline numbers of a report, or those that are asked for."""
    from robustmix.report.report import Report
    from robustmix.report.terminal import Summary, numbers_table, warning_lines

    loaded = Report.load(path, samples=False)
    if metric:
        console.table_result(numbers_table(loaded, metric))
        return
    console.table_result(Summary(loaded))
    for line in warning_lines(loaded, most=console.most_warnings()):
        console.say(line)


@report.command()
def heatmap(
    path: ReportPath,
    out: Annotated[Path, typer.Option(help="PNG or SVG file.")] = Path("heatmap.png"),
) -> None:
    """Draw accuracy by corruption and severity; the file is printed on stdout."""
    from robustmix.errors import UsageError
    from robustmix.pages.drawings import draw
    from robustmix.report.report import Report

    if out.suffix not in (".png", ".svg"):
        raise UsageError(f"expected a .png or .svg file, got {out}")
    draw("heatmap", [Report.load(path, samples=False)], out)
    console.result(str(out))


@report.command()
def html(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Reports, or the folders they lie in; others are held to the first."),
    ],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("report.html"),
) -> None:
    """Make one page of one or several reports; it opens from disk and asks nothing of the network.

    The file is printed on stdout.
    """
    console.starting("making a page")
    from robustmix.pages.page import write_page
    from robustmix.report.report import Report

    write_page([Report.load(path) for path in paths], out)
    console.result(str(out))


@report.command()
def reliability(
    path: ReportPath,
    out: Annotated[Path, typer.Option(help="PNG or SVG file.")] = Path("reliability.png"),
    suite: Annotated[str, typer.Option(help="Key of the suite.")] = "calibration",
) -> None:
    """Draw accuracy against confidence before and after scaling; the file is printed on stdout."""
    from robustmix.errors import UsageError, unknown_name
    from robustmix.pages.drawings import draw
    from robustmix.report.report import Report

    if out.suffix not in (".png", ".svg"):
        raise UsageError(f"expected a .png or .svg file, got {out}")
    loaded = Report.load(path, samples=False)
    if suite not in ("calibration", *loaded.content.suites):
        raise unknown_name("suite", suite, loaded.content.suites)
    draw("reliability", [loaded], out, suite=suite)
    console.result(str(out))


@report.command()
def validate(path: ReportPath) -> None:
    """Check a report against the schema and every number against the per-sample record."""
    from robustmix.evaluation.recompute import recompute
    from robustmix.report.report import Report

    loaded = Report.load(path)
    if loaded.samples is None:
        console.result(f"{path}: the schema holds; samples.npz is not there, so no number was")
        return
    differences = recompute(loaded)
    if differences:
        raise IntakeError(
            f"{path}: {len(differences)} numbers are not what the rows give, e.g. {differences[0]}",
            "evaluate again",
            code="E-REPORT",
        )
    console.result(f"{path}: the schema holds, and every number is what its rows give")


@report.command()
def md(path: ReportPath, out: OutFile = Path("-")) -> None:
    """Write the headline numbers as Markdown."""
    from robustmix.report.export import report_markdown
    from robustmix.report.report import Report

    loaded = Report.load(path, samples=False)
    console.write_results((out, lambda: report_markdown(loaded)))


@report.command()
def latex(path: ReportPath, out: OutFile = Path("-")) -> None:
    """Write the headline numbers as a LaTeX table (booktabs)."""
    from robustmix.report.export import report_latex
    from robustmix.report.report import Report

    loaded = Report.load(path, samples=False)
    console.write_results((out, lambda: report_latex(loaded)))


@report.command()
def csv(path: ReportPath, out: OutFile = Path("-")) -> None:
    """Write every number as CSV, one a line."""
    from robustmix.report.export import report_csv
    from robustmix.report.report import Report

    loaded = Report.load(path, samples=False)
    console.write_results((out, lambda: report_csv(loaded)))


@report.command()
def tables(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Reports, or the folders they lie in; others are held to the first."),
    ],
    format: Annotated[str, typer.Option(help="md, latex or csv.")] = "md",
    table: Annotated[
        list[str] | None,
        typer.Option(help="Only this table, e.g. calibration-2; repeatable [default: all]."),
    ] = None,
    names: Annotated[
        bool, typer.Option("--list", help="Print the names of the tables, and what they show.")
    ] = False,
    out: OutFile = Path("-"),
) -> None:
    """Write every table that the page of one or several reports shows.

    CSV is of one table, which --table names.
    """
    from robustmix.errors import UsageError, unknown_name
    from robustmix.pages.sheets import chosen, sheets_of
    from robustmix.report.report import Report
    from robustmix.report.sheet import SHEET_FORMATS, plain_text, render_sheet

    if format not in SHEET_FORMATS:
        raise unknown_name("format", format, SHEET_FORMATS)
    wanted = table or []
    if format == "csv" and len(wanted) != 1 and not names:
        raise UsageError("a CSV file is of one table", "name it with --table; --list has the names")
    sheets = sheets_of([Report.load(path, samples=len(paths) > 1) for path in paths])
    picked = chosen(sheets, wanted)
    if names:
        lines = [
            f"{name}\t{plain_text(one.title)}" for name, one in sheets.items() if one in picked
        ]
        console.write_results((out, lambda: "\n".join(lines) + "\n"))
        return
    console.write_results((out, lambda: "\n".join(render_sheet(one, format) for one in picked)))


@report.command()
def merge(
    paths: Annotated[list[Path], typer.Argument(help="Reports of one model.")],
    out: Annotated[Path, typer.Option(help="Folder of the merged report.")],
) -> None:
    """Join shards of the samples, or suites that ran apart; the report's path is printed."""
    from robustmix.comparison.merge import merge_reports
    from robustmix.errors import UsageError
    from robustmix.report.report import REPORT_FILE, Report

    if (out / REPORT_FILE).exists():
        raise UsageError(f"{out} already holds a report", "choose another --out", code="E-EXISTS")
    console.result(str(merge_reports([Report.load(path) for path in paths]).save(out)))


@report.command()
def migrate(
    path: ReportPath,
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """Write an older report as the present schema has it; the file is printed on stdout."""
    from robustmix.report.migrate import migrate as migrate_report
    from robustmix.report.report import REPORT_FILE

    console.result(str(migrate_report(path / REPORT_FILE if path.is_dir() else path, out)))


@report.command()
def schema() -> None:
    """Print the JSON Schema of report files."""
    from robustmix.report.schema import ReportModel

    console.result(json.dumps(ReportModel.model_json_schema(), indent=2, sort_keys=True))
