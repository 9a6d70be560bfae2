"""Suite ``ood``: can a model's outputs tell images that are none of its classes?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, JsonValue

from robustmix.data.images import ImageSet, joined, lines_sha256
from robustmix.evaluation.options import option
from robustmix.evaluation.params import unrecorded
from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Done,
    Found,
    Part,
    Passes,
    Prepared,
    Scene,
    Suite,
    to_unit,
)
from robustmix.evaluation.suites.ood_open import INSIDE, OodFacts, open_sets
from robustmix.later import Tensor, torch
from robustmix.metrics.definition import Definition, Numbers
from robustmix.metrics.detection import (
    MEASURES,
    SCORES,
    Detection,
    detection_scores,
    mean_over_sets,
    passing_threshold,
    score_histogram,
)
from robustmix.metrics.scores import BoolArray, FloatArray, IntArray, check_finite
from robustmix.report.rows import Rows, damaged
from robustmix.report.schema import Shown, SuitePart, TablePart, Warn

HEADLINE = ("auroc", "fpr95")
"""Measures that are shown unless asked otherwise, and whose means over sets are numbers."""

MOST_ALIKE = 8
"""Evaluated images of one output that an image is held against, pixel for pixel."""


class Group(BaseModel):
    """How the scores of some images are spread."""

    name: str
    counts: list[int]
    """Images in each bin."""


class Histogram(BaseModel):
    """How one score is spread in the evaluated images, which come first, and in each set."""

    score: str
    edges: list[float]
    threshold: float
    """The largest score that 95 % of the evaluated images reach."""

    groups: list[Group]


@dataclass(frozen=True, kw_only=True)
class PreparedOod(Prepared):
    """The sets, each with what was found of it."""

    kind: ClassVar[str] = "ood"

    sets: tuple[OodFacts, ...]

    def covers(self, n: int) -> int:
        """Count the sets' images beside the evaluated ones."""
        return n + sum(one.n for one in self.sets)

    def passes(self, n: int) -> Passes:
        """Count one pass an image of the sets; the clean logits are shared."""
        return Passes(1 + len(self.sets), sum(one.n for one in self.sets), 0)

    def check(self, rows: Rows) -> None:
        """Refuse rows that contradict themselves, or the clean logits.

        Raises:
            IntakeError: the record is damaged.
        """
        plain = rows.view.evaluated
        if plain is None:
            raise damaged("the suite ood has no images of its own")
        ids = rows.view.sample_ids[len(plain) :]
        for one in self.sets:
            own = [name for name in ids if name.startswith(one.own_prefix)]
            if lines_sha256(own) != one.sha256:
                raise damaged(f"the images of {one.name} are not those of the report")
        classes = rows.num_classes
        for condition, at in self._places(rows).items():
            of = rows.taken(at)
            msp, top, energy = (of.column(condition, name)[0] for name in SCORES)
            fits = (energy >= top - 1e-9) & (energy <= top + np.log(classes) + 1e-9)
            if not (fits & np.isclose(msp, np.exp(top - energy), rtol=1e-9, atol=0)).all():
                raise damaged(f"the scores of {condition} are not of one image each")
            if not np.isin(of.column(condition, "repeated")[0], (0, 1)).all():
                raise damaged(f"an image of {condition} is neither repeated nor not")
            everything = rows.taken(np.arange(len(rows.view)))
            belong = np.isin(everything.order, at)
            if (everything.column(condition, "tested")[0] != belong).any():
                raise damaged(f"other images than those of {condition} have its scores")
        if "logits" in plain.tables["clean"].columns:
            at = self._places(rows)[INSIDE]
            made = detection_scores(plain.clean_logits()[at])
            found = {name: rows.taken(at).column(INSIDE, name)[0] for name in SCORES}
            if not all(np.allclose(found[name], made[name], rtol=1e-9) for name in SCORES):
                raise damaged("evaluated images are not scored by the clean logits")

    def _places(self, rows: Rows) -> dict[str, IntArray]:
        """Give where the images of each condition stand in the view, in the order of the rows."""
        plain, ids = rows.view.evaluated, rows.view.sample_ids
        assert plain is not None, "checked before any number is made"
        order = rows.order
        found = {INSIDE: order[order < len(plain)]}
        for one in self.sets:
            own = [i for i in order.tolist() if ids[i].startswith(one.own_prefix)]
            found[one.name] = np.asarray(own, dtype=np.int64)
        return found

    def _scores(self, rows: Rows) -> dict[str, dict[str, FloatArray]]:
        """Give the scores of each condition's images."""
        return {
            condition: {name: rows.taken(at).column(condition, name)[0] for name in SCORES}
            for condition, at in self._places(rows).items()
        }

    def numbers(self, rows: Rows) -> Numbers:
        """Define each measure of each score, set by set, and the means over the sets."""
        scores = self._scores(rows)
        detections = {
            (one.name, score): Detection(scores[INSIDE][score], scores[one.name][score])
            for one in self.sets
            for score in SCORES
        }
        numbers: Numbers = {}
        if len(self.sets) > 1:
            for score in SCORES:
                for measure in HEADLINE:
                    define = partial(self._mean, rows, detections, score, measure)
                    numbers["", f"{measure}_mean_{score}"] = define
        for (name, score), detection in detections.items():
            for measure, define_one in MEASURES.items():
                numbers[name, f"{measure}_{score}"] = partial(define_one, detection)
        return numbers

    def _mean(
        self,
        rows: Rows,
        detections: Mapping[tuple[str, str], Detection],
        score: str,
        measure: str,
    ) -> Definition:
        place = {position: row for row, position in enumerate(rows.order.tolist())}
        at = {
            name: np.array([place[i] for i in positions.tolist()], dtype=np.int64)
            for name, positions in self._places(rows).items()
        }
        names = [one.name for one in self.sets]
        return mean_over_sets(
            [detections[name, score] for name in names],
            [np.concatenate([at[INSIDE], at[name]]) for name in names],
            rows.n,
            measure,
        )

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Tabulate the sets, count how the scores are spread, and look for images in both."""
        scores, places = self._scores(rows), self._places(rows)
        under = {condition.name: condition.metrics for condition in numbers.conditions}
        columns = [f"{measure} {score}" for score in SCORES for measure in HEADLINE]
        table_rows: list[list[JsonValue]] = []
        notes = [note for one in self.sets for note in one.notes]
        for one in self.sets:
            repeated = int(rows.taken(places[one.name]).column(one.name, "repeated").sum())
            values = [
                under[one.name][f"{measure}_{score}"].value
                for score in SCORES
                for measure in HEADLINE
            ]
            table_rows.append([one.name, one.n, *values, repeated])
            if repeated:
                notes.append(
                    f"W-OOD-SELF: {repeated:,} of {one.n:,} images of {one.name} are among the "
                    "evaluated ones, pixel for pixel"
                )
        table = TablePart(
            name="sets",
            caption="Out-of-distribution sets: AUROC and FPR95 of each score",
            columns=["set", "images", *columns, "also evaluated"],
            rows=table_rows,
            units=dict.fromkeys(columns, "fraction"),
        )
        histograms = [_histogram(score, scores).model_dump() for score in SCORES]
        return Found(tables=[table], notes=notes, details={"histograms": histograms})

    def shown(self, part: SuitePart) -> Shown:
        """Show AUROC and FPR95, of several sets their means first; the gate watches the AUROCs."""
        of = {
            measure: [f"{measure}_{score}[{one.name}]" for one in self.sets for score in SCORES]
            for measure in HEADLINE
        }
        single = [path for both in zip(*of.values(), strict=True) for path in both]
        return Shown(
            headline=[*part.metrics, *single] if len(self.sets) == 1 else list(part.metrics),
            compared=[*part.metrics, *single],
            gated=of["auroc"],
            note=", ".join(_said(one) for one in self.sets),
            section="Out-of-distribution detection",
            drawings=["score-histograms"],
        )

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        """Warn of sets that are no out-of-distribution sets, or differ in more than content."""
        notes = [note.partition(": ") for note in parts[key].notes]
        return [Warn(code=code, suite=key, message=text) for code, _, text in notes]

    def forecast_note(self) -> str:
        """Name the sets and their sizes."""
        return "; ".join(f"{one.name}, {one.n:,} images" for one in self.sets)


def _histogram(score: str, scores: Mapping[str, Mapping[str, FloatArray]]) -> Histogram:
    """Count one score of every condition's images."""
    edges, counts = score_histogram({name: of[score] for name, of in scores.items()}, score=score)
    return Histogram(
        score=score,
        edges=edges.tolist(),
        threshold=passing_threshold(scores[INSIDE][score]),
        groups=[Group(name=name, counts=of.tolist()) for name, of in counts.items()],
    )


