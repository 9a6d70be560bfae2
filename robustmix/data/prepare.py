"""From archives that the user has downloaded to a data set that can be read; nothing is fetched."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robustmix.data.datasets import load_dataset
from robustmix.data.homes import find_home, is_here
from robustmix.data.images import ImageSet
from robustmix.data.location import data_folder
from robustmix.data.manifests import DATASETS, Manifest, ManifestFile, Split, load_manifest
from robustmix.data.unpack import unpack
from robustmix.data.verify import compare_file
from robustmix.errors import IntakeError, UsageError

SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True, kw_only=True)
class SplitCheck:
    """What was found of one split."""

    split: Split
    images: int
    official: int | None
    layout: str
    digest: str | None
    """SHA-256 of ids and labels; None of a set that is checked by its files."""

    verified: bool
    """Whether the digest, or every file that was read, is the official one."""

    notes: tuple[str, ...]


def check_splits(
    name: str, data_dir: Path | None, *, allow_partial: bool = False
) -> list[SplitCheck]:
    """Read both splits of a data set and say what they hold.

    Raises:
        UsageError: there is no data set of that name that is read by name.
        IntakeError: it is not there, damaged, or not whole without ``allow_partial``.
    """
    DATASETS.checked(name)
    official = load_manifest(name).split_count
    found = []
    for split in SPLITS:
        data = load_dataset(name, split, data_dir=data_dir, allow_partial=allow_partial)
        found.append(_described(data, split, official(split)))
    return found


def _described(data: ImageSet, split: Split, official: int | None) -> SplitCheck:
    listed = [file for file in data.files if file.name.startswith("split ")]
    return SplitCheck(
        split=split,
        images=len(data),
        official=official,
        layout=data.layout,
        digest=listed[0].sha256 if listed else None,
        verified=bool(data.files) and all(file.verified for file in data.files),
        notes=data.notes,
    )


def prepare_dataset(
    name: str,
    *,
    archives: Path | None = None,
    data_dir: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Check the archives of a data set and unpack them into the data folder.

    Args:
        name: of the data set.
        archives: folder they were downloaded to; the data folder if none is given.
        data_dir: see ``data_folder``.
        say: told what is done.

    Returns:
        What was unpacked; empty if the data set is there already.

    Raises:
        UsageError: there is no such data set, or nothing of it is to be unpacked.
        IntakeError: an archive is not there (said is where it can be had, and under which terms),
            has another checksum, or holds what is not to be unpacked.
    """
    manifest, root = load_manifest(name), data_folder(data_dir)
    wanted = [file for file in manifest.archives if file.into is not None]
    if not wanted:
        raise UsageError(f"{name} has no archives to unpack", f"see robustmix data info {name}")
    if _there(manifest, root):
        say(f"{manifest.title} is there already")
        return []
    # All are checked before the first is unpacked.
    found = [
        (file, _found(manifest, file, [root, *([archives] if archives else [])], say))
        for file in wanted
    ]
    made = []
    for file, path in found:
        if path is not None:
            say(f"unpacking {path} ...")
            made += unpack(path, root / str(file.into))
    return made


def _there(manifest: Manifest, root: Path) -> bool:
    if manifest.homes:
        return find_home(manifest, root) is not None
    return bool(manifest.files) and is_here(manifest.name, root)


def _found(
    manifest: Manifest, file: ManifestFile, places: list[Path], say: Callable[[str], None]
) -> Path | None:
    for place in places:
        path = place / Path(file.path).name
        if path.is_file():
            say(f"checking {path} ...")
            _check(file, path, say)
            return path
    if file.optional:
        return None
    origin = file.origin or "its official site (no address is known to work)"
    raise IntakeError(
        f"{file.path} of {manifest.title} is not in {' or '.join(map(str, places))}; it can be had "
        f"from {origin}. Terms: {manifest.terms}",
        "download it, and name its folder with --from",
        code="E-DATA",
    )


def _check(file: ManifestFile, path: Path, say: Callable[[str], None]) -> None:
    status, expected, got = compare_file(file, path)
    if status.startswith("wrong"):
        raise IntakeError(
            f"{path} has the {status}: {got}, expected {expected}",
            "download it again",
            code="E-CHECKSUM",
        )
    if status == "unverifiable":
        say(f"no checksum of {file.path} is published")
