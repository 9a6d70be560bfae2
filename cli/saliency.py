"""``robustmix saliency``: make the maps by which patches are hidden, and look at them."""

from pathlib import Path
from typing import Annotated

import typer

from robustmix.cli import console
from robustmix.cli.model_options import ModelOptions, takes_model_options
from robustmix.cli.options import parse_limit
from robustmix.errors import UsageError, unknown_name

saliency = typer.Typer(
    help="Make the saliency maps that suite occlusion takes from a file, and look at them. "
    "`robustmix list saliency` tells the sources.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DataDir = Annotated[
    Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
]
SPLITS = ("test", "train")


@saliency.command()
@takes_model_options(without=("class_map",))
def make(
    model: Annotated[
        str,
        typer.Option(
            help="What is asked for saliency: a checkpoint, or a name (robustmix list models); "
            "timm:NAME.TAG and timm:NAME@TAG have trained weights.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="npz to write; an interrupted one is taken up.")],
    dataset: Annotated[
        str | None, typer.Option(help="Data set [default: the checkpoint's].")
    ] = None,
    source: Annotated[str, typer.Option(help="See robustmix list saliency.")] = "attention",
    attention_head: Annotated[
        str, typer.Option(help="Of attention: a head, from 0, or mean; 1 was published.")
    ] = "mean",
    label: Annotated[
        str | None,
        typer.Option(help="Class to explain: prediction or label [default: prediction]."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            help="Model that will be evaluated: its images and its normalisation are taken, as "
            "published; --model sees them [default: its own]."
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            help="Rows and columns of a map, e.g. 14x14 [default: of attention the network's "
            "patches, else the finest up to 64x64]."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="test or train.")] = "test",
    data_dir: DataDir = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Take a part of a data set.")
    ] = False,
    limit: Annotated[
        str | None, typer.Option(help="So many images (500) or that share (0.1), as eval takes.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images a pass.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of everything random, --limit too.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --out.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print what the file says of itself, not its path.")
    ] = False,
    progress: Annotated[str, typer.Option(help="auto, rich, plain or none.")] = "auto",
    *,
    model_options: ModelOptions,
) -> None:
    """Write the saliency maps of a data set, for `eval --suite occlusion --saliency-file`.

    As published by Naseer et al.: --model timm:vit_small_patch16_224.dino --attention-head 1
    --like THE_MODEL. The file says what it was made of; an evaluation of other images refuses it.
    """
    from robustmix.saliency.registry import SALIENCY

    SALIENCY.checked(source)
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    wanted_head = _head(attention_head)
    of = model_options
    if like is not None and (of.mean, of.std, of.norm_preset) != (None, None, None):
        raise UsageError("--like brings a normalisation, and another one is given", "leave one out")
    console.starting("making saliency maps")
    from robustmix.evaluation.make_maps import make_maps
    from robustmix.evaluation.patches import parse_grid
    from robustmix.evaluation.progress import open_progress
    from robustmix.files import canonical_json
    from robustmix.models.load import load_model
    from robustmix.progress import progress_kind

    shape = None if grid is None else parse_grid(grid)
    count = None if limit is None else parse_limit(limit)
    kind = progress_kind(progress)
    robust = model_options.load(model, backbone=True)
    other = None
    if like is not None:
        other = load_model(like, allow_download=model_options.allow_download, backbone=True)
    shown = open_progress(kind, console.talk())
    try:
        made = make_maps(
            robust,
            dataset,
            out,
            source=source,
            attention_head=wanted_head,
            label=label,
            like=other,
            grid=shape,
            split="train" if split == "train" else "test",
            data_dir=data_dir,
            limit=count,
            batch_size=batch_size,
            device=device,
            seed=seed,
            allow_partial=allow_partial,
            transform=model_options.preparation(),
            override_checkpoint=model_options.override_checkpoint,
            force=force,
            progress=shown,
        )
    finally:
        shown.close()
    for note in made.notes:
        console.say(f"note: {note}")
    rows, columns = made.shape
    console.say(f"{made.record.n} maps of {rows}x{columns}: {made.record.told()}")
    console.result(canonical_json(made.record.as_dict()) if json else str(made.path))


def _head(text: str) -> int | None:
    if text == "mean":
        return None
    if not text.isdecimal() or len(text) > 4:
        raise UsageError(f"--attention-head takes a number or mean, got '{text[:80]}'", "write 1")
    return int(text)


@saliency.command()
def preview(
    maps: Annotated[Path, typer.Argument(help="npz of maps.")],
    dataset: Annotated[
        str | None, typer.Option(help="Data set [default: as the file says].")
    ] = None,
    data_dir: DataDir = None,
    images: Annotated[int, typer.Option(help="So many images of the file.")] = 8,
    out: Annotated[Path, typer.Option(help="PNG or SVG file.")] = Path("saliency.png"),
) -> None:
    """Draw images, their maps over them, and what is hidden first; prints the file.

    The first images of the file are drawn, prepared as the file says.
    """
    console.starting("drawing saliency maps")
    from robustmix.pages.saliency_maps import draw_maps

    if out.suffix not in (".png", ".svg"):
        raise UsageError(f"expected a .png or .svg file, got {out}")
    draw_maps(maps, out, dataset=dataset, data_dir=data_dir, count=images)
    console.result(str(out))
