"""Figures as SVG inside a page: text stays text, and ink takes the colour of the page."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

INK = "#0a0b0c"
"""What axes and labels are drawn in, and nothing else; the page puts its own colour there."""

STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "robustmix",
    "text.parse_math": False,  # a stranger's name may hold dollar signs
    "font.family": "sans-serif",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "legend.facecolor": "none",
    "legend.framealpha": 0.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#888888",
}


class InlineSvg(NamedTuple):
    """A figure that is part of a page."""

    text: str
    """The element ``svg``, as wide as what holds it."""

    width: int
    """The width it was drawn for, in CSS pixels."""

    description: str
    """What it shows, in words."""


def inline_svg(draw: Callable[[Path], str], *, key: str, title: str) -> InlineSvg:
    """Make of a figure an ``svg`` element that a page can hold beside others.

    Args:
        draw: writes the figure to the path it is given, and says in words what it shows.
        key: of letters, digits and hyphens, another one for each figure of a page.
        title: its name for who cannot see it.

    Returns:
        The element, with a viewBox but no size, named by ``title`` and described by what ``draw``
        says; its ids begin with ``key``.
    """
    import matplotlib as mpl

    with tempfile.TemporaryDirectory(prefix="robustmix-") as folder, mpl.rc_context(STYLE):  # type: ignore[arg-type]
        path = Path(folder) / "figure.svg"
        description = f"{title}. {draw(path)}"
        text = path.read_text(encoding="utf-8")
    text = text[text.index("<svg") :].rstrip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)  # it holds the date
    text = text.replace(INK, "currentColor")
    text = re.sub(r'(\sid=")', rf"\g<1>{key}-", text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{key}-", text)
    head, body = text[: text.index(">") + 1], text[text.index(">") + 1 :]
    box = re.search(r'viewBox="[^"]*"', head)
    width = re.search(r'\swidth="([\d.]+)pt"', head)
    assert box is not None
    assert width is not None
    names = f'role="img" aria-labelledby="{key}-t {key}-d"'
    element = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box[0]} {names}><title id="{key}-t">{escape(title)}</title>'
        f'<desc id="{key}-d">{escape(description)}</desc>{body}'
    )
    return InlineSvg(element, round(float(width[1]) / 72 * 96), description)
