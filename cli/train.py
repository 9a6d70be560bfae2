"""``robustmix train``."""

from pathlib import Path
from typing import Annotated

import typer

from robustmix.cli import console
from robustmix.cli.options import parse_limit


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="Packaged recipe (robustmix list recipes) or a TOML file.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="digits, cifar10, cifar100 or folder:PATH.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
    ] = None,
    arch: Annotated[str | None, typer.Option(help="Backbone (robustmix list archs).")] = None,
    method: Annotated[
        str | None, typer.Option(help="Training method (robustmix list methods).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate after the warm-up.")] = None,
    min_lr: Annotated[
        float | None, typer.Option(help="Learning rate the schedule falls to.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Weight decay.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, or bf16 for autocast in the forward pass.")
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT",
            help="Checkpoint of the trained network that attentivemix and supermix ask.",
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
        int, typer.Option(help="Epochs between pictures of the learned masks; 0 draws none.")
    ] = 10,
    allow_download: Annotated[
        bool, typer.Option("--allow-download", help="Fetch weights that the recipe starts from.")
    ] = False,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
) -> None:
    """Train a classifier; writes a run folder with its recipe, metrics and checkpoints.

    The path of the last checkpoint is printed on stdout.
    """
    from robustmix.progress import progress_kind
    from robustmix.runs import training_folder
    from robustmix.training.loop import train as train_recipe
    from robustmix.training.recipe import recipe_to_dict, resolve_recipe

    overrides = {
        "dataset": dataset,
        "arch": arch,
        "method": method,
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "min_lr": min_lr,
        "weight_decay": weight_decay,
        "seed": seed,
        "precision": precision,
        "method.teacher": None if teacher is None else str(teacher.absolute()),
        "method.feature_stage": feature_stage,
        "limit_train": None if limit_train is None else parse_limit(limit_train),
    }
    is_file = recipe is not None and (recipe.endswith(".toml") or Path(recipe).is_file())
    resolved = resolve_recipe(
        None if is_file else recipe,
        file=Path(recipe) if recipe is not None and is_file else None,
        sets=sets or (),
        overrides=overrides,
    )
    folder = out or training_folder(
        recipe_to_dict(resolved), resolved.dataset, resolved.arch, resolved.method
    )
    result = train_recipe(
        resolved,
        out=folder,
        data_dir=data_dir,
        device=device,
        resume=resume,
        force=force,
        progress=progress_kind(progress),
        picture_every=picture_every,
        allow_download=allow_download,
    )
    if result.interrupted:
        console.say(f"stopped after epoch {result.epochs}; run the same command to continue")
    console.result(str(result.last))
    if result.interrupted:
        raise typer.Exit(128 + result.signal if result.signal else 4)
