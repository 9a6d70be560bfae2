"""``robustmix check``."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from robustmix.cli import console
from robustmix.errors import RobustmixError, UsageError, unknown_name

if TYPE_CHECKING:
    from robustmix.comparison.document import CheckDocument


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
    seed: Annotated[int | None, typer.Option(help="Seed of the resamples; 0 if not given.")] = None,
    allow_unverified: Annotated[
        bool,
        typer.Option(
            "--allow-unverified", help="Believe numbers that no per-sample record verifies."
        ),
    ] = False,
    expect_sha256: Annotated[
        str | None, typer.Option(help="Digest that the report's samples.npz must have.")
    ] = None,
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
    latex: Annotated[
        Path | None, typer.Option(help="Write a LaTeX table (booktabs); - is stdout.")
    ] = None,
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
            allow_unverified, expect_sha256, update_baseline,
        )  # fmt: skip
    except RobustmixError as error:
        if loud:
            from robustmix.comparison.github import escape_data

            console.error(f"::error title=robustmix check::{escape_data(error.line())}")
        raise
    if document is None:
        return
    printed = _write(document, junit, json, markdown, latex, csv)
    _show(document, printed, loud)
    if update_baseline:
        from robustmix.comparison.open_report import open_report
        from robustmix.comparison.open_report import update_baseline as replace_baseline

        if document.exit_code in (0, 1):
            place = replace_baseline(open_report(report), str(baseline))
            console.say(f"baseline replaced: {place}")
        else:
            console.say(f"baseline not replaced, for the report is {document.verdict}")
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
    seed: int | None,
    allow_unverified: bool,
    expect_sha256: str | None,
    update_baseline: bool,
) -> "CheckDocument | None":
    """Judge the report; None if there was no baseline yet and now is one."""
    from robustmix.comparison.check import check as check_report
    from robustmix.comparison.default_rules import gate_kind
    from robustmix.comparison.measure import Options
    from robustmix.comparison.rules import GATES, check_alpha, parse_amount, parse_assertion

    if gate is not None and gate not in GATES:
        raise unknown_name("gate", gate, GATES)
    if update_baseline and baseline is None:
        raise UsageError("--update-baseline needs --baseline", "say which one to replace")
    if alpha is not None:
        check_alpha(alpha)
    assertions = [parse_assertion(text) for text in metric or []]
    amounts = [parse_amount(text, "tolerance") for text in tolerance or []]
    width = None if margin is None else parse_amount(margin, "margin")
    kind = None if gate is None else GATES[gate]
    gate_kind(rules is not None, baseline is not None, kind, width, amounts)
    if seed is not None and baseline is None:
        raise UsageError("--seed is of resamples, and rules without a baseline have none")
    if update_baseline and baseline and _made_first(report, baseline, expect_sha256):
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
        allow_unverified=allow_unverified,
        expect_sha256=expect_sha256,
        options=None if seed is None else Options(seed=seed),
        watch=console.Waiting(),
    )


def _made_first(report: Path, baseline: str, expect_sha256: str | None) -> bool:
    """Make the report the baseline where there is none yet; tell whether it was."""
    from robustmix.comparison.open_report import check_record_sha256, open_report
    from robustmix.comparison.open_report import update_baseline as replace_baseline
    from robustmix.comparison.verify import check_rows, check_statements
    from robustmix.report.report import report_path

    place = Path(baseline)
    place = place if place.suffix == ".json" else place / "report.json"
    if baseline.startswith("git:") or report_path(place).exists():
        return False
    source = open_report(report)
    if expect_sha256 is not None:
        check_record_sha256(source, expect_sha256)
    check_rows(source)
    check_statements(source, [])
    made = replace_baseline(source, baseline)
    console.say(f"there was no baseline: {made} is one now, and nothing was checked")
    return True


def _write(
    document: "CheckDocument",
    junit: Path | None,
    json: Path | None,
    markdown: Path | None,
    latex: Path | None,
    csv: Path | None,
) -> bool:
    from robustmix.comparison.junit import junit_xml
    from robustmix.comparison.markdown import check_markdown
    from robustmix.comparison.tables import check_csv, check_latex

    return console.write_results(
        (junit, lambda: junit_xml(document)),
        (json, document.to_json),
        (markdown, lambda: check_markdown(document)),
        (latex, lambda: check_latex(document)),
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
