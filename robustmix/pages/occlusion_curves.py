"""Occlusion curves: those of any suite, with what was hidden, and how, below the title."""

from collections.abc import Sequence
from pathlib import Path

from robustmix.pages.curves import draw_curves
from robustmix.report.report import Report
from robustmix.report.schema import SuitePart


def draw_occlusion(reports: Sequence[Report], suites: Sequence[str], path: Path) -> str:
    """Draw accuracy against the share of hidden patches, a curve with its 95 % band for each mode.

    Mean confidence is dotted: where it stays above the accuracy, the model is over-confident.
    Arguments, result and errors are those of ``draw_curves``.
    """
    return draw_curves(reports, suites, path, told=_settings)


def _settings(part: SuitePart) -> str:
    details = part.details
    told = [details["grid"], f"fill {details['fill']}"]
    if details.get("saliency") is not None:
        told.append(f"saliency {details['saliency']['source']}")
    if details["mask_scope"] != "sample":
        told.append(f"one mask per {details['mask_scope'].partition(':')[2]}")
    return ", ".join(told)
