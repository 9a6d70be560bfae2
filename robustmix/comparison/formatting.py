"""Numbers of a comparison as people read them: fractions in percent, differences in points."""

from robustmix.metrics.metric import Unit


def show(value: float | None, unit: Unit | None) -> str:
    """Write a value: a fraction in percent with two decimals, without the sign.

    Example:
        >>> show(0.8232, "fraction"), show(1.25, "nats"), show(None, "nats")
        ('82.32', '1.2500', '-')
    """
    if value is None:
        return "-"
    if unit == "fraction":
        return f"{100 * value:.2f}"
    if unit == "pixels":
        return f"{255 * value:.3f}"
    return f"{value:.2f}" if unit == "percent" else f"{value:.4f}"


def show_change(value: float | None, unit: Unit | None) -> str:
    """Write a difference with its sign; no change is ``0.00``.

    Example:
        >>> show_change(-0.0042, "fraction"), show_change(0.0, "fraction")
        ('-0.42', '0.00')
    """
    text = show(value, unit)
    if value is None or float(text) == 0:
        return text.lstrip("-") or "-"
    return text if value < 0 else f"+{text}"


def show_range(ci: tuple[float, float] | None, unit: Unit | None) -> str:
    """Write an interval of differences.

    Example:
        >>> show_range((-0.0042, 0.001), "fraction")
        '[-0.42, +0.10]'
    """
    return "-" if ci is None else f"[{show_change(ci[0], unit)}, {show_change(ci[1], unit)}]"


def show_p(p: float | None) -> str:
    """Write a p value with three decimals.

    Example:
        >>> show_p(0.00012), show_p(0.04), show_p(None)
        ('<.001', '.040', '-')
    """
    if p is None:
        return "-"
    if p < 0.001:
        return "<.001"
    return "1" if p >= 0.9995 else f"{p:.3f}".lstrip("0")


def unit_word(unit: Unit | None) -> str:
    """Say what differences of a metric are counted in.

    Example:
        >>> unit_word("fraction"), unit_word("nats")
        ('points', 'nats')
    """
    words: dict[Unit, str] = {"fraction": "points", "percent": "points", "pixels": "/255"}
    return words.get(unit, unit) if unit is not None else ""
