"""``robustmix train``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from robustmix.cli import completion, console
from robustmix.cli.loggers import LogOption, opened_log
from robustmix.cli.options import parse_limit, parse_seeds
from robustmix.cli.recipes import as_toml
from robustmix.errors import UsageError
from robustmix.progress import progress_kind

if TYPE_CHECKING:
    from robustmix.data.preparation import TransformOptions
    from robustmix.training.loop import TrainResult
    from robustmix.training.recipe import Recipe
    from robustmix.training.resolve import Resolved

PICTURE_EVERY = 10


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="DATASET-ARCH-METHOD[-EPOCHS|-VARIANT] (robustmix recipes list) or a TOML file.",
            autocompletion=completion.complete(completion.recipes),
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Data set (robustmix list datasets), or folder:PATH.",
            autocompletion=completion.complete(completion.datasets),
        ),
    ] = None,
    protocol_of: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET",
            help="With folder:PATH: augment, normalise and test as this data set is.",
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
    ] = None,
    allow_partial: Annotated[
        bool,
        typer.Option(
            "--allow-partial",
            help="Train on what is here of a data set whose images are not all here.",
        ),
    ] = False,
    arch: Annotated[
        str | None,
        typer.Option(
            help="Backbone (robustmix list archs); module:FILE.py:FACTORY runs your own code.",
            autocompletion=completion.complete(completion.archs),
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Training method (robustmix list methods).",
            autocompletion=completion.complete(completion.methods),
        ),
    ] = None,
    img_size: Annotated[
        int | None,
        typer.Option(help="Side of the images in pixels.", rich_help_panel="Images"),
    ] = None,
    train_size: Annotated[
        int | None,
        typer.Option(
            help="Side of the training images, where it is another than that of test images.",
            rich_help_panel="Images",
        ),
    ] = None,
    resize: Annotated[
        int | None,
        typer.Option(
            help="Shorter side that test images are resized to before the central crop.",
            rich_help_panel="Images",
        ),
    ] = None,
    crop_pct: Annotated[
        float | None,
        typer.Option(
            help="The same as a share: the images' side / resize.", rich_help_panel="Images"
        ),
    ] = None,
    interpolation: Annotated[
        str | None,
        typer.Option(
            help="How test images are resized: nearest, bilinear, bicubic or lanczos.",
            rich_help_panel="Images",
        ),
    ] = None,
    crop_mode: Annotated[
        str | None,
        typer.Option(
            help="What becomes of test images that are not square: center, squash or border.",
            rich_help_panel="Images",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate after the warm-up.")] = None,
    min_lr: Annotated[
        float | None, typer.Option(help="Learning rate the schedule falls to.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    seed: Annotated[
        str | None,
        typer.Option(help="Seed of everything random; several (0,1,2) are runs of their own."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, or bf16 for autocast in the forward pass.")
    ] = None,
    compile_: Annotated[
        str | None,
        typer.Option("--compile", help="on or off: compile the step; auto does so on CUDA."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="CKPT",
            help="Trained network that attentivemix and supermix ask: a checkpoint, or published "
            "weights (torchvision:NAME@TAG, timm:NAME@TAG, hf-hub:NAME).",
        ),
    ] = None,
    feature_stage: Annotated[
        int | None,
        typer.Option(help="Stage whose map the mask generator gets [default: the arch's own]."),
    ] = None,
    limit_train: Annotated[
        str | None, typer.Option(help="Train on so many images (500) or that share (0.1).")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any recipe key, e.g. --set method.alpha=0.5; repeatable."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the recipe, its steps, and the time and memory of a step measured here.",
        ),
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Run folder [default: one in runs/ named by the recipe].")
    ] = None,
    resume: Annotated[
        str, typer.Option(help="auto continues the run in --out; never; or a checkpoint.")
    ] = "auto",
    force: Annotated[
        bool, typer.Option("--force", help="With --resume never: replace a finished run.")
    ] = False,
    picture_every: Annotated[
        int | None,
        typer.Option(
            help="Epochs between pictures of the learned masks; 0 draws none [default: 10]."
        ),
    ] = None,
    allow_download: Annotated[
        bool,
        typer.Option(
            "--allow-download", help="Fetch weights that the recipe starts from, or a teacher's."
        ),
    ] = False,
    published_buffers: Annotated[
        bool,
        typer.Option(
            "--published-buffers",
            help="Under torchrun: deploy the first process's batch statistics, not the mean.",
        ),
    ] = False,
    allow_other_world: Annotated[
        bool,
        typer.Option(
            "--allow-other-world",
            help="Continue, inexactly, with another number of processes.",
        ),
    ] = False,
    log: LogOption = None,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
) -> None:
    """Train a classifier; writes a run folder with its recipe, metrics and checkpoints.

    The path of the last checkpoint is printed on stdout.
    """
    console.starting("planning the training" if dry_run else "training")
    from robustmix.data.preparation import TransformOptions

    on_event = opened_log(log)  # before anything that takes time
    overrides: dict[str, object] = {
        "dataset": dataset,
        "protocol_of": protocol_of,
        "allow_partial": True if allow_partial else None,
        "arch": arch,
        "method": method,
        "img_size": img_size,
        "augment.size": train_size,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "min_lr": min_lr,
        "weight_decay": weight_decay,
        "precision": precision,
        "compile": compile_,
        "method.teacher": None if teacher is None else _teacher(teacher),
        "method.feature_stage": feature_stage,
        "limit_train": None if limit_train is None else parse_limit(limit_train),
    }
    asked = TransformOptions(
        resize=resize, crop_pct=crop_pct, interpolation=interpolation, crop_mode=crop_mode
    )
    said = any(value is not None for value in overrides.values()) or bool(asked.said)
    given = recipe is not None or sets or said
    if out is not None and (out / "recipe.toml").is_file() and not given and seed is None:
        recipe = str(out / "recipe.toml")  # nothing else was said: the run that is there
    seeds = [None] if seed is None else parse_seeds(seed)
    resolved = [_resolved(recipe, sets or [], {**overrides, "seed": one}, asked) for one in seeds]
    if dry_run:
        _show_dry_run(resolved[0], len(resolved), data_dir, device, allow_download)
        return
    _check_options(resolved[0].recipe, len(seeds), resume, picture_every)
    kind = progress_kind(progress)
    folders = [_folder(out, one.recipe, several=len(seeds) > 1) for one in resolved]
    for one, folder in zip(resolved, folders, strict=True):
        _train(
            one.recipe,
            out=folder,
            data_dir=data_dir,
            device=device,
            resume=resume,
            force=force,
            progress="none" if console.talk().quiet else kind,
            picture_every=PICTURE_EVERY if picture_every is None else picture_every,
            allow_download=allow_download,
            published_buffers=published_buffers,
            allow_other_world=allow_other_world,
            on_event=on_event,
        )
    if len(folders) > 1:
        _show_row(folders)


def _show_row(folders: list[Path]) -> None:
    """Show what several seeds come to: a study of one row."""
    from robustmix.launch import launched
    from robustmix.studies.formats.terminal import parts
    from robustmix.studies.layout import layout_of
    from robustmix.studies.results import read_run
    from robustmix.studies.tabulate import tabulate

    if launched().rank > 0:
        return
    results = [read_run(folder, reports=()) for folder in folders]
    for part in parts(tabulate(results, layout_of(results, rows=["method"]), title="All seeds")):
        console.say(part)


def _resolved(
    source: str | None, sets: list[str], overrides: dict[str, object], asked: "TransformOptions"
) -> "Resolved":
    """Return the recipe; how test images are prepared is asked over what all else makes it."""
    from robustmix.training.asked_transform import transform_keys
    from robustmix.training.resolve import resolve_source

    found = resolve_source(source, sets=sets, overrides=overrides)
    keys = transform_keys(found.recipe, asked)
    return resolve_source(source, sets=sets, overrides={**overrides, **keys}) if keys else found


def _check_options(recipe: "Recipe", runs: int, resume: str, picture_every: int | None) -> None:
    """Refuse options that would do nothing beside the others."""
    from robustmix.methods.registry import METHODS

    if runs > 1 and resume not in ("auto", "never"):
        raise UsageError("--resume CKPT continues one run", "give one --seed")
    if picture_every is not None and not METHODS.row(recipe.method).generator:
        raise UsageError(
            f"--picture-every: method {recipe.method} learns no masks to draw",
            "leave it out",
            code="E-UNUSED-OPTION",
        )


def _folder(out: Path | None, recipe: "Recipe", *, several: bool) -> Path:
    from robustmix.runs import training_folder
    from robustmix.training.recipe_dict import recipe_to_dict

    if out is None:
        names = (recipe.dataset, recipe.arch, recipe.method)
        return training_folder(recipe_to_dict(recipe), *names)
    return out / f"seed-{recipe.seed}" if several else out


def _train(recipe: "Recipe", **options: Any) -> None:
    """Train one run; print its checkpoint, and leave with its exit code if it was stopped."""
    from robustmix.launch import launched
    from robustmix.training.loop import train as train_recipe

    result = train_recipe(recipe, **options)
    if launched().rank > 0:  # the first process talks
        _leave(result)
        return
    if result.interrupted:
        console.say(f"stopped after epoch {result.epochs}; run the same command to continue")
    elif result.already:
        console.say(f"finished already ({result.epochs} epochs); nothing trained")
    console.result(str(result.last))
    _leave(result)


def _leave(result: "TrainResult") -> None:
    if result.interrupted:
        raise typer.Exit(128 + result.signal if result.signal else 4)


def _teacher(source: str) -> str:
    """Return a checkpoint by its whole path, lest it be looked for from another folder."""
    from robustmix.methods.trained_teacher import is_published

    return source if is_published(source) else str(Path(source).absolute())


def _show_dry_run(
    resolved: "Resolved", runs: int, data_dir: Path | None, device: str, allow_download: bool
) -> None:
    from robustmix.training.dry_run import dry_run

    found = dry_run(
        resolved.recipe,
        data_dir=data_dir,
        device=device,
        allow_download=allow_download,
        say=console.say,
    )
    # TOML with comments: what is printed can be saved and trained.
    console.result(as_toml(resolved) + "\n" + "\n".join(f"# {line}" for line in found.lines(runs)))
