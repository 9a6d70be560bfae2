"""``robustmix compare``."""

from pathlib import Path
from typing import Annotated

import typer

from robustmix.cli import console
from robustmix.cli.options import split_names
from robustmix.errors import UsageError


def compare(
    reports: Annotated[
        list[Path] | None, typer.Argument(help="A, then one or more B: report.json or its folder.")
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help="Several runs a side, given twice: A=a1.json,a2.json B=b1.json,b2.json."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="Compare this, e.g. 'corruption.acc[fog/3]'; repeatable."),
    ] = None,
    suite: Annotated[list[str] | None, typer.Option(help="Only these suites.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every number, conditions and points of curves too.")
    ] = False,
    allow_subset: Annotated[
        bool, typer.Option("--allow-subset", help="Compare the images that both reports hold.")
    ] = False,
    alpha: Annotated[float, typer.Option(help="Level of tests and intervals.")] = 0.05,
    correction: Annotated[str, typer.Option(help="holm, or bh: false discovery rate.")] = "holm",
    margin: Annotated[str, typer.Option(help="A difference of a fraction that matters.")] = "1pp",
    replicates: Annotated[int, typer.Option(help="Bootstrap resamples of the images.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    json: Annotated[
        Path | None, typer.Option(help="Write the comparison as JSON; - is stdout.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write Markdown; - is stdout.")] = None,
    latex: Annotated[
        Path | None, typer.Option(help="Write LaTeX tables (booktabs); - is stdout.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write CSV; - is stdout.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page of the reports.")] = None,
) -> None:
    """Compare reports image by image; the table is printed on stdout.

    Exits 0 whatever the result, and 5 if the reports are not of the same images and protocol.
    """
    console.starting("comparing")
    from robustmix.comparison.compare import GROUP_REPLICATES, compare_groups
    from robustmix.comparison.compare import compare as compare_reports
    from robustmix.comparison.markdown import comparison_markdown
    from robustmix.comparison.measure import FUNCTION_REPLICATES, Options
    from robustmix.comparison.open_report import Source, open_report
    from robustmix.comparison.paths import parse_path
    from robustmix.comparison.rules import check_alpha, parse_amount
    from robustmix.comparison.tables import (
        comparison_csv,
        comparison_latex,
        comparison_notes,
        comparison_tables,
    )

    check_alpha(alpha)
    if not 100 <= replicates <= 1_000_000 or not 0 <= seed < 2**63:
        raise UsageError("expected --replicates from 100 to 1000000 and --seed >= 0")
    paths = [parse_path(text) for text in metric] if metric else None
    suites = split_names(suite) if suite else None
    if paths is not None and (suites is not None or everything):
        raise UsageError("--metric names all that is compared", "leave out --suite and --all")
    amount = parse_amount(margin, "margin")
    if amount.unit == "%":
        raise UsageError("--margin is in points, not in per cent of a value", "write 1pp")
    width = amount.of("fraction", 0.0, what="--margin")
    opened: list[Source] = []
    if group:
        if reports or allow_subset or html or len(group) != 2:
            raise UsageError(
                "expected --group twice, no other reports and no page",
                "robustmix compare --group A=a1.json,a2.json --group B=b1.json,b2.json",
                code="E-GROUP",
            )
        sides = [split_names([side.partition("=")[2] or side]) for side in group]
        document = compare_groups(
            sides[0],
            sides[1],
            metrics=paths,
            everything=everything,
            suites=suites,
            correction=correction,
            margin=width,
            options=Options(
                alpha=alpha, function_replicates=min(replicates, GROUP_REPLICATES), seed=seed
            ),
            watch=console.Waiting(),
        )
    else:
        paired = reports or [Path()]
        opened = [open_report(path) for path in paired] if paired[1:] else []
        first, *others = opened or paired
        document = compare_reports(
            first,
            *others,
            metrics=paths,
            everything=everything,
            suites=suites,
            allow_subset=allow_subset,
            correction=correction,
            margin=width,
            options=Options(
                alpha=alpha,
                replicates=replicates,
                function_replicates=min(replicates, FUNCTION_REPLICATES),
                seed=seed,
            ),
            watch=console.Waiting(),
        )
    if html is not None:
        from robustmix.pages.page import write_page

        write_page([source.report for source in opened], html, document)
    printed = console.write_results(
        (json, document.to_json),
        (markdown, lambda: comparison_markdown(document)),
        (latex, lambda: comparison_latex(document)),
        (csv, lambda: comparison_csv(document)),
    )
    for table in comparison_tables(document):
        console.say(table) if printed else console.table_result(table)
    for line in comparison_notes(document):
        console.say(line)
