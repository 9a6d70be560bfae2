"""What lies in the data folder of a shift set, as far as it can be told without clean images."""

from pathlib import Path

from robustmix.data.location import data_folder
from robustmix.data.manifests import load_manifest
from robustmix.data.shift.alone import load_alone, stands_alone
from robustmix.data.shift.registry import SHIFTS, place_of
from robustmix.errors import IntakeError


def require_place(name: str, root: Path) -> Path:
    """Return where a shift set lies.

    Raises:
        IntakeError: it is not there.
    """
    place = place_of(name, root)
    if place is None:
        places = " or ".join(SHIFTS.row(name).places)
        raise IntakeError(
            f"{name} is not in the data folder: no {places} in {root}",
            f"robustmix data info {name} says where it can be had",
            code="E-DATA",
        )
    return place


def check_shift(name: str, data_dir: Path | None, *, allow_partial: bool) -> list[str]:
    """Say what was found of a shift set, a line a finding.

    Args:
        name: of ``SHIFTS``.
        data_dir: where data sets lie; see ``data_folder``.
        allow_partial: whether fewer images than were published are no error.

    Raises:
        IntakeError: it is not there, damaged, or a part of what was published.
    """
    root = data_folder(data_dir)
    place = require_place(name, root)
    lines = [f"{name}: in {place}"]
    if not stands_alone(name):
        clean = SHIFTS.row(name).clean_of
        return [*lines, f"  its files are checked beside the images of {clean}, when it is run"]
    images = load_alone(name, "test", root)
    official = load_manifest(name).counts.test
    if official is not None and len(images) < official and not allow_partial:
        raise IntakeError(
            f"{name} has {len(images):,} of {official:,} images in {place}",
            "extract the released archive again, or add --allow-partial",
            code="E-DATA",
        )
    of = "" if official is None else f" of {official:,}"
    lines.append(f"{name}/test: {len(images):,}{of} images")
    return lines + [f"  {note.partition(': ')[2]}" for note in images.notes]
