"""Values of options that need more than a type: fractions, grids, lists."""

from fractions import Fraction

from robustmix.errors import UsageError


def parse_eps(text: str, *, norm: str = "linf") -> tuple[Fraction, ...]:
    """Return radii from ``8/255`` or ``8/255,4/255``, exactly; in l2 they may exceed 1.

    Raises:
        UsageError: a radius is no number, or is in grey levels.

    Example:
        >>> parse_eps("8/255,0.1")
        (Fraction(8, 255), Fraction(1, 10))
        >>> parse_eps("3/2", norm="l2")
        (Fraction(3, 2),)
    """
    return tuple(_eps(item.strip(), norm) for item in text.split(","))


def _eps(text: str, norm: str) -> Fraction:
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"cannot read eps '{text}'", "write 8/255 or 0.03", code="E-EPS") from None
    if value > 1 and norm == "linf":
        raise UsageError(
            f"eps is in [0, 1] pixel units, got {text}",
            f"did you mean {text}/255?",
            code="E-EPS",
        )
    if value < 0:
        raise UsageError(f"eps is not negative, got {text}", "write 8/255", code="E-EPS")
    return value


def parse_severities(text: str) -> tuple[int, ...]:
    """Return severities from ``1-5`` or ``1,3,5``.

    Example:
        >>> parse_severities("1-3"), parse_severities("5,1")
        ((1, 2, 3), (1, 5))
    """
    found: set[int] = set()
    for item in text.split(","):
        first, dash, last = item.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"cannot read severities '{text}'", "write 1-5 or 1,3,5")
        found |= set(range(int(first), int(last if dash else first) + 1))
    if not found or not found <= {1, 2, 3, 4, 5}:
        raise UsageError(
            f"severities are 1 to 5, got '{text}'", "write 1-5 or 1,3,5", code="E-SEVERITY"
        )
    return tuple(sorted(found))


def parse_limit(text: str) -> int | float:
    """Return a count (``500``) or a share (``0.1``).

    Example:
        >>> parse_limit("500"), parse_limit("0.1")
        (500, 0.1)
    """
    try:
        return int(text) if text.isdecimal() else _share(text)
    except ValueError:
        raise UsageError(f"cannot read limit '{text}'", "write 500 or 0.1") from None


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
    if not all(item.isdecimal() for item in items):
        raise UsageError(f"cannot read bin counts '{text}'", "write 10,15", code="E-BINS")
    return tuple(int(item) for item in items)
