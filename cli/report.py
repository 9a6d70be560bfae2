"""``robustmix report``: look at a report, check it, print its schema."""

import json
from pathlib import Path
from typing import Annotated

import typer

from robustmix.cli import console
from robustmix.errors import IntakeError

report = typer.Typer(help="Work with report files.", no_args_is_help=True)

ReportPath = Annotated[Path, typer.Argument(help="report.json, or the folder it lies in.")]


@report.command()
def show(path: ReportPath) -> None:
    """Print the headline numbers of a report."""
    from robustmix.report.report import Report
    from robustmix.report.terminal import summary_table, warning_lines

    loaded = Report.load(path, samples=False)
    console.table_result(summary_table(loaded))
    for line in warning_lines(loaded):
        console.say(line)


@report.command()
def heatmap(
    path: ReportPath,
    out: Annotated[Path, typer.Option(help="PNG or SVG file.")] = Path("heatmap.png"),
) -> None:
    """Draw accuracy by corruption and severity; the file is printed on stdout."""
    from robustmix.errors import UsageError
    from robustmix.report.heatmap import draw_heatmap
    from robustmix.report.report import Report

    if out.suffix not in (".png", ".svg"):
        raise UsageError(f"expected a .png or .svg file, got {out}")
    draw_heatmap(Report.load(path, samples=False), out)
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
def schema() -> None:
    """Print the JSON Schema of report files."""
    from robustmix.report.schema import ReportModel

    console.result(json.dumps(ReportModel.model_json_schema(), indent=2, sort_keys=True))
