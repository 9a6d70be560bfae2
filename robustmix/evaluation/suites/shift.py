"""Suite ``shift``: images of the same classes that were gathered or changed in another way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from pydantic import JsonValue

from robustmix.corruptions.names import SEVERITIES
from robustmix.data.images import ImageSet, joined, lines_sha256
from robustmix.data.shift.registry import SHIFTS
from robustmix.data.shift.sets import Conditions, ShiftSet
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
from robustmix.evaluation.suites.official import as_stored
from robustmix.evaluation.suites.shift_open import check_name, open_set, sets_there
from robustmix.evaluation.suites.shift_rows import (
    SetFacts,
    Shifted,
    clean_positions,
    predictions_fit,
)
from robustmix.later import Tensor, torch
from robustmix.metrics.corrupted import Corrupted
from robustmix.metrics.definition import Numbers
from robustmix.metrics.scores import IntArray
from robustmix.metrics.shifted import agree, score_shift
from robustmix.report.rows import Rows, damaged
from robustmix.report.schema import Shown, SuitePart, TablePart, Warn
from robustmix.tables import Origin


@dataclass(frozen=True, kw_only=True)
class PreparedShift(Prepared):
    """The sets, each with what was found of it."""

    kind: ClassVar[str] = "shift"
    own_correct: ClassVar[tuple[str, ...]] = ("objectnet",)

    sets: tuple[SetFacts, ...]

    @property
    def _images(self) -> list[SetFacts]:
        return [one for one in self.sets if one.kind == "images"]

    @property
    def _conditions(self) -> list[SetFacts]:
        return [one for one in self.sets if one.kind == "conditions"]

    def foreign(self) -> list[tuple[str, str, Origin | None]]:
        """List the sets with their origins."""
        return [("shift set", one.name, SHIFTS.origin(one.name)) for one in self.sets]

    def covers(self, n: int) -> int:
        """Count the sets' own images, and the evaluated ones where these are changed."""
        return sum(one.n for one in self._images) + (n if self._conditions else 0)

    def passes(self, n: int) -> Passes:
        """Count one pass an image; clean ones are not run again."""
        changed = sum(len(one.corruptions) for one in self._conditions) * len(SEVERITIES)
        own = sum(one.n for one in self._images)
        return Passes(len(self._images) + changed, own + changed * n, 0)

    def check(self, rows: Rows) -> None:
        """Refuse rows that contradict themselves, or clean ones that are not of the clean logits.

        Raises:
            IntakeError: the record is damaged.
        """
        plain = rows.view.evaluated
        own = rows.view.sample_ids[len(plain) if plain else len(rows.view) :]
        for one in self._images:
            ids = [name for name in own if name.startswith(one.own_prefix)]
            if lines_sha256(ids) != one.sha256:
                raise damaged(f"the images of {one.name} are not those of the report")
            if not predictions_fit(Shifted(rows, one).every, one):
                raise damaged(f"predictions on {one.name} are not those of its outputs")
        for name in self._corrupted():
            beside = _evaluated(rows)
            if (beside.column(name, "pred") != beside.column(name, "pred_all")).any():
                raise damaged(f"predictions under {name} are two")
        if plain is None or "logits" not in plain.tables["clean"].columns:
            return
        logits = plain.clean_logits()
        for one in self._images:
            positions = clean_positions(rows, one)
            if not len(positions):
                continue
            made = score_shift(logits[positions], plain.labels[positions], classes=one.classes)
            beside = rows.taken(positions)
            if not agree({name: beside.column(one.name, name)[0] for name in made}, made):
                raise damaged(f"clean images of {one.name} are not scored by the clean logits")

    def _corrupted(self) -> list[str]:
        """List the conditions of the sets of corruptions."""
        return [
            f"{name}/{severity}"
            for one in self._conditions
            for name in one.corruptions
            for severity in SEVERITIES
        ]

    def numbers(self, rows: Rows) -> Numbers:
        """Define the numbers of each set, then those of every corruption and severity."""
        numbers: Numbers = {}
        for one in self._images:
            numbers |= Shifted(rows, one).numbers()
        for one in self._conditions:
            numbers |= self._of_conditions(Corrupted(_evaluated(rows), paired=True), one)
        return numbers

    def _of_conditions(self, data: Corrupted, one: SetFacts) -> Numbers:
        means = data.means(one.corruptions, SEVERITIES)
        numbers: Numbers = {(one.name, name): define for (_, name), define in means.items()}
        for name in one.corruptions:
            numbers[f"by_corruption:{name}", "acc_mean"] = partial(
                data.accuracy, (name,), SEVERITIES
            )
            for severity in SEVERITIES:
                numbers |= data.condition(name, severity)
        return numbers

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Tabulate the sets."""
        under = {condition.name: condition.metrics for condition in numbers.conditions}

        def value(one: SetFacts, stem: str) -> float | None:
            name = stem if one.kind == "conditions" else f"{stem}_{one.convention}"
            metric = under[one.name].get(name)
            return None if metric is None else metric.value

        rows_: list[list[JsonValue]] = []
        for one in self.sets:
            few = one.kind == "conditions"
            outputs = "all" if one.classes is None else f"{len(one.classes)} (slice)"
            if one.mapping is not None:
                outputs = f"all, for {one.known} objects"
            rows_.append([
                one.name,
                one.n or _evaluated(rows).n,
                outputs,
                value(one, "acc_mean" if few else "acc"),
                value(one, "drop"),
                value(one, "ece_15_mean" if few else "ece_15"),
            ])  # fmt: skip
        table = TablePart(
            name="sets",
            caption="Shift sets: accuracy, what is lost against the clean counterpart, calibration",
            columns=["set", "images", "outputs", "accuracy", "drop", "ece_15"],
            rows=rows_,
            units={"accuracy": "fraction", "drop": "fraction", "ece_15": "fraction"},
        )
        notes = [f"W-SHIFT: {one.name}: {note}" for one in self.sets for note in one.notes]
        details = {"source": "official"} if self._conditions else {}
        return Found(tables=[table], notes=notes, details=details)

    def shown(self, part: SuitePart) -> Shown:
        """Show accuracy and drop of each set; the gate watches the accuracies."""
        first, drops, errors = [], [], []
        for one in self.sets:
            changed = one.kind == "conditions"
            end = "" if changed else f"_{one.convention}"
            first.append(f"{'acc_mean' if changed else 'acc'}{end}[{one.name}]")
            drops.append(f"drop{end}[{one.name}]")
            errors.append(f"{'ece_15_mean' if changed else 'ece_15'}{end}[{one.name}]")
        pairs = [path for both in zip(first, drops, strict=True) for path in both]
        return Shown(
            headline=pairs,
            compared=[*pairs, *errors],
            gated=first,
            note=", ".join(_said(one) for one in self.sets),
            section="Distribution shift",
            drawings=["heatmap"] if self._conditions else [],
        )

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        """Warn of sets that are not as they were published."""
        notes = [note.partition(": ") for note in parts[key].notes]
        return [Warn(code=code, suite=key, message=text) for code, _, text in notes]

    def forecast_note(self) -> str:
        """Name the sets and their sizes."""
        return "; ".join(
            f"{one.name}, {one.n:,} images" if one.n else f"{one.name}, {len(one.corruptions)} x 5"
            for one in self.sets
        )


def _said(one: SetFacts) -> str:
    part = f" {one.n} of {one.of}" if one.n < one.of else ""
    return f"{one.name}{part} ({one.convention})" if one.kind == "images" else one.name


def _evaluated(rows: Rows) -> Rows:
    return rows if rows.view.evaluated is None else rows.of_evaluated()


@dataclass(frozen=True, kw_only=True)
class OpenedShift(PreparedShift):
    """With the images."""

    opened: tuple[ShiftSet | Conditions, ...] = unrecorded(())

    def added(self) -> ImageSet | None:
        """Give the images of all sets that have their own, one set after the other."""
        found = [one.images for one in self.opened if isinstance(one, ShiftSet)]
        if not found:
            return None
        whole, *others = found
        for other in others:
            whole = joined(whole, other)
        return whole

    def parts(self, context: Context) -> list[Part]:
        """List one pass a set with images of its own, and one a corruption and severity."""
        own = sum(one.n for one in self._images)
        clean = len(context.data) - own
        parts, begins = [], clean
        everything = None if own == 0 else _chosen(np.arange(clean))
        for facts, opened in zip(self.sets, self.opened, strict=True):
            if isinstance(opened, ShiftSet):
                beside = self._beside(context, facts, clean)
                positions = np.concatenate([beside, np.arange(begins, begins + facts.n)])
                begins += facts.n
                work = partial(_scored, context, clean, facts)
                parts.append(Part(facts.name, (facts.name,), work, select=_chosen(positions)))
                continue
            for name in facts.corruptions:
                for severity in SEVERITIES:
                    changed = partial(_changed, context, opened, name, severity)
                    key = f"{name}/{severity}"
                    parts.append(Part(f"{name}-{severity}", (key,), changed, select=everything))
        return parts

    @staticmethod
    def _beside(context: Context, facts: SetFacts, clean: int) -> IntArray:
        if facts.counterpart is None or facts.mapping is not None:
            return np.zeros(0, dtype=np.int64)
        labels = context.data.labels[:clean].numpy()
        if facts.classes is None:
            return np.arange(clean)
        return np.flatnonzero(np.isin(labels, facts.classes))


def _chosen(positions: IntArray) -> Callable[[Done], IntArray]:
    def select(done: Done) -> IntArray:
        return positions

    return select


def _scored(context: Context, clean: int, facts: SetFacts, batch: Batch) -> Mapping[str, Columns]:
    """Score a set's images; of the clean ones beside them the logits are known."""
    known = batch.indices < clean
    logits = torch.zeros(len(batch.indices), context.robust.num_classes)
    if bool(known.any()):
        table = context.clean
        assert table is not None, "clean runs before all others"
        kept = table.at("clean")["logits"].astype(np.float32, copy=False)
        logits[known] = torch.from_numpy(kept[batch.indices[known].numpy()])
    if bool((~known).any()):
        images = context.data.pixels.take(batch.indices[~known]).to(context.device)
        with context.scoring():
            logits[~known] = context.model(to_unit(images)).float().cpu()
    found = score_shift(
        logits.numpy(),
        batch.labels.cpu().numpy(),
        classes=facts.classes,
        mapping=facts.mapping,
        sample_ids=batch.sample_ids,
    )
    return {facts.name: {name: torch.from_numpy(column) for name, column in found.items()}}


