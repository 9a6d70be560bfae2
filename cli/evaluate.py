"""``robustmix eval``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from robustmix.cli import console
from robustmix.cli.options import (
    parse_eps,
    parse_grid,
    parse_limit,
    parse_ratios,
    parse_severities,
    parse_triple,
    split_names,
)


def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Checkpoint, or timm:/torchvision: name.")],
    suite: Annotated[
        list[str] | None,
        typer.Option(help="clean, calibration, corruption, fgsm, occlusion or all; repeatable."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Data set [default: the checkpoint's].")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
    ] = None,
    limit: Annotated[
        str | None, typer.Option(help="Evaluate so many images (500) or that share (0.1).")
    ] = None,
    batch_size: Annotated[
        int, typer.Option(help="Images a forward pass; changes no number.")
    ] = 128,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report [default: a new one in runs/].")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue an interrupted evaluation in --out.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in --out.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Run the other suites if one cannot begin.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the report on stdout instead of its path.")
    ] = False,
    corruptions: Annotated[
        str, typer.Option(help="main, extra, all or names.", rich_help_panel="Suites")
    ] = "all",
    severity: Annotated[str, typer.Option(help="1-5 or a list.", rich_help_panel="Suites")] = "1-5",
    corruption_source: Annotated[
        str,
        typer.Option(
            help="official files, generate, or auto: files if there.", rich_help_panel="Suites"
        ),
    ] = "auto",
    profile: Annotated[
        str | None,
        typer.Option(
            help="Severity constants: cifar, tiny, imagenet [default: by size].",
            rich_help_panel="Suites",
        ),
    ] = None,
    frost_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the benchmark's frost pictures [default: textures like them].",
            rich_help_panel="Suites",
        ),
    ] = None,
    mce_reference: Annotated[
        str | None,
        typer.Option(
            help="Divide mCE by the errors in this report, or alexnet.", rich_help_panel="Suites"
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="Radius in [0, 1] pixel units [default: 8/255]; a list sets the sweep.",
            rich_help_panel="Suites",
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="Occlusion patches, e.g. 8x8 [by size].", rich_help_panel="Suites"),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option(
            help="Shares of hidden patches, e.g. 0:1:0.1 [by size].", rich_help_panel="Suites"
        ),
    ] = None,
    fill: Annotated[
        str,
        typer.Option(help="mean, black, image_mean, noise or blur.", rich_help_panel="Suites"),
    ] = "mean",
    trials: Annotated[
        int, typer.Option(help="Occlusion masks a sample.", rich_help_panel="Suites")
    ] = 5,
    arch: Annotated[
        str | None, typer.Option(help="Backbone of a bare state dict.", rich_help_panel="Model")
    ] = None,
    num_classes: Annotated[
        int | None, typer.Option(help="Number of classes.", rich_help_panel="Model")
    ] = None,
    img_size: Annotated[
        int | None, typer.Option(help="Side of the images.", rich_help_panel="Model")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Normalisation, R,G,B.", rich_help_panel="Model")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Normalisation, R,G,B.", rich_help_panel="Model")
    ] = None,
    class_map: Annotated[
        Path | None, typer.Option(help="CSV of output,label.", rich_help_panel="Model")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="OpenMixup head: one_k, mix_k, one_q, mix_q.", rich_help_panel="Model"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="raw or ema, if a file has both.", rich_help_panel="Model")
    ] = None,
    expect_sha256: Annotated[
        str | None, typer.Option(help="Refuse another file.", rich_help_panel="Model")
    ] = None,
    trust_checkpoint: Annotated[
        bool,
        typer.Option(
            "--trust-checkpoint", help="Run the file's own code.", rich_help_panel="Model"
        ),
    ] = False,
    name: Annotated[str | None, typer.Option(help="Name in the report.")] = None,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
) -> None:
    """Evaluate a classifier; writes report.json and the per-sample record samples.npz.

    The path of the report is printed on stdout.
    """
    from robustmix.evaluation.suites.plan import plan_suites
    from robustmix.runs import evaluation_folder

    names = split_names(suite or ["clean,calibration"])
    asked: dict[str, Any] = {
        "corruptions": corruptions,
        "severities": parse_severities(severity),
        "corruption_source": corruption_source,
        "profile": profile,
        "frost_dir": frost_dir,
        "mce_reference": mce_reference,
        "eps": None if eps is None else parse_eps(eps),
        "grid": None if grid is None else parse_grid(grid),
        "ratios": None if ratios is None else parse_ratios(ratios),
        "fill": fill,
        "trials": trials,
    }
    count = None if limit is None else parse_limit(limit)
    suites = plan_suites(names, **asked)

    from robustmix.evaluation.progress import open_progress
    from robustmix.evaluation.run import evaluate as run_evaluation
    from robustmix.evaluation.run import exit_code
    from robustmix.models.intake import load_model
    from robustmix.progress import progress_kind
    from robustmix.report.terminal import error_lines, summary_table, warning_lines

    shown = open_progress(progress_kind(progress), console.talk())
    robust = load_model(
        model,
        arch=arch,
        num_classes=num_classes,
        input_size=None if img_size is None else (3, img_size, img_size),
        mean=None if mean is None else parse_triple(mean),
        std=None if std is None else parse_triple(std),
        class_map=class_map,
        head=head,
        weights=weights,
        expect_sha256=expect_sha256,
        trust_checkpoint=trust_checkpoint,
    )
    folder = out or evaluation_folder(
        Path(model).stem, {"arguments": [a for a in context.obj if a not in ("--json", "--force")]}
    )
    try:
        report = run_evaluation(
            robust,
            dataset,
            suites,
            data_dir=data_dir,
            limit=count,
            batch_size=batch_size,
            device=device,
            seed=seed,
            out=folder,
            resume=resume,
            force=force,
            keep_going=keep_going,
            name=name,
            argv=list(context.obj),
            progress=shown,
        )
    finally:
        shown.close()
    console.say(summary_table(report))
    for line in warning_lines(report):
        console.say(line)
    for line in error_lines(report):
        console.error(line)
    console.result(report.to_json().rstrip("\n") if json else str(folder / "report.json"))
    raise typer.Exit(exit_code(report))
