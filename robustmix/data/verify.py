"""What lies in the data folder, held against the manifest: sizes first, then checksums."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from robustmix.data.location import data_folder
from robustmix.data.manifests import ManifestFile, load_manifest
from robustmix.files import file_digest

Status: TypeAlias = Literal["ok", "missing", "wrong size", "wrong checksum", "unverifiable"]


@dataclass(frozen=True, kw_only=True)
class FileCheck:
    """What was found out about one file."""

    path: str
    """Path below the data folder."""

    kind: Literal["archive", "file"]
    """As distributed, or after extraction."""

    status: Status
    """``unverifiable``: the file is there, and nobody published its checksum."""

    optional: bool
    expected: str | None = None
    """What the manifest says, for the first thing that differs."""

    found: str | None = None


@dataclass(frozen=True, kw_only=True)
class DatasetCheck:
    """What was found out about one data set; nothing was changed."""

    name: str
    root: Path
    records: tuple[FileCheck, ...]

    @property
    def intact(self) -> bool:
        """Whether no file that is there is wrong."""
        return not any(record.status.startswith("wrong") for record in self.records)

    @property
    def complete(self) -> bool:
        """Whether it is intact and every file that can be asked for is there.

        Asked for are the extracted files, or the archives where no checksums of extracted files
        are known; never the optional ones.
        """
        needed = [record for record in self.records if not record.optional]
        extracted = [record for record in needed if record.kind == "file"]
        return self.intact and all(r.status != "missing" for r in extracted or needed)


def verify_dataset(name: str, data_dir: Path | None = None) -> DatasetCheck:
    """Check the archives and extracted files of a data set; downloads and deletes nothing.

    Args:
        name: a manifest, see ``list_manifests``.
        data_dir: where they lie, see ``data_folder``.

    Returns:
        One record a file of the manifest, extracted files first.

    Raises:
        UsageError: there is no such manifest.
    """
    manifest = load_manifest(name)
    root = data_folder(data_dir)
    records = [_check(file, root, "file") for file in manifest.files]
    records += [_check(file, root, "archive") for file in manifest.archives]
    return DatasetCheck(name=name, root=root, records=tuple(records))


def _check(file: ManifestFile, root: Path, kind: Literal["archive", "file"]) -> FileCheck:
    status, expected, found = compare_file(file, root / file.path)
    return FileCheck(
        path=file.path,
        kind=kind,
        status=status,
        optional=file.optional,
        expected=expected,
        found=found,
    )


def compare_file(file: ManifestFile, place: Path) -> tuple[Status, str | None, str | None]:
    """Compare a file with what the manifest says: its status, what is expected, what is found."""
    if not place.is_file():
        return "missing", file.sha256 or file.md5, None
    size = place.stat().st_size
    if file.bytes is not None and file.bytes_exact and size != file.bytes:
        return "wrong size", str(file.bytes), str(size)
    for algorithm, expected in (("sha256", file.sha256), ("md5", file.md5)):
        if expected is not None:
            found = file_digest(place, algorithm)
            return ("ok" if found == expected else "wrong checksum"), expected, found
    return "unverifiable", None, None
