"""What the headers of many image files say together: sizes, and colour modes other than RGB."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from robustmix.data.decode import Header, read_header
from robustmix.data.threads import in_threads

SCANNED_FILES = 100_000
"""Up to this many files every header is read; of more, the first alone."""


def read_headers(paths: Sequence[Path]) -> list[Header]:
    """Return the headers of all files, or of the first if there are very many.

    Raises:
        IntakeError: a file is no image, or has too many pixels.
    """
    return in_threads(read_header, paths if len(paths) <= SCANNED_FILES else paths[:1])


def mode_notes(
    headers: Sequence[Header], files: int, white: Mapping[str, float] | None = None
) -> Iterator[str]:
    """Yield what a report warns of: images that are not stored as RGB.

    Args:
        headers: as ``read_headers`` returns them.
        files: how many there are in all.
        white: the number that is white, of modes whose files do not say it.
    """
    if len(headers) < files:
        yield f"colour modes were not counted: more than {SCANNED_FILES:,} files"
        return
    modes = Counter(header.mode for header in headers if header.mode != "RGB")
    if modes:
        said = {mode: f"{mode} of 0 to {level:g}" for mode, level in (white or {}).items()}
        kinds = ", ".join(f"{n} {said.get(mode, mode)}" for mode, n in sorted(modes.items()))
        yield f"{modes.total()} of {files} images converted to RGB ({kinds})"
