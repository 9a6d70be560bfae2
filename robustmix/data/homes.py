"""Where a data set that is read by name lies below the data folder. Nothing here needs torch."""

from pathlib import Path

from robustmix.data.manifests import DATASETS, LookedFor, Manifest, looked_for
from robustmix.errors import IntakeError


def find_home(manifest: Manifest | LookedFor, root: Path) -> Path | None:
    """Return the first of a data set's homes that holds one of its marks, or None.

    Args:
        manifest: its homes and marks.
        root: the data folder.

    Raises:
        IntakeError: the system does not let a folder be looked at.
    """
    for home in manifest.homes:
        folder = root / home
        try:
            if any(next(iter(folder.glob(mark)), None) is not None for mark in manifest.marks):
                return folder
        except OSError as error:
            raise IntakeError(
                f"cannot read {folder}: {error.strerror}", "check its rights", code="E-DATA"
            ) from error
    return None


def is_here(name: str, root: Path) -> bool:
    """Say whether a data set is below the data folder; how much of it is another question.

    Of sets with files of known names these are asked for, of others their marks.

    Raises:
        UsageError: there is no data set of that name.
    """
    wanted = looked_for(name)
    if wanted.homes:
        return find_home(wanted, root) is not None
    return all((root / path).exists() for path in wanted.files)


def told_by_name(path: Path) -> str | None:
    """Say how to read what lies in a folder, if it is a data set that is read by name.

    Of several whose marks fit, one whose marks are names of files and not patterns is taken:
    Tiny-ImageNet's folders look like ImageNet's.
    """
    try:
        if not path.is_dir():
            return None
    except OSError:  # a path that cannot be, or may not be looked at: it has said so already
        return None
    fitting: dict[str, bool] = {}
    for name in DATASETS:
        wanted = looked_for(name)
        if (wanted.marks or wanted.files) and is_here(name, path):
            fitting[name] = any("*" in mark for mark in wanted.marks)
    if not fitting:
        return None
    name = min(fitting, key=lambda one: fitting[one])
    return f"it looks like {name}, which is read by name: --dataset {name} --data-dir {path}"


def require_home(manifest: Manifest, root: Path) -> Path:
    """Return where a data set lies.

    Raises:
        IntakeError: it is not there; said is what was looked for, and where.
    """
    home = find_home(manifest, root)
    if home is None:
        places = ", ".join(str(root / place) for place in manifest.homes)
        raise IntakeError(
            f"{manifest.title} is not there: no {' or '.join(manifest.marks[:3])} in {places}",
            f"robustmix data info {manifest.name} says what to download and which layouts are "
            "read; --data-dir or ROBUSTMIX_DATA names the data folder",
            code="E-DATA",
        )
    return home
