"""Checks of a corrupted test set: its files, its record, the released checksums, another set."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from robustmix.corruptions.cifar_c import OFFICIAL_IMAGES, CifarC
from robustmix.corruptions.writer import read_record
from robustmix.errors import IntakeError
from robustmix.files import file_digest

RELEASED_MD5: dict[str, dict[str, str]] = {
    "cifar100": {
        "brightness": "f22d7195aecd6abb541e27fca230c171",
        "contrast": "322bb385f1d05154ee197ca16535f71e",
        "defocus_blur": "d923e3d9c585a27f0956e2f2ad832564",
        "zoom_blur": "0204613400c034a81c4830d5df81cb82",
        "pixelate": "96c00c60f144539e14cffb02ddbd0640",
        "jpeg_compression": "c851b7f1324e1d2ffddeb76920576d11",
        "gaussian_blur": "5204ba0d557839772ef5a4196a052c3e",
        "saturate": "c0697e9fdd646916a61e9c312c77bf6b",
        "labels": "bb4026e9ce52996b95f439544568cdb2",
    }
}
"""Files of the releases that can be made again: those without anything random."""

ROWS = 5_000
"""Images compared at once."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was found about one file."""

    name: str
    recorded: bool | None
    """Whether its sha256 is the one recorded when it was generated; None without a record."""

    released: bool | None
    """Whether its md5 is that of the released file; None where that cannot be asked."""

    off: float | None = None
    """Share of values that differ from the other set; None if there is none."""

    most: int | None = None
    """Largest difference to it, in grey levels."""

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against the file."""
        return self.recorded is not False and self.released is not False and not self.most


def verify_set(
    opened: CifarC, against: CifarC | None = None, *, released: Mapping[str, str] | None = None
) -> Iterator[Checked]:
    """Check every file of a set whose structure was checked on opening.

    A released checksum is asked for in full-size sets only, and of a file that robustmix wrote only
    if nothing in it is random.

    Args:
        opened: the set.
        against: another one of the same size.
        released: md5 of every released file, to check a set that has no record of having been
            generated; what can be made again (``RELEASED_MD5``) if None.

    Raises:
        IntakeError: the sets have different sizes, or a file of one is missing in the other.
    """
    record = read_record(opened.folder)
    known_md5 = RELEASED_MD5.get(opened.dataset, {})
    if record is None and released is not None:
        known_md5 = dict(released)
    if len(opened) != OFFICIAL_IMAGES:
        known_md5 = {}
    if against is not None and (len(against), against.available) != (
        len(opened),
        opened.available,
    ):
        raise IntakeError(
            f"{opened.folder} and {against.folder} do not hold the same files of the same size",
            "compare sets of one data set, with the same corruptions",
        )
    for name in (*opened.available, "labels"):
        path = opened.folder / f"{name}.npy"
        recorded = None
        if record is not None:
            known = record["files"].get(name)
            recorded = known is not None and known["sha256"] == file_digest(path)
        equal = file_digest(path, "md5") == known_md5[name] if name in known_md5 else None
        off, most = (None, None) if against is None else _difference(opened, against, name)
        yield Checked(name=name, recorded=recorded, released=equal, off=off, most=most)


def _difference(one: CifarC, other: CifarC, name: str) -> tuple[float, int]:
    if name == "labels":
        differ = (one.labels != other.labels).double()
        return float(differ.mean()), int(differ.max())
    count, most, size = 0, 0, 0
    for start in range(0, len(one.arrays[name]), ROWS):
        a, b = (files.rows(name, slice(start, start + ROWS)) for files in (one, other))
        difference = np.abs(a.astype(np.int16) - b.astype(np.int16))
        count, size = count + int((difference > 0).sum()), size + difference.size
        most = max(most, int(difference.max()))
    return count / size, most