def _said(one: OodFacts) -> str:
    return f"{one.name} {one.n} of {one.of}" if one.n < one.of else one.name


@dataclass(frozen=True, kw_only=True)
class OpenedOod(PreparedOod):
    """With the images."""

    opened: tuple[ImageSet, ...] = unrecorded(())

    def added(self) -> ImageSet | None:
        """Give the images of all sets, one set after the other."""
        whole, *others = self.opened
        for other in others:
            whole = joined(whole, other)
        return whole

    def parts(self, context: Context) -> list[Part]:
        """List the evaluated images, whose logits are known, and one pass a set."""
        begins = len(context.data) - sum(one.n for one in self.sets)
        clean = _chosen(np.arange(begins))
        parts = [Part(INSIDE, (INSIDE,), partial(_known, context), select=clean)]
        for one in self.sets:
            positions = np.arange(begins, begins + one.n)
            begins += one.n
            work = partial(_scored, context, one.name)
            parts.append(Part(one.name, (one.name,), work, select=_chosen(positions)))
        return parts


def _chosen(positions: IntArray) -> Callable[[Done], IntArray]:
    def select(done: Done) -> IntArray:
        return positions

    return select


def _clean_logits(context: Context) -> NDArray[np.float32]:
    table = context.clean
    assert table is not None, "clean runs before all others"
    logits: NDArray[np.float32] = table.at("clean")["logits"].astype(np.float32, copy=False)
    return logits


