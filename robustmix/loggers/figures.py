"""The figures of a report's page as pictures."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robustmix.data.decode import open_rgb
from robustmix.errors import IntakeError
from robustmix.loggers.events import Pictures
from robustmix.pages.drawings import DRAWINGS, draw, drawings_of
from robustmix.report.report import Report


def figures_of(report: Report) -> Iterator[Pictures]:
    """Draw what the page of a report shows, figure by figure."""
    parts = report.content.ordered_suites().items()
    wanted = [(name, key) for key, part in parts for name in drawings_of(part)]
    shown = dict.fromkeys(
        (name, "" if DRAWINGS.row(name).together else key) for name, key in wanted
    )
    with tempfile.TemporaryDirectory(prefix="robustmix-") as folder:
        path = Path(folder) / "figure.png"
        for name, key in shown:
            try:
                draw(name, [report], path, suite=key)
            except IntakeError:  # nothing to draw, as the page has it
                continue
            title = f"{name}-{key}" if key else name
            yield Pictures(step=0, name=title, pixels=np.array(open_rgb(path)))
