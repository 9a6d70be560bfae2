"""What a report is looked at with: named here, made in modules that import reports."""

from collections.abc import Callable
from typing import Any

from robustmix.tables import Row, Table

VIEWS: "Table[Callable[..., Any], Row]" = Table(
    "view",
    Row,
    {
        "line": Row("robustmix.report.terminal:one_line", "what was evaluated, in a line"),
        "terminal": Row("robustmix.report.terminal:show", "its headline numbers, printed"),
        "figure": Row("robustmix.pages.figure:figure_of", "one of a report's drawings"),
        "html": Row("robustmix.pages.embedded:table_html", "its headline numbers in a notebook"),
    },
)
"""(Report, what else is asked) -> what is shown."""