def _known(context: Context, batch: Batch) -> Mapping[str, Columns]:
    logits = _clean_logits(context)[batch.indices.numpy()]
    return {INSIDE: _columns(logits, np.zeros(len(logits), dtype=np.bool_))}


def _scored(context: Context, name: str, batch: Batch) -> Mapping[str, Columns]:
    images = batch.images()
    with context.scoring():
        logits = context.model(to_unit(images)).float().cpu().numpy()
    check_finite(logits, batch.sample_ids)
    return {name: _columns(logits, _repeated(context, images, logits))}


def _columns(logits: NDArray[np.float32], repeated: BoolArray) -> Columns:
    found = {name: torch.from_numpy(of) for name, of in detection_scores(logits).items()}
    return {**found, "repeated": torch.from_numpy(repeated)}


def _repeated(context: Context, images: Tensor, logits: NDArray[np.float32]) -> BoolArray:
    """Tell which images are evaluated ones, pixel for pixel, as the model sees them, bool (n,).

    Those have the same logits to the bit, so only where logits are equal are pixels looked at.
    """
    known = _clean_logits(context)
    found = np.zeros(len(logits), dtype=np.bool_)
    for row in np.flatnonzero(np.isin(logits[:, 0], known[:, 0])):
        alike = np.flatnonzero((known == logits[row]).all(axis=1))[:MOST_ALIKE]
        if len(alike):
            evaluated = context.data.pixels.take(torch.from_numpy(alike)).to(images.device)
            found[row] = bool((evaluated == images[row]).flatten(1).all(dim=1).any())
    return found


@dataclass(frozen=True, kw_only=True)
class Ood(Suite):
    """How well MSP, the largest logit and energy tell images of other sets: AUROC, FPR95, AUPR."""

    recorded: ClassVar[type[Prepared]] = PreparedOod

    ood_dataset: tuple[str, ...] = option((), form="NAME|folder:PATH,...", shown="none")
    """Data sets of images that are none of the model's classes, e.g. svhn,folder:textures; those of
    a folder need no labels."""

    def prepare(self, scene: Scene) -> OpenedOod:
        """Open the sets.

        Raises:
            UsageError: none is named, one is unknown, or two go by one name.
            IntakeError: files are missing or damaged, or images do not get the model's size.
        """
        found = open_sets(self.ood_dataset, scene)
        return OpenedOod(
            sets=tuple(facts for facts, _ in found), opened=tuple(images for _, images in found)
        )
