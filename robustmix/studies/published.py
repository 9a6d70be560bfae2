"""What the papers print: 2,072 figures with their source, statistic and doubts, to be looked up.

The table lies beside this module. How it was transcribed, which figures stand in another place than
they were printed in, and where sources disagree is in its column ``note``.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

REPORT_METRICS: dict[str, tuple[str, ...]] = {
    "top1": ("clean.top1",),
    # The first is what reports have; by the other a study may say whose protocol it means.
    "corruption_acc": ("corruption.acc_mean_all19", "corruption@paper-adautomix.acc_mean_all19"),
    "fgsm_error": ("fgsm@paper-adautomix.error",),
    "ece": (
        "calibration.ece_15",
        "calibration.ece_10",
        "calibration@paper-adautomix.ece_10",
        "calibration@paper-adautomix.ece_paper_tool",
    ),
    "maxboxacc_v2": ("localisation.maxboxacc_v2",),
    "voc_map": (),
    "coco_map": (),
    "coco_ap50": (),
    "coco_ap75": (),
}
"""What the table calls a metric -> the numbers of a report that it may be.

The papers do not say which tool their FGSM was, nor how many bins their ECE has; for the first, the
scripts of AdAutoMix are assumed. Detection is not measured here.
"""

_DOUBTS = ("GARBLED", "RESTORED", "DISAGREES")
"""Words in a note that say that a figure is not simply as printed in one place."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """One printed figure."""

    study: str
    """The table it is of, by the name of a study, e.g. ``poster-t3``."""

    table: str
    dataset: str
    arch: str
    epochs: int | None
    """None where the source does not say."""

    method: str
    """A method, perhaps with a variant in brackets: ``automix[grids]``."""

    metric: str
    """A key of ``REPORT_METRICS``."""

    value: float
    """In percent, as printed."""

    printed: str
    """The same with the printed digits."""

    stat: str
    """``mean-of-3``, a name of ``STATISTICS``, or ``unknown``."""

    source: str
    note: str

    @property
    def fraction(self) -> float:
        """The value as reports have it, in [0, 1]."""
        return self.value / 100

    @property
    def usable(self) -> bool:
        """Whether it may be shown; what cannot be right where it stands may not."""
        return "GARBLED: cannot" not in self.note

    @property
    def doubtful(self) -> bool:
        """Whether sources differ, or it was moved or restored from another source."""
        return any(word in self.note for word in _DOUBTS)


@cache
def published() -> tuple[Published, ...]:
    """Return all figures, unusable ones too, in the order of the table."""
    text = files("robustmix.studies").joinpath("published.csv").read_text(encoding="utf-8")
    return tuple(_figure(row) for row in csv.DictReader(text.splitlines()))


def _figure(row: dict[str, str]) -> Published:
    printed, epochs = row.pop("value"), row.pop("epochs")
    return Published(
        **row,
        value=float(printed),
        printed=printed,
        epochs=None if epochs == "unknown" else int(epochs),
    )


@cache
def _by_place() -> dict[tuple[str, str, str, str], list[Published]]:
    found: dict[tuple[str, str, str, str], list[Published]] = {}
    for figure in published():
        if figure.usable:
            place = (figure.dataset, figure.arch, figure.method, figure.metric)
            found.setdefault(place, []).append(figure)
    return found


def find_published(
    *,
    dataset: str,
    arch: str,
    epochs: int,
    method: str,
    metric: str,
    studies: Sequence[str] = (),
) -> list[Published]:
    """Return what was printed of a run, the asked studies' figures first, each's in their order.

    Figures that cannot be used are never among them. One whose source does not say how long was
    trained is, if it is of an asked study: that study says what it takes the length to be.

    Args:
        dataset: by its name here.
        arch: the architecture.
        epochs: of the training.
        method: with its variant in brackets, if it has one.
        metric: as the table calls it, or as reports do: ``top1`` or ``clean.top1``.
        studies: those whose figures come first, the first one first.
    """
    names = metric_names(metric)
    found = [
        figure
        for name in names
        for figure in _by_place().get((dataset, arch, method, name), [])
        if figure.epochs == epochs or (figure.epochs is None and figure.study in studies)
    ]
    rank = {study: place for place, study in enumerate(studies)}
    return sorted(found, key=lambda figure: rank.get(figure.study, len(rank)))


def metric_names(metric: str) -> list[str]:
    """Return what the table calls a metric of a report; nothing where it has none of the kind."""
    if metric in REPORT_METRICS:
        return [metric]
    return [name for name, paths in REPORT_METRICS.items() if metric in paths]
