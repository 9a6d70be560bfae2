"""One self-contained HTML page from one or several reports."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from robustmix import __version__
from robustmix.errors import IntakeError
from robustmix.files import write_text
from robustmix.pages.svg import InlineSvg
from robustmix.report.text import plain

if TYPE_CHECKING:
    from robustmix.report.report import Report


NAME_LENGTH = 48
"""Most characters of a run's name that are shown."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table."""

    text: str
    kind: str = ""
    """CSS classes: ``number``, ``note``, ``better``, ..."""

    key: float | str | None = None
    """What sorting goes by, where that is not the text; ``""`` sorts last."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The head of a column."""

    text: str
    number: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table; the first cell of a row names it."""

    caption: str
    heads: Sequence[Head]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False
    folded: bool = False
    """Whether it is shown on demand only; in print always."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure, and what it shows in words."""

    title: str
    alt: str
    svg: InlineSvg


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and values."""

    title: str = ""
    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with a heading."""

    id: str
    title: str
    callouts: Sequence[str] = ()
    text: Sequence[str] = ()
    tables: Sequence[Grid] = ()
    figures: Sequence[Drawing] = ()
    facts: Sequence[Facts] = field(default=())


def write_page(reports: Sequence["Report"], path: Path) -> None:
    """Write a page that opens from disk, asks the network for nothing and prints well.

    Args:
        reports: at least one. With several, the first is what the others are compared with.
        path: where to.

    Raises:
        IntakeError: a table or curve of a report is of another form than robustmix writes.
        IncompleteError: the file cannot be written.
    """
    write_text(path, page_html(reports))


def page_html(reports: Sequence["Report"]) -> str:
    """Return the page as text; see ``write_page``."""
    from jinja2 import Environment
    from markupsafe import Markup

    from robustmix.pages.one_report import sections, subtitle
    from robustmix.pages.several_reports import compared

    reports = [_short(report) for report in reports]
    try:
        parts = sections(reports[0]) if len(reports) == 1 else compared(reports)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntakeError(
            f"a report holds something of another form than robustmix writes "
            f"({type(error).__name__}: {plain(error)})",
            "evaluate again, or check it with `robustmix report validate`",
            code="E-REPORT",
        ) from None
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    names = [plain(report.content.run.name) for report in reports]
    environment = Environment(autoescape=True, trim_blocks=False)
    return environment.from_string(_resource("page.html")).render(
        title=" and ".join(names) if len(names) < 3 else f"{len(names)} models",
        subtitle=subtitle(reports),
        version=__version__,
        # Ours, not a report's: they are the only parts that are not escaped.
        css=Markup(_resource("page.css")),
        script=Markup(script),
        script_hash=Markup(f"sha256-{digest}"),
        sections=[
            {
                **vars(part),
                "figures": [
                    {**vars(f), "svg": f.svg._replace(text=Markup(f.svg.text))}
                    for f in part.figures
                ],
            }
            for part in parts
        ],
    )


def _short(report: "Report") -> "Report":
    """Return a report whose name has room in a figure."""
    from robustmix.report.report import Report

    run = report.content.run
    run = run.model_copy(update={"name": plain(run.name, NAME_LENGTH)})
    return Report(report.content.model_copy(update={"run": run}), report.samples)


def _resource(name: str) -> str:
    return (files("robustmix") / "pages" / "templates" / name).read_text(encoding="utf-8")
