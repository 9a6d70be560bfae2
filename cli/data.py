"""``robustmix data``: the sets read by name, whether they are here, and how to get them so."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from robustmix.cli import completion, console
from robustmix.errors import IntakeError

if TYPE_CHECKING:
    from robustmix.data.manifests import Manifest

data = typer.Typer(
    help="See the data sets that are read by name, check them, and unpack their archives.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[
    str,
    typer.Argument(
        help="Data set (robustmix data list).",
        autocompletion=completion.complete(completion.datasets),
    ),
]
DataDir = Annotated[
    Path | None, typer.Option(help="Where data sets lie [default: $ROBUSTMIX_DATA].")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Count what is here without an error.")
]


@data.command("list")
def list_data(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the sets that are read by name, their size, and whether they are in the data folder."""
    from robustmix.data.homes import is_here
    from robustmix.data.location import data_folder
    from robustmix.data.manifests import DATASETS, load_manifest
    from robustmix.data.shift.registry import SHIFTS, place_of

    root = data_folder(data_dir)
    rows = []
    for name, row in {**DATASETS.rows(), **SHIFTS.rows()}.items():
        manifest = load_manifest(name)
        rows.append(
            {
                "name": name,
                "classes": manifest.num_classes,
                "train": manifest.split_count("train"),
                "test": manifest.split_count("test"),
                "here": place_of(name, root) is not None if name in SHIFTS else is_here(name, root),
                "what": row.help,
            }
        )
    if as_json:
        console.result(json.dumps(rows, indent=2))
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("data set", no_wrap=True)
    for column in ("classes", "train", "test"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("here", no_wrap=True)
    table.add_column("what it is")
    for one in rows:
        counts = ["" if one[key] is None else f"{one[key]:,}" for key in ("train", "test")]
        here = "yes" if one["here"] else "no"
        table.add_row(str(one["name"]), f"{one['classes']:,}", *counts, here, str(one["what"]))
    console.table_result(table)
    console.say(f"data folder: {root}; images in folders of your own are read as folder:PATH")


@data.command("info")
def info(name: Name, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Say what a set is: splits, archives and where to get them, layouts, terms, and notes."""
    from robustmix.data.homes import find_home
    from robustmix.data.location import data_folder
    from robustmix.data.manifests import load_manifest

    manifest, root = load_manifest(name), data_folder(data_dir)
    home = find_home(manifest, root)
    if as_json:
        where = None if home is None else str(home)
        console.result(json.dumps({**asdict(manifest), "home": where}, indent=2, default=list))
        return
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("it is", overflow="fold")
    for what, text in _facts(manifest):
        table.add_row(what, text)
    if manifest.homes:
        table.add_row("in the data folder", f"not in {root}" if home is None else str(home))
    console.table_result(table)


def _facts(manifest: "Manifest") -> list[tuple[str, str]]:
    """Return what the manifest says, a row a fact."""
    counts = {name: n for name, n in asdict(manifest.counts).items() if n is not None}
    sizes = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in counts.items())
    read = ", ".join(
        f"{split} {n:,}"
        for split in ("train", "test")
        if (n := manifest.split_count(split)) is not None
    )
    rows = [
        ("name", f"{manifest.name}: {manifest.title}"),
        ("classes", f"{manifest.num_classes:,}: {manifest.class_names_source}"),
        ("official images", sizes),
        ("read as", read),
        ("test transform", manifest.eval_transform),
    ]
    for file in manifest.archives:
        size = "" if file.bytes is None else f", {file.bytes:,} bytes"
        about = "" if file.bytes_exact else " (about)"
        md5 = f", md5 {file.md5}" if file.md5 else ", no checksum published"
        optional = ", not needed" if file.optional else ""
        rows.append(("archive", f"{file.path}{size}{about}{md5}{optional}"))
        if file.origin:
            rows.append(("from", file.origin))
    rows += [("layout", line) for line in manifest.layout]
    rows += [("terms", manifest.terms), ("cite", manifest.citation)]
    return rows + [("note", line) for line in manifest.notes]


@data.command("where")
def where(
    name: Annotated[
        str | None, typer.Argument(help="Data set; none prints the data folder.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Print where a set lies, or the data folder."""
    from robustmix.data.homes import is_here, require_home
    from robustmix.data.location import data_folder
    from robustmix.data.manifests import load_manifest
    from robustmix.data.shift.registry import SHIFTS

    root = data_folder(data_dir)
    if name is None:
        console.result(str(root))
        return
    if name in SHIFTS:
        from robustmix.data.shift.check import require_place

        console.result(str(require_place(name, root)))
        return
    manifest = load_manifest(name)
    if manifest.homes:
        console.result(str(require_home(manifest, root)))
        return
    if not manifest.files:
        raise IntakeError(f"{name} has no files of its own below {root}", code="E-DATA")
    if not is_here(name, root):
        raise IntakeError(
            f"{manifest.title} is not in {root}", f"see robustmix data info {name}", code="E-DATA"
        )
    console.result(str((root / manifest.files[0].path).parent))


@data.command("verify")
def verify(
    name: Name,
    data_dir: DataDir = None,
    allow_partial: AllowPartial = False,
    as_json: Json = False,
) -> None:
    """Check a set: checksums of its files, counts, classes and colour modes of its splits.

    Exits 3 if something is wrong or missing.
    """
    console.starting(f"verifying {name}")
    from robustmix.data.manifests import DATASETS
    from robustmix.data.prepare import check_splits
    from robustmix.data.verify import verify_dataset

    files = verify_dataset(name, data_dir)
    wrong = [record for record in files.records if record.status.startswith("wrong")]
    if wrong:
        raise IntakeError(
            f"{files.root / wrong[0].path} has the {wrong[0].status}: {wrong[0].found}, expected "
            f"{wrong[0].expected}",
            "download or unpack it again",
            code="E-CHECKSUM",
        )
    readable = name in DATASETS
    found_of_shift = _found_of_shift(name, data_dir, allow_partial=allow_partial)
    splits = check_splits(name, data_dir, allow_partial=allow_partial) if name in DATASETS else []
    if not readable and not found_of_shift and not files.complete:
        missing = next(r for r in files.records if r.status == "missing" and not r.optional)
        raise IntakeError(
            f"{files.root / missing.path} is missing",
            f"see robustmix data info {name}",
            code="E-DATA",
        )
    records: list[Any] = [record for record in files.records if record.status != "missing"]
    if as_json:
        found: dict[str, Any] = {
            "files": [asdict(one) for one in records],
            "splits": [asdict(s) for s in splits],
        }
        found |= {"found": found_of_shift} if found_of_shift else {}
        console.result(json.dumps(found, indent=2))
        return
    for line in [*(f"{record.path}: {record.status}" for record in records), *found_of_shift]:
        console.result(line)
    for one in splits:
        of = "" if one.official is None else f" of {one.official:,}"
        layout = f" in {one.layout}" if one.layout else ""
        official = " (official)" if one.verified else ""
        console.result(f"{name}/{one.split}: {one.images:,}{of} images{layout}")
        if one.digest is not None:
            console.result(f"  ids and labels: sha256 {one.digest}{official}")
        for note in one.notes:
            console.result(f"  {note}")


def _found_of_shift(name: str, data_dir: Path | None, *, allow_partial: bool) -> list[str]:
    from robustmix.data.shift.registry import SHIFTS

    if name not in SHIFTS:
        return []
    from robustmix.data.shift.check import check_shift  # which imports torch

    return check_shift(name, data_dir, allow_partial=allow_partial)


@data.command("prepare")
def prepare(
    name: Name,
    archives: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Folder of the downloaded archives [default: the data folder]."
        ),
    ] = None,
    data_dir: DataDir = None,
    allow_partial: AllowPartial = False,
) -> None:
    """Unpack archives that you have downloaded into the data folder, and check what is read.

    Downloads nothing: what is missing is named, with its official address and terms.
    """
    from robustmix.data.manifests import load_manifest
    from robustmix.data.prepare import prepare_dataset

    manifest = load_manifest(name)
    console.say(f"{manifest.title}. Terms: {manifest.terms}")
    prepare_dataset(name, archives=archives, data_dir=data_dir, say=console.say)
    verify(name, data_dir, allow_partial, as_json=False)
