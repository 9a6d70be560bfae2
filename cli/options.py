"""Values of options that need more than a type: shares, colours, lists of names."""

import re

from robustmix.errors import UsageError

MOST_SEEDS = 1000
"""Runs of one command."""


def parse_limit(text: str) -> int | float:
    """Return a count (``500``) or a share (``0.1``).

    Example:
        >>> parse_limit("500"), parse_limit("0.1")
        (500, 0.1)
    """
    try:
        return _count(text) if text.isdecimal() else _share(text)
    except ValueError:
        raise UsageError(f"cannot read limit '{text}'", "write 500 or 0.1") from None


def _count(text: str) -> int:
    count = int(text)  # a ValueError for more digits than Python reads
    if not count:
        raise ValueError
    return count


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


def parse_triple(text: str) -> tuple[float, float, float]:
    """Return three numbers from ``0.49,0.48,0.45``.

    Example:
        >>> parse_triple("0.5,0.5,0.25")
        (0.5, 0.5, 0.25)
    """
    try:
        red, green, blue = (float(item) for item in text.split(","))
        if not all(0 <= value <= 1 for value in (red, green, blue)):  # NaN is not either
            raise ValueError
    except ValueError:
        raise UsageError(f"cannot read '{text}'", "write three numbers, R,G,B in [0, 1]") from None
    return red, green, blue


def split_names(values: list[str]) -> list[str]:
    """Return names from repeated, comma-separated options.

    Example:
        >>> split_names(["clean,fgsm", "occlusion"])
        ['clean', 'fgsm', 'occlusion']
    """
    return [name.strip() for value in values for name in value.split(",") if name.strip()]


def parse_bins(text: str) -> tuple[int, ...]:
    """Return bin counts from ``10,15``.

    Example:
        >>> parse_bins("10, 20")
        (10, 20)
    """
    items = [item.strip() for item in text.split(",")]
    if not all(item.isdecimal() and len(item) < 10 for item in items):
        raise UsageError(f"cannot read bin counts '{text}'", "write 10,15", code="E-BINS")
    return tuple(int(item) for item in items)


def parse_seeds(text: str, flag: str = "--seed") -> list[int]:
    """Return the seeds of ``0``, ``0,1,2`` or ``0-4``.

    Raises:
        UsageError: something else, or one twice.

    Example:
        >>> parse_seeds("3,0-2")
        [3, 0, 1, 2]
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,19})(?:-(\d{1,19}))?\s*", part)
        if match is None:
            raise UsageError(f"{flag} {text}: '{part}' is no seed", "give 0, or several: 0,1,2")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 0 <= last - first < MOST_SEEDS:
            raise UsageError(f"{flag} {text}: {part} is no range of seeds", "write 0-4")
        seeds += range(first, last + 1)
    if len(set(seeds)) != len(seeds):
        raise UsageError(f"{flag} {text} names a seed twice", "name each once")
    if len(seeds) > MOST_SEEDS:
        raise UsageError(f"{flag} names {len(seeds)} seeds", f"name at most {MOST_SEEDS}")
    return seeds
