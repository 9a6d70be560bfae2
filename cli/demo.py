"""``robustmix demo``."""

from pathlib import Path
from typing import Annotated

import typer

from robustmix.cli import console


def demo(
    out: Annotated[Path, typer.Option(help="Where runs and reports go.")] = Path("robustmix-demo"),
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Train two small models on real digits and measure them side by side: no download.

    The paths of the reports are printed on stdout.
    """
    console.starting("demo")
    from robustmix.demo import EPOCHS, METHODS, run_demo
    from robustmix.report.terminal import comparison_table

    result = run_demo(out, seed=seed, console=console.talk())
    if result.interrupted_by is not None:
        console.say("stopped; run the same command to continue")
        raise typer.Exit(128 + result.interrupted_by)
    console.say(comparison_table(result.reports))
    console.say(
        f"{' and '.join(METHODS)} were trained alike, for {EPOCHS} epochs; all of it took "
        f"{result.seconds:.0f} s. Two models trained for a minute on digits prove nothing about "
        "the methods: this shows what robustmix measures, not which method is better."
    )
    for path in result.paths:
        console.result(str(path))
