"""``robustmix corrupt``: write corrupted test sets, check them, look at them."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from robustmix.cli import console
from robustmix.cli.options import parse_limit
from robustmix.errors import IntakeError

if TYPE_CHECKING:
    from robustmix.corruptions.writer import Written

corrupt = typer.Typer(
    help="Write, check and look at corrupted test sets.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

DataDir = Annotated[
    Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
]
FrostDir = Annotated[
    Path | None, typer.Option(help="The benchmark's frost pictures [default: textures like them].")
]


@corrupt.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder of the set; an interrupted one is taken up.")],
    dataset: Annotated[str, typer.Option(help="Data set whose test split is corrupted.")] = (
        "cifar100"
    ),
    data_dir: DataDir = None,
    corruptions: Annotated[str, typer.Option(help="main, extra, all or names.")] = "all",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    profile: Annotated[
        str | None, typer.Option(help="Severity constants: cifar, tiny, imagenet [by size].")
    ] = None,
    frost_dir: FrostDir = None,
    limit: Annotated[
        str | None, typer.Option(help="Only so many images (500) or that share (0.1).")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="The benchmark's own arithmetic; always on.")
    ] = True,
    force: Annotated[bool, typer.Option("--force", help="Replace another set in --out.")] = False,
) -> None:
    """Write a drop-in for CIFAR-10-C or CIFAR-100-C: one array a corruption, and the labels.

    The folder is printed on stdout. The same seed gives the images that `robustmix eval` generates.
    """
    console.starting(f"corrupting {dataset}")
    from robustmix.corruptions.writer import write_set
    from robustmix.data.datasets import load_dataset
    from robustmix.evaluation.suites.corruption import select_corruptions

    names = select_corruptions(corruptions)
    data = load_dataset(dataset, "test", data_dir=data_dir)
    count = None if limit is None else parse_limit(limit)
    if count is not None:
        size = min(len(data), count) if isinstance(count, int) else max(1, int(count * len(data)))
        data = data.subset(list(range(size)))
    begun, spent = time.monotonic(), [0.0, 0]

    def tell(written: "Written") -> None:
        spent[1] += 1
        if not written.reused:
            spent[0] += written.seconds
        made = "found" if written.reused else f"{written.seconds:.0f} s"
        left = len(names) - int(spent[1])
        pace = f", about {left * spent[0] / spent[1]:.0f} s left" if left and spent[0] else ""
        console.say(f"{written.name} {int(spent[1])}/{len(names)}: {made}{pace}")

    write_set(
        out,
        dataset=dataset,
        split="test",
        take=data.pixels.take,
        labels=data.labels,
        sample_ids=data.sample_ids,
        names=names,
        seed=seed,
        profile=profile,
        frost_dir=frost_dir,
        force=force,
        on_file=tell,
    )
    console.say(f"{len(names)} corruptions in {time.monotonic() - begun:.0f} s")
    if "frost" in names and frost_dir is None:
        console.say("frost is a substitute: compare it with no published figure (--frost-dir)")
    console.result(str(out))


@corrupt.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A corrupted set, released or generated.")],
    dataset: Annotated[
        str | None, typer.Option(help="Whose images they are [default: as recorded, or cifar100].")
    ] = None,
    data_dir: DataDir = None,
    against: Annotated[Path | None, typer.Option(help="Another set to compare with.")] = None,
) -> None:
    """Check the structure, labels, resemblance and checksums of a set; exit 3 if one is wrong.

    The clean images are compared too, if they are in the data folder.
    """
    console.starting(f"verifying {folder}")
    from robustmix.corruptions.verify import Checked, verify_set
    from robustmix.data.corrupted import open_set, released_md5

    opened, compared = open_set(folder, dataset=dataset, data_dir=data_dir)
    if not compared:
        console.say(f"{opened.dataset} is not in the data folder: no clean image was compared")
    other = None
    if against is not None:
        other, _ = open_set(against, dataset=dataset, data_dir=None, compare=False)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("file", "as recorded", "as released", "values off", "at most", "verdict"):
        table.add_column(column, no_wrap=True)
    rows: list[Checked] = []
    for row in verify_set(opened, other, released=released_md5(opened.dataset)):
        rows.append(row)
        table.add_row(
            row.name,
            _yes(row.recorded),
            _yes(row.released),
            "-" if row.off is None else f"{100 * row.off:.4f} %",
            "-" if row.most is None else str(row.most),
            "ok" if row.ok else "wrong",
        )
    console.table_result(table)
    raise typer.Exit(0 if all(row.ok for row in rows) else IntakeError.exit_code)


def _yes(known: bool | None) -> str:
    return "-" if known is None else ("yes" if known else "no")


@corrupt.command()
def preview(
    image: Annotated[Path | None, typer.Argument(help="A picture; else --dataset.")] = None,
    dataset: Annotated[str, typer.Option(help="Take a test image of this data set.")] = "digits",
    index: Annotated[int, typer.Option(help="Which one, from 0.")] = 0,
    corruptions: Annotated[str, typer.Option(help="main, extra, all or names.")] = "all",
    data_dir: DataDir = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    frost_dir: FrostDir = None,
    out: Annotated[Path, typer.Option(help="PNG or SVG file.")] = Path("corruptions.png"),
) -> None:
    """Draw one image with its corruptions at all severities; the file is printed on stdout."""
    console.starting("drawing corruptions")
    import torch

    from robustmix.data.datasets import load_dataset
    from robustmix.errors import UsageError
    from robustmix.evaluation.suites.corruption import select_corruptions
    from robustmix.pages.contact_sheet import draw_contact_sheet, image_from_file

    if out.suffix not in (".png", ".svg"):
        raise UsageError(f"expected a .png or .svg file, got {out}")
    names = select_corruptions(corruptions)
    if image is not None and image.exists() and out.exists() and out.samefile(image):
        raise UsageError(f"--out {out} is the picture itself", "give another file")
    if image is not None:
        pixels, sample_id, title = image_from_file(image), "0", image.name
    else:
        data = load_dataset(dataset, "test", data_dir=data_dir)
        if not 0 <= index < len(data):
            raise UsageError(f"expected --index in 0 to {len(data) - 1}, got {index}")
        pixels = data.pixels.take(torch.tensor([index]))[0]
        sample_id, title = data.sample_ids[index], f"{dataset}, test image {index}"
    draw_contact_sheet(
        pixels,
        out,
        names=names,
        seed=seed,
        sample_id=sample_id,
        frost_dir=frost_dir,
        title=title,
    )
    console.result(str(out))
