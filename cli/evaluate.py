"""``robustmix eval``."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustmix.cli import console
from robustmix.cli.model_options import (
    Arch,
    ClassMap,
    ExpectSha256,
    Head,
    ImgSize,
    Mean,
    NumClasses,
    Std,
    TrustCheckpoint,
    Weights,
)
from robustmix.cli.options import (
    parse_bins,
    parse_eps,
    parse_grid,
    parse_limit,
    parse_offset,
    parse_pieces,
    parse_ratios,
    parse_severities,
    parse_triple,
    split_names,
)
from robustmix.errors import unknown_name

if TYPE_CHECKING:
    from robustmix.evaluation.forecast import Forecast
    from robustmix.evaluation.job import Job


def evaluate(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Checkpoint, or timm:/torchvision: name.")],
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="clean, calibration, corruption, fgsm, pgd, autoattack, torchattacks:NAME, "
            "masking, occlusion, shuffle or all; repeatable."
        ),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Named parameters: standard, quick, paper-adautomix, ...; repeatable. --suite "
            "then chooses among its suites, and other options change them."
        ),
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
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be run, and how long it would take."),
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
            rich_help_panel="Attacks",
        ),
    ] = None,
    norm: Annotated[
        str, typer.Option(help="Of the attacks: linf or l2.", rich_help_panel="Attacks")
    ] = "linf",
    steps: Annotated[
        int | None, typer.Option(help="Steps of pgd [default: 20].", rich_help_panel="Attacks")
    ] = None,
    step_size: Annotated[
        str | None,
        typer.Option(
            help="Of pgd, e.g. 2/255 [default: a quarter of eps, in l2 a fifth].",
            rich_help_panel="Attacks",
        ),
    ] = None,
    restarts: Annotated[
        int, typer.Option(help="Random starts of pgd.", rich_help_panel="Attacks")
    ] = 1,
    loss: Annotated[
        str, typer.Option(help="Of pgd: ce, margin or dlr.", rich_help_panel="Attacks")
    ] = "ce",
    targeted: Annotated[
        bool,
        typer.Option(
            "--targeted",
            help="pgd towards each of the 9 highest other classes.",
            rich_help_panel="Attacks",
        ),
    ] = False,
    random_start: Annotated[
        bool,
        typer.Option(
            "--random-start/--no-random-start",
            help="Where pgd begins.",
            rich_help_panel="Attacks",
        ),
    ] = True,
    masking: Annotated[
        str,
        typer.Option(
            help="auto: check once a run whether attacks are fooled; off: do not.",
            rich_help_panel="Attacks",
        ),
    ] = "auto",
    masking_samples: Annotated[
        int, typer.Option(help="Images of that check.", rich_help_panel="Attacks")
    ] = 512,
    surrogate: Annotated[
        str | None,
        typer.Option(
            help="A sibling model for that check to transfer attacks from.",
            rich_help_panel="Attacks",
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
        int, typer.Option(help="Occlusion masks or shuffles a sample.", rich_help_panel="Suites")
    ] = 5,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            help="Patches hidden first: random, salient, nonsalient, foreground, background; "
            "several give a curve each.",
            rich_help_panel="Suites",
        ),
    ] = None,
    saliency: Annotated[
        str | None,
        typer.Option(
            help="Of modes salient, nonsalient: gradxinput, smoothgrad, gradcam, rollout, center "
            "or file [default: gradxinput].",
            rich_help_panel="Suites",
        ),
    ] = None,
    saliency_file: Annotated[
        Path | None,
        typer.Option(help="npz of saliency maps by sample id.", rich_help_panel="Suites"),
    ] = None,
    saliency_label: Annotated[
        str,
        typer.Option(help="Explain the prediction or the label.", rich_help_panel="Suites"),
    ] = "prediction",
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="Where the objects are: npz of boxes or masks, or CUB's folder.",
            rich_help_panel="Suites",
        ),
    ] = None,
    offset: Annotated[
        str,
        typer.Option(help="Pixels right,down to shift the grid.", rich_help_panel="Suites"),
    ] = "0,0",
    pieces: Annotated[
        str | None,
        typer.Option(help="Shuffled pieces, e.g. 4,16,64 [by size].", rich_help_panel="Suites"),
    ] = None,
    confusion: Annotated[
        bool,
        typer.Option(
            "--confusion", help="Add the confusion matrix of suite clean.", rich_help_panel="Suites"
        ),
    ] = False,
    ece_bins: Annotated[
        str, typer.Option(help="Bin counts; 10 and 15 are always there.", rich_help_panel="Suites")
    ] = "10,15",
    calib_data: Annotated[
        str | None,
        typer.Option(help="Data set to fit the temperature to.", rich_help_panel="Suites"),
    ] = None,
    calib_split: Annotated[
        str,
        typer.Option(
            help="auto, val (of the training), two-fold; train or test of --calib-data.",
            rich_help_panel="Suites",
        ),
    ] = "auto",
    recalibrate: Annotated[
        str,
        typer.Option(help="Experimental: try vector, isotonic too.", rich_help_panel="Suites"),
    ] = "",
    arch: Arch = None,
    num_classes: NumClasses = None,
    img_size: ImgSize = None,
    mean: Mean = None,
    std: Std = None,
    class_map: ClassMap = None,
    head: Head = None,
    weights: Weights = None,
    expect_sha256: ExpectSha256 = None,
    trust_checkpoint: TrustCheckpoint = False,
    name: Annotated[str | None, typer.Option(help="Name in the report.")] = None,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
) -> None:
    """Evaluate a classifier; writes report.json and the per-sample record samples.npz.

    The path of the report is printed on stdout.
    """
    from robustmix.evaluation.names import PROTOCOLS
    from robustmix.evaluation.suites.attack_plan import AttackChoices, with_surrogate
    from robustmix.evaluation.suites.plan import plan_suites
    from robustmix.runs import evaluation_folder

    names = split_names(suite or ([] if protocol else ["clean,calibration"]))
    asked: dict[str, Any] = {
        "corruptions": corruptions,
        "severities": parse_severities(severity),
        "corruption_source": corruption_source,
        "profile": profile,
        "frost_dir": frost_dir,
        "mce_reference": mce_reference,
        "eps": None if eps is None else parse_eps(eps, norm=norm),
        "attacks": AttackChoices(
            norm=norm,
            steps=steps,
            step_size=None if step_size is None else parse_eps(step_size, norm=norm)[0],
            restarts=restarts,
            loss=loss,
            targeted=targeted,
            random_start=random_start,
            masking=masking,
            masking_samples=masking_samples,
        ),
        "grid": None if grid is None else parse_grid(grid),
        "ratios": None if ratios is None else parse_ratios(ratios),
        "fill": fill.replace("-", "_"),
        "trials": trials,
        "modes": tuple(split_names(mode or ["random"])),
        "saliency": saliency,
        "saliency_file": saliency_file,
        "saliency_label": saliency_label,
        "boxes": boxes,
        "offset": parse_offset(offset),
        "pieces": None if pieces is None else parse_pieces(pieces),
        "confusion": confusion,
        "ece_bins": parse_bins(ece_bins),
        "calib_data": calib_data,
        "calib_split": calib_split,
        "recalibrators": tuple(split_names([recalibrate])),
    }
    count = None if limit is None else parse_limit(limit)
    suites = plan_suites(names or ["clean"], **asked)
    presets = split_names(protocol or [])
    for preset in presets:
        if preset not in PROTOCOLS:
            raise unknown_name("protocol", preset, PROTOCOLS)

    from robustmix.evaluation.evaluate import evaluate as run_evaluation
    from robustmix.evaluation.evaluate import exit_code
    from robustmix.evaluation.forecast import forecast
    from robustmix.evaluation.planned import Planned
    from robustmix.evaluation.prepare import prepare
    from robustmix.evaluation.progress import open_progress
    from robustmix.evaluation.protocols import Scene
    from robustmix.evaluation.suites.clean import with_train_counts
    from robustmix.evaluation.suites.protocols import each, plan_protocols
    from robustmix.models.load import load_model
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
    planned = [Planned(suite=one) for one in suites]
    which = dataset or robust.info.dataset or ""
    if presets:
        scene = Scene(
            side=robust.input_size[1],
            imagenet=which.startswith("imagenet"),
            saliency_file=saliency_file,
        )
        planned = plan_protocols(
            presets, scene, wanted=names or None, asked=asked, given=_given(context)
        )
    if surrogate is not None:
        other = load_model(surrogate)
        planned = each(planned, lambda found: with_surrogate(found, other))
    planned = each(planned, lambda found: with_train_counts(found, which or None))
    if dry_run:
        shown.close()
        job = prepare(
            robust,
            dataset,
            planned,
            data_dir=data_dir,
            limit=count,
            device=device,
            seed=seed,
            keep_going=keep_going,
        )
        _show_forecast(job, forecast(job, batch_size=batch_size), json=json)
        return
    folder = out or evaluation_folder(
        Path(model).stem, {"arguments": [a for a in context.obj if a not in ("--json", "--force")]}
    )
    try:
        report = run_evaluation(
            robust,
            dataset,
            planned,
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


def _given(context: typer.Context) -> list[str]:
    """Return the options that were given, on the command line or by the environment."""
    return [
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) is not None
        and source.name not in ("DEFAULT", "DEFAULT_MAP")
    ]


def _show_forecast(job: "Job", found: "Forecast", *, json: bool) -> None:
    from robustmix.evaluation.forecast_table import forecast_lines, forecast_table
    from robustmix.files import canonical_json

    if json:
        console.result(canonical_json({**asdict(found), "seconds": found.seconds}))
        return
    console.table_result(forecast_table(found))
    for line in forecast_lines(job, found):
        console.result(line)
