"""``robustmix check``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from robustmix.cli import console
from robustmix.errors import RobustmixError, UsageError, unknown_name

if TYPE_CHECKING:
    from robustmix.comparison.document import CheckDocument
    from robustmix.comparison.rules import Kind

GATES = {
    "point": "no-drop",
    "significant": "significant",
    "non-inferiority": "non-inferiority",
    "improvement": "improvement",
}


def check(
    report: Annotated[Path, typer.Argument(help="report.json, or the folder it lies in.")],
    baseline: Annotated[
        str | None, typer.Option(help="What to hold it against: a report, folder or git:REF:PATH.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML file of rules; without it, no accuracy 1 pp worse.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Add a rule, e.g. 'corruption.acc_mean_all19>=0.50'; repeatable."),
    ] = None,
    gate: Annotated[
        str | None,
        typer.Option(help="Default rules: point, significant, non-inferiority or improvement."),
    ] = None,
    margin: Annotated[
        str | None,
        typer.Option(
            help="Loss that the default rules allow: 0.5pp, 1% or 0.005; 1pp if not given."
        ),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            help="Loss that --gate point allows, as --margin; repeatable, the least counts."
        ),
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Level of tests; 0.05 if not given.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail when the data cannot decide.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    update_baseline: Annotated[
        bool,
        typer.Option("--update-baseline", help="Put the report in the place of the baseline."),
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    github: Annotated[
        str, typer.Option(help="Annotations and step summary: auto, on or off.")
    ] = "auto",
    markdown: Annotated[
        Path | None, typer.Option(help="Write a pull-request comment; - is stdout.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the check as JSON; - is stdout.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write CSV; - is stdout.")] = None,
) -> None:
    """Judge a report by rules; the table is printed on stdout.

    Exits 0 if no rule is violated, 1 if one is, 4 if something needed is missing or failed, 5 if
    the reports cannot be compared.
    """
    from robustmix.comparison.github import wanted

    loud = wanted(github, os.environ)
    try:
        document = _judge(
            report, baseline, rules, metric, gate, margin, tolerance, alpha, strict, seed,
            update_baseline,
        )  # fmt: skip
    except RobustmixError as error:
        if loud:
            from robustmix.comparison.github import escape_data

            console.error(f"::error title=robustmix check::{escape_data(error.line())}")
        raise
    if document is None:
        return
    printed = _write(document, junit, json, markdown, csv)
    _show(document, printed, loud)
    if update_baseline and document.exit_code in (0, 1):
        from robustmix.comparison.open_report import open_report
        from robustmix.comparison.open_report import update_baseline as replace_baseline

        console.say(f"baseline replaced: {replace_baseline(open_report(report), str(baseline))}")
    raise typer.Exit(document.exit_code)


def _judge(
    report: Path,
    baseline: str | None,
    rules: Path | None,
    metric: list[str] | None,
    gate: str | None,
    margin: str | None,
    tolerance: list[str] | None,
    alpha: float | None,
    strict: bool,
    seed: int,
    update_baseline: bool,
) -> "CheckDocument | None":
    """Judge the report; None if there was no baseline yet and now is one."""
    from robustmix.comparison.check import check as check_report
    from robustmix.comparison.measure import Options
    from robustmix.comparison.open_report import open_report, report_file
    from robustmix.comparison.open_report import update_baseline as replace_baseline
    from robustmix.comparison.rules import check_alpha, parse_amount, parse_assertion

    if gate is not None and gate not in GATES:
        raise unknown_name("gate", gate, GATES)
    if rules is not None and (gate or margin or tolerance):
        raise UsageError(
            "--gate, --margin and --tolerance are of the default rules", "leave out --rules"
        )
    if update_baseline and baseline is None:
        raise UsageError("--update-baseline needs --baseline", "say which one to replace")
    if alpha is not None:
        check_alpha(alpha)
    kind = cast("Kind", GATES[gate or ("point" if tolerance else "non-inferiority")])
    assertions = [parse_assertion(text) for text in metric or []]
    amounts = [parse_amount(text, "tolerance") for text in tolerance or []]
    width = None if margin is None else parse_amount(margin, "margin")
    if update_baseline and baseline and not baseline.startswith("git:"):
        place = Path(baseline)
        if not report_file(place if place.suffix == ".json" else place / "report.json").exists():
            made = replace_baseline(open_report(report), baseline)
            console.say(f"there was no baseline: {made} is one now, and nothing was checked")
            return None
    return check_report(
        report,
        baseline,
        rules,
        assertions=assertions,
        gate=kind,
        margin=width,
        tolerances=amounts,
        alpha=alpha,
        strict=strict,
        options=Options(seed=seed),
    )


def _write(
    document: "CheckDocument",
    junit: Path | None,
    json: Path | None,
    markdown: Path | None,
    csv: Path | None,
) -> bool:
    from robustmix.comparison.junit import junit_xml
    from robustmix.comparison.markdown import check_markdown
    from robustmix.comparison.tables import check_csv

    return console.write_results(
        (junit, lambda: junit_xml(document)),
        (json, document.to_json),
        (markdown, lambda: check_markdown(document)),
        (csv, lambda: check_csv(document)),
    )


def _show(document: "CheckDocument", printed: bool, loud: bool) -> None:
    from robustmix.comparison.github import annotations, append_summary, summary_path
    from robustmix.comparison.tables import check_notes, check_table

    table = check_table(document)
    console.say(table) if printed else console.table_result(table)
    for line in check_notes(document):
        console.say(line)
    if loud:
        for command in annotations(document):
            console.error(command) if printed else console.result(command)
        place = summary_path()
        if place is not None:
            append_summary(document, place)
    console.say(f"check: {document.verdict}")
