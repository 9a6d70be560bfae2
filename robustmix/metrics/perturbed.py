"""Flip probability and top-5 distance of sequences of pictures.

Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4. Labels are not used. Two pictures of a
sequence are compared: of noise each with the first, which is clean; of all else each with the one
``difficulty`` places before it.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustmix.errors import IncompatibleError, IntakeError, RobustmixError
from robustmix.files import file_digest, regular_file
from robustmix.later import Tensor, torch
from robustmix.report.report import REPORT_FILE, Report

DEPTH = 5
"""How many of the first classes a distance follows."""

_LARGEST = 2**20


def compared(pictures: int, *, noise: bool, difficulty: int = 1) -> list[tuple[int, int]]:
    """List which picture is compared with which: (earlier, later), from 0.

    The ``difficulty`` interleaved sequences of pictures so far apart are pooled.

    Example:
        >>> compared(4, noise=True)
        [(0, 1), (0, 2), (0, 3)]
        >>> compared(5, noise=False, difficulty=2)
        [(0, 2), (1, 3), (2, 4)]
    """
    if noise:
        return [(0, later) for later in range(1, pictures)]
    return [(later - difficulty, later) for later in range(difficulty, pictures)]


def flips(predictions: Tensor, *, noise: bool, difficulty: int = 1) -> Tensor:
    """Give the share of comparisons in which predictions differ.

    Args:
        predictions: int64 (n, pictures), more pictures than ``difficulty``.
        noise: whether each is compared with the first.
        difficulty: how far the others are apart.

    Returns:
        float64 (n,).

    Example:
        >>> sequence = torch.tensor([[1, 2, 2, 2, 1]])
        >>> flips(sequence, noise=False).item(), flips(sequence, noise=True).item()
        (0.5, 0.75)
    """
    pairs = compared(predictions.shape[1], noise=noise, difficulty=difficulty)
    first, second = ([pair[end] for pair in pairs] for end in (0, 1))
    return (predictions[:, first] != predictions[:, second]).double().mean(dim=1)


def ranks(logits: Tensor) -> Tensor:
    """Rank the classes by falling logit, from 1, ties by their index; int64, like ``logits``."""
    order = logits.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(1, logits.shape[-1] + 1, device=logits.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places.contiguous())


def top5_distance(reference: Tensor, other: Tensor) -> Tensor:
    """Give how far the first five classes of one picture move in another: 0 to 15.

    The sum over i = 1 ... 5 of |min(i, 6) - min(s(i), 6)|, where s(i) is the other's rank of the
    class that has rank i in the reference. It is not symmetric.

    Args:
        reference: logits (..., K), K >= 5.
        other: likewise.

    Returns:
        int64 (...).

    Example:
        >>> a = torch.tensor([6.0, 5, 4, 3, 2, 1])
        >>> top5_distance(a, torch.tensor([5.0, 6, 4, 3, 2, 1])).item()
        2
    """
    order = reference.argsort(dim=-1, descending=True, stable=True)[..., :DEPTH]
    moved = ranks(other).gather(-1, order).clamp(max=DEPTH + 1)
    return (moved - torch.arange(1, DEPTH + 1, device=moved.device)).abs().sum(dim=-1)


def distances(logits: Tensor, *, noise: bool, difficulty: int = 1) -> Tensor:
    """Give the mean top-5 distance over the comparisons of each sequence.

    Args:
        logits: (n, pictures, K), K >= 5.
        noise: see ``flips``.
        difficulty: likewise.

    Returns:
        float64 (n,).
    """
    pairs = compared(logits.shape[1], noise=noise, difficulty=difficulty)
    each = [top5_distance(logits[:, a], logits[:, b]).double() for a, b in pairs]
    return torch.stack(each).mean(dim=0)


@dataclass(frozen=True, kw_only=True)
class FlipReference:
    """Flip probabilities and top-5 distances of the model that a rate divides by."""

    source: str
    """Where the figures are from, in the words of the file."""

    sha256: str
    fp: dict[str, float]
    """Perturbation -> flip probability in (0, 1]."""

    ut5d: dict[str, float]
    """Perturbation -> mean top-5 distance in (0, 15]."""


def load_flip_reference(path: Path, dataset: str, difficulty: int) -> FlipReference:
    """Read the figures of the reference model, which nobody published in a form that can be read.

    Args:
        path: a report with the suite ``perturbation``, or JSON with ``source`` in words, and
            ``fp`` and ``ut5d``, each a number a perturbation; one of the two may be left out.
            ``dataset`` and ``difficulty`` say what they are of, by default ``imagenet-1k`` and 1.
        dataset: whose sequences are evaluated.
        difficulty: likewise.

    Raises:
        IntakeError: it cannot be read, or a figure is none.
        IncompatibleError: it is of another data set, or of another difficulty.
    """
    path = path / REPORT_FILE if path.is_dir() else path
    regular_file(path, what="reference", limit=2**28, code="E-REFERENCE")
    digest = file_digest(path)
    try:
        if path.name == REPORT_FILE:
            of, source, fp, ut5d = _of_report(path)
        else:
            of, source, fp, ut5d = _of_json(path)
    except RobustmixError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _no_reference(path, " ".join(str(error).split())[:200]) from error
    if of != (dataset, difficulty):
        raise IncompatibleError(
            f"the figures of {path} are of {of[0]:.60} at difficulty {of[1]}, the sequences of "
            f"{dataset} at {difficulty}",
            "divide by figures of the same sequences; in JSON, dataset and difficulty say of which",
            code="E-REFERENCE",
        )
    return FlipReference(source=source, sha256=digest, fp=fp, ut5d=ut5d)


_Of = tuple[str, int]
_Figures = tuple[_Of, str, dict[str, float], dict[str, float]]


def _of_json(path: Path) -> _Figures:
    regular_file(path, what="reference", limit=_LARGEST, code="E-REFERENCE")
    content: Any = json.loads(path.read_text(encoding="utf-8"))
    source = content.get("source")
    if not isinstance(source, str) or not 1 <= len(source.strip()) <= 300:
        raise ValueError("'source' says in words where the figures are from")
    unknown = set(content) - {"source", "fp", "ut5d", "dataset", "difficulty"}
    if unknown:
        raise ValueError(f"no key of it: {sorted(unknown)[0]:.40}")
    dataset, difficulty = content.get("dataset", "imagenet-1k"), content.get("difficulty", 1)
    if not isinstance(dataset, str) or type(difficulty) is not int:
        raise ValueError("dataset is a name and difficulty a whole number")
    fp, ut5d = _figures(content, "fp", 1.0), _figures(content, "ut5d", 15.0)
    if not fp and not ut5d:
        raise ValueError("it has neither fp nor ut5d")
    return (dataset, difficulty), " ".join(source.split()), fp, ut5d


def _figures(content: Mapping[str, Any], key: str, most: float) -> dict[str, float]:
    found = content.get(key, {})
    for name, value in found.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 < value <= most:
            raise ValueError(f"{key} of {name!r:.40} is a number in (0, {most:g}]")
    return {str(name): float(value) for name, value in found.items()}


def _of_report(path: Path) -> _Figures:
    content = Report.load(path, samples=False).content
    part = content.suites.get("perturbation")
    if part is None or part.status != "ok":
        raise ValueError("the report has no completed suite perturbation")
    found: dict[str, dict[str, float]] = {"fp": {}, "ut5d": {}}
    for condition in part.conditions:
        for key, figures in found.items():
            metric = condition.metrics.get(key)
            if metric is not None and metric.value:
                figures[condition.name] = metric.value
    of = str(part.params["dataset"]), int(part.params["difficulty"])
    return of, f"report {content.run.name} on {content.dataset.name}", found["fp"], found["ut5d"]


def _no_reference(path: Path, why: str) -> IntakeError:
    return IntakeError(
        f"{path} gives no reference figures: {why}",
        'write {"source": "...", "fp": {"gaussian_noise": 0.2, ...}, "ut5d": {...}}, or give a '
        "report with the suite perturbation",
        code="E-REFERENCE",
    )


def missing_figures(figures: Mapping[str, float], names: Sequence[str]) -> list[str]:
    """List the perturbations that a reference has no figure of."""
    return [name for name in names if name not in figures]
