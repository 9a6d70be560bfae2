"""Accuracy under every corruption and severity, as one picture with its numbers."""

from pathlib import Path

from robustmix.corruptions.names import GROUPS
from robustmix.errors import IntakeError
from robustmix.files import atomic_path
from robustmix.report.report import Report
from robustmix.report.schema import CorruptionPart


def draw_heatmap(report: Report, path: Path, *, suite: str = "corruption") -> None:
    """Draw the corruption suite of a report into a PNG or SVG, by the suffix of ``path``.

    Rows are corruptions, in groups; columns are clean, the severities and their mean. Colours run
    from 0 to the clean accuracy.

    Args:
        report: with a corruption suite.
        path: PNG or SVG, by its suffix.
        suite: key of the suite in the report.

    Raises:
        IntakeError: the report has no corruption suite.
        IncompleteError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    part = report.content.suites.get(suite)
    if not isinstance(part, CorruptionPart) or part.status != "ok":
        raise IntakeError("the report has no corruption suite", "evaluate with --suite corruption")
    clean = report.content.suites["clean"].metrics["top1"].value or 0.0
    cells = {(c.corruption, c.severity): c.metrics["acc"].value or 0.0 for c in part.conditions}
    names = [name for members in GROUPS.values() for name in members if name in part.corruptions]
    table = [
        [clean, *(cells[name, s] for s in part.severities), part.by_corruption[name].value or 0.0]
        for name in names
    ]
    figure = Figure(figsize=(2.6 + 0.72 * len(table[0]), 1.1 + 0.34 * len(names)), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # A mesh, not an image: browsers smooth small images inside an SVG.
    columns, rows = range(len(table[0])), range(len(table))
    axes.pcolormesh(columns, rows, table, cmap="viridis", vmin=0, vmax=max(clean, 1e-9))
    axes.invert_yaxis()
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            dark = value < 0.6 * clean
            axes.text(
                column,
                row,
                f"{100 * value:.1f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else "black",
            )
    labels = ["clean", *(f"severity {s}" for s in part.severities), "mean"]
    axes.set_xticks(range(len(labels)), labels, fontsize=8)
    shown = [f"{name} (approximate)" if name in part.approximate else name for name in names]
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in shown], fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    edges = [sum(n in GROUPS[g] for n in names) for g in GROUPS]
    for end in (sum(edges[: i + 1]) - 0.5 for i in range(len(edges) - 1)):
        axes.axhline(end, color="white", linewidth=2)
    for end in (0.5, len(labels) - 1.5):
        axes.axvline(end, color="white", linewidth=2)
    axes.set_title(
        f"{report.content.run.name}: top-1 in percent ({part.source})", fontsize=9, loc="left"
    )
    figure.tight_layout()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix(".") or "png")
