"""A table as JSON: all that it knows, in a form that other programs can rely on."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robustmix import __version__
from robustmix.studies.formats import words
from robustmix.studies.published import Published
from robustmix.studies.table import Cell, Table
from robustmix.text import escaped

KIND = "robustmix.table"
VERSION = "1.0"
"""Minor versions add fields, major ones change them."""


def text(table: Table, base: Path) -> str:
    """Write the table; values in the units of the reports, absent ones as null."""
    document = {
        "kind": KIND,
        "schema_version": VERSION,
        "tool": {"name": "robustmix", "version": __version__},
        "title": table.title,
        "source": table.source,
        "caption": words.caption(table),
        "statistic": table.statistic,
        "reduced": list(table.reduced),
        "runs": table.runs,
        "complete": table.complete,
        "tested": table.tested,
        "notes": list(table.notes),
        "heading": table.heading,
        "columns": [{**asdict(column), "labels": dict(column.labels)} for column in table.columns],
        "rows": [
            {
                "title": row.title,
                "labels": dict(row.labels),
                "cells": [_cell(cell, base) for cell in row.cells],
            }
            for row in table.rows
        ],
    }
    # Names may hold what steers a terminal; as JSON escapes it, it keeps its meaning.
    return escaped(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)) + "\n"


def _cell(cell: Cell, base: Path) -> dict[str, Any]:
    return {
        "mean": cell.mean,
        "std": cell.std,
        "n": cell.n,
        "interval": None if cell.interval is None else list(cell.interval),
        "rank": cell.rank,
        "published": None if cell.published is None else _figure(cell.published),
        "others": [_figure(one) for one in cell.others],
        "disagreement": words.disagreement(cell) or None,
        "difference": cell.difference,
        "inside": cell.inside,
        "reduced": list(cell.reduced),
        "tied": cell.tied,
        "p": cell.p,
        "tested": cell.tested or None,
        "missing": words.missing_words(cell) or None,
        "seeds": [
            {
                "run": one.run,
                "seed": one.seed,
                "value": one.value,
                "reason": one.reason or None,
                "report": words.link(one.report, base) or None,
            }
            for one in cell.seeds
        ],
    }


def _figure(figure: Published) -> dict[str, Any]:
    keys = ("study", "table", "printed", "stat", "source", "note")
    return {"value": round(figure.fraction, 10), **{key: getattr(figure, key) for key in keys}}
