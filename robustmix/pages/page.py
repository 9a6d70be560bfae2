"""One self-contained HTML page from one or several reports."""

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from robustmix import __version__
from robustmix.comparison.document import ComparisonDocument
from robustmix.files import refuse_replacing, write_text
from robustmix.pages.elements import Section
from robustmix.pages.one_report import sections, subtitle
from robustmix.pages.picture import of_our_form
from robustmix.pages.several_reports import compared, told_apart
from robustmix.pages.svg import swatch
from robustmix.report.report import Report
from robustmix.report.text import plain

_BREAKS = re.compile(r"(?<=[._@])(?=\w)")
"""Where a long head may be broken."""

FOOTER = (
    "Fractions are shown in percent, with 95 % intervals; every number can be made again from the "
    "per-sample record beside the report."
)


def write_page(
    reports: Sequence[Report], path: Path, comparison: ComparisonDocument | None = None
) -> None:
    """Write a page that opens from disk, asks the network for nothing and prints well.

    Args:
        reports: at least one. With several, the first is what the others are compared with.
        path: where to.
        comparison: of the first with each of the others, if it was made already.

    Raises:
        IntakeError: a table or curve of a report is of another form than robustmix writes.
        UsageError: the file is there and no page or text.
        IncompleteError: the file cannot be written.
    """
    refuse_replacing(path)
    write_text(path, page_html(reports, comparison))


def page_html(reports: Sequence[Report], comparison: ComparisonDocument | None = None) -> str:
    """Make the text of the page that ``write_page`` writes."""
    reports = told_apart(reports)
    with of_our_form():
        parts = sections(reports[0]) if len(reports) == 1 else compared(reports, comparison)
    names = [plain(report.content.run.name) for report in reports]
    return page_of(
        parts,
        title=" and ".join(names) if len(names) < 3 else f"{len(names)} models",
        subtitle=subtitle(reports),
        footer=FOOTER,
    )


def page_of(parts: Sequence[Section], *, title: str, subtitle: str, footer: str) -> str:
    """Make the text of a page of sections; all but its drawings is escaped.

    Args:
        parts: the sections in their order.
        title: of the page.
        subtitle: a line below it.
        footer: what to say at the end.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(autoescape=True, trim_blocks=False)
    environment.filters["broken"] = lambda text: Markup("<wbr>").join(re.split(_BREAKS, text))
    environment.filters["drawing"] = lambda panel: Markup(panel.text)
    environment.filters["swatch"] = lambda key: Markup(swatch(key))
    return environment.from_string(_resource("page.html")).render(
        title=title,
        subtitle=subtitle,
        footer=footer,
        version=__version__,
        # Ours, not a report's: with the drawings the only parts that are not escaped.
        css=Markup(_resource("page.css")),
        script=Markup(script),
        script_hash=Markup(f"sha256-{digest}"),
        sections=parts,
    )


def _resource(name: str) -> str:
    return (files("robustmix") / "pages" / "templates" / name).read_text(encoding="utf-8")