def _changed(
    context: Context, opened: Conditions, name: str, severity: int, batch: Batch
) -> Mapping[str, Columns]:
    evaluated = context.data.pixels
    stored = as_stored(getattr(evaluated, "first", evaluated))
    images = opened.files.take(name, severity, context.official[batch.indices])
    with context.scoring():
        logits: Tensor = context.model(to_unit(stored.enlarge(images).to(context.device)))
    pred = logits.argmax(dim=1).to(torch.int32)
    return {f"{name}/{severity}": {"logits": logits, "pred_all": pred}}


@dataclass(frozen=True, kw_only=True)
class Shift(Suite):
    """Accuracy on images gathered elsewhere, what it loses against the clean ones, calibration."""

    recorded: ClassVar[type[Prepared]] = PreparedShift

    shift: tuple[str, ...] = option(
        (), form="NAME,...", shown="those of the data set that lie in the data folder"
    )
    """Shift sets, e.g. imagenet-a,imagenet-r."""

    def prepare(self, scene: Scene) -> OpenedShift:
        """Open the sets.

        Raises:
            UsageError: a set is unknown, named twice, or belongs to another data set; or none was
                named and none is there.
            IntakeError: files are missing, damaged or not of these images.
        """
        names = self.shift or sets_there(scene)
        for name in names:
            check_name(name, names)
        both = [open_set(name, scene) for name in names]
        return OpenedShift(
            sets=tuple(facts for facts, _ in both), opened=tuple(opened for _, opened in both)
        )
