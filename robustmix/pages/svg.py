"""Figures as SVG inside a page: text stays text, and all colours are those of the page."""

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from robustmix.pages.picture import COLOURS, Key, Panel, panels_apart

INK = "#0a0b0c"
"""What axes and labels are drawn in, and nothing else; the page puts its own colour there."""

GRID = "#0d0e0f"
"""Likewise of grid lines."""

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
    "grid.color": GRID,
}

VARIABLES = {
    INK.lower(): "currentColor",
    GRID.lower(): "var(--grid)",
    # Ours are made for white paper; a page has its own shade of each for light and for dark.
    **{colour.lower(): f"var(--curve-{n})" for n, colour in enumerate(COLOURS, start=1)},
    **dict.fromkeys(("#777777", "#808080", "#999999"), "var(--mute)"),
    "#ffffff": "var(--panel)",
}
"""CSS colours that take the place of those of a drawing; all others stay."""

_COLOUR = re.compile("|".join(VARIABLES))


class InlineSvg(NamedTuple):
    """A figure, or a panel of one, that is part of a page."""

    text: str
    """The element ``svg``, as wide as what holds it."""

    width: int
    """The width it was drawn for, in CSS pixels."""

    title: str
    """Of the panel; empty where the figure is one alone."""

    keys: Sequence[Key] = ()
    """What its legend says, in the colours of the page."""


class InlineFigure(NamedTuple):
    """The panels of a figure that is part of a page."""

    panels: Sequence[InlineSvg]
    description: str
    """What they show, in words."""


def inline_figure(draw: Callable[[Path], str], *, key: str, title: str) -> InlineFigure:
    """Make of a figure ``svg`` elements that a page can hold, one for each of its panels.

    Args:
        draw: writes the figure to the path it is given, and says in words what it shows.
        key: of letters, digits and hyphens, another one for each figure of a page.
        title: its name for who cannot see it.

    Returns:
        The elements, with a viewBox but no size, named by ``title`` and that of the panel; the
        first is described by what ``draw`` says. Their ids begin with ``key``.
    """
    import matplotlib as mpl

    with (
        tempfile.TemporaryDirectory(prefix="robustmix-") as folder,
        mpl.rc_context(STYLE),  # type: ignore[arg-type]
        panels_apart() as apart,
    ):
        path = Path(folder) / "figure.svg"
        description = draw(path)
        # A drawing of somebody else's writes the one file that it is asked for.
        drawn = apart or [Panel(path, "", ())]
        texts = [panel.path.read_text(encoding="utf-8") for panel in drawn]
    panels = [
        _inline(
            text,
            panel,
            key=f"{key}-{number}",
            title=f"{title}: {panel.title}" if panel.title else title,
            description="" if number else description,
        )
        for number, (text, panel) in enumerate(zip(texts, drawn, strict=True))
    ]
    return InlineFigure(panels, description)


def _inline(text: str, panel: Panel, *, key: str, title: str, description: str) -> InlineSvg:
    text = text[text.index("<svg") :].rstrip()
    text = of_the_page(_short(text))
    text = re.sub(r'(\sid=")', rf"\g<1>{key}-", text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{key}-", text)
    head, body = text[: text.index(">") + 1], text[text.index(">") + 1 :]
    box = re.search(r'viewBox="[^"]*"', head)
    width = re.search(r'\swidth="([\d.]+)pt"', head)
    assert box is not None
    assert width is not None
    told = f'<desc id="{key}-d">{escape(description)}</desc>' if description else ""
    names = f'role="img" aria-labelledby="{key}-t{f" {key}-d" if told else ""}"'
    element = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{box[0]} {names}><title id="{key}-t">{escape(title)}</title>{told}{body}'
    )
    keys = [one._replace(colour=of_the_page(one.colour)) for one in panel.keys]
    return InlineSvg(element, round(float(width[1]) / 72 * 96), panel.title, keys)


def _short(text: str) -> str:
    """Leave out what no page needs: half of matplotlib's SVG is said elsewhere or not seen."""
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)  # it holds the date
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)  # the texts once more
    text = re.sub(r"<style.*?</style>", "", text, flags=re.S)  # of all drawings, in the page's own
    text = re.sub(r" font-family: [^;\"]*;", "", text)  # the page's
    text = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", text)
    text = re.sub(r'<path d="[^"]*" style="fill: none"/>', "", text)  # grounds without a colour
    used = set(re.findall(r'(?:url\(#|href="#)([^")]*)', text))
    text = re.sub(r'\sid="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    text = re.sub(
        r'(?<=[\s"(-])\d+\.\d{3,}(?=[\s")])', lambda found: f"{float(found[0]):.2f}", text
    )
    return re.sub(r"\s*\n\s*", " ", text).replace("> <", "><")


def of_the_page(text: str) -> str:
    """Put the page's colours in place of a drawing's.

    Example:
        >>> of_the_page("stroke: #0072b2; fill: #fefefe")
        'stroke: var(--curve-1); fill: #fefefe'
    """
    text = _COLOUR.sub(lambda found: VARIABLES[found[0]], text)
    # A grid is faint by its colour alone: what is see-through on paper is unseen on black.
    return re.sub(r"(var\(--grid\)); stroke-opacity: [\d.]+", r"\1", text)


_SHAPES = {
    "o": "M14 6a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0-7 0z",
    "s": "M14.4 2.9h6.2v6.2h-6.2z",
    "^": "M17.5 2l4 7.5h-8z",
    "v": "M17.5 10l4-7.5h-8z",
    "<": "M13.5 6l7.5-4v8z",
    ">": "M21.5 6l-7.5-4v8z",
    "D": "M17.5 1.5l4.5 4.5l-4.5 4.5l-4.5-4.5z",
    "P": "M16 1.8h3v2.7h2.7v3h-2.7v2.7h-3v-2.7h-2.7v-3h2.7z",
    "X": "M15.3 2l2.2 2.2l2.2-2.2l1.8 1.8l-2.2 2.2l2.2 2.2l-1.8 1.8l-2.2-2.2l-2.2 2.2"
    "l-1.8-1.8l2.2-2.2l-2.2-2.2z",
}
_DASHES = {"-": "", "--": "6 3", "-.": "7 3 2 3", ":": "2 2.5"}


def swatch(key: Key) -> str:
    """Draw what a legend shows beside a label: a dashed line, a marker or an area.

    Args:
        key: with a colour of CSS.
    """
    drawn = ""
    if key.area:
        drawn = f'<path d="M1 2h33v8h-33z" fill="{key.colour}" fill-opacity=".5"/>'
    elif key.line:
        dashes = _DASHES.get(key.line, "")
        drawn = f'<path d="M1 6h33" stroke="{key.colour}" stroke-width="2" stroke-dasharray='
        drawn += f'"{dashes or "none"}"/>'
    if key.marker:
        fill = key.colour if key.filled else "var(--panel)"
        shape = _SHAPES[key.marker]
        drawn += f'<path d="{shape}" fill="{fill}" stroke="{key.colour}"/>'
    return f'<svg viewBox="0 0 35 12" aria-hidden="true">{drawn}</svg>'
