"""``robustmix calibrate``: fit a temperature on held-out images and write it into a checkpoint."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from robustmix.cli import console
from robustmix.cli.model_options import PREPARATION, ModelOptions, takes_model_options
from robustmix.errors import UsageError


@takes_model_options(without=("class_map", *PREPARATION))
def calibrate(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, folder, or a name (robustmix list models).")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Checkpoint to write [default: MODEL-calibrated.pth].")
    ] = None,
    calib_data: Annotated[
        str | None,
        typer.Option(help="Data set to fit to [default: the training's validation split]."),
    ] = None,
    calib_split: Annotated[
        str, typer.Option(help="auto, val (of the training); train or test of --calib-data.")
    ] = "auto",
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Take a data set whose images are not all here.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the folds and the intervals.")] = 0,
    figure: Annotated[
        Path | None, typer.Option(help="Reliability diagram before and after, PNG or SVG.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --out.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the report on stdout instead of the path.")
    ] = False,
    *,
    model_options: ModelOptions,
) -> None:
    """Fit a temperature on images that are not scored and write a calibrated checkpoint.

    `robustmix eval` takes the checkpoint as any other and divides its logits by the temperature.
    The checkpoint's path is printed on stdout; a report lies beside it.
    """
    if figure is not None and figure.suffix not in (".png", ".svg"):
        raise UsageError(f"expected a .png or .svg file, got {figure}")
    console.starting(f"calibrating {model}")
    from robustmix.evaluation.calibrate import calibrate_model, default_out
    from robustmix.pages.reliability import Panel, draw_reliability

    robust = model_options.load(model)
    target = out or default_out(model)
    done = calibrate_model(
        robust,
        target,
        source=model,
        calib_data=calib_data,
        calib_split=calib_split,
        data_dir=data_dir,
        allow_partial=allow_partial,
        device=device,
        seed=seed,
        force=force,
    )
    if figure is not None:
        draw_reliability(
            [
                Panel("before", done.bins_before, done.report["ece_before"]["value"]),
                Panel(
                    f"after, T = {done.T:.3f}", done.bins_after, done.report["ece_after"]["value"]
                ),
            ],
            figure,
            title=f"{robust.info.source} on {done.report['n']} held-out images",
        )
        console.say(f"reliability diagram: {figure}")
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("metric", "before", "after", "n"):
        table.add_column(column, no_wrap=True)
    for name in ("nll", "ece"):
        before, after = done.report[f"{name}_before"], done.report[f"{name}_after"]
        shown = [
            f"{part['value']:.4f} [{part['ci'][0]:.4f}, {part['ci'][1]:.4f}]"
            for part in (before, after)
        ]
        table.add_row(name, *shown, str(before["n"]))
    console.say(f"T = {done.T:.4f}, fitted to {done.report['n']} images: {done.report['source']}")
    console.say(table)
    console.say("each half of them was scored with the temperature of the other")
    for note in done.report["notes"]:
        code, _, text = note.partition(": ")
        console.say(f"warning[{code}]: {text}")
    console.result(
        json_module.dumps(done.report, indent=2, sort_keys=True) if json else str(target)
    )
