"""Suite ``shift``: images of the same classes that were gathered or changed in another way."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from robustmix.corruptions.folder_c import SIDES
from robustmix.corruptions.names import SEVERITIES
from robustmix.data.content import pixels_sha256
from robustmix.data.images import ImageSet, joined, lines_sha256
from robustmix.data.shift.registry import CORRUPTED, SHIFTS, Kind, place_of
from robustmix.data.shift.sets import Conditions, ShiftSet
from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError, UsageError
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
    limited_count,
    to_unit,
)
from robustmix.evaluation.suites.official import as_stored, benchmark_name
from robustmix.metrics.corrupted import Corrupted
from robustmix.metrics.definition import Definition, Numbers, absent, share
from robustmix.metrics.scores import FloatArray, IntArray
from robustmix.metrics.shifted import agree, score_shift, unpaired_difference
from robustmix.report.rows import Rows, damaged
from robustmix.report.schema import Shown, SuitePart, TablePart, Warn
from robustmix.rng import seeded_subset
from robustmix.tables import Origin


@dataclass(frozen=True, kw_only=True)
class SetFacts:
    """What a report records of one shift set."""

    name: str
    kind: Kind
    n: int
    """Images of their own that are evaluated; 0 of a set that changes the clean ones."""

    of: int
    """Images that lie in the set."""

    counterpart: str | None
    """The clean data set that is evaluated beside it; None where another one is."""

    classes: tuple[int, ...] | None = None
    """The outputs that count; None: all."""

    mapping: tuple[int, ...] | None = None
    """Object that each output stands for, -1 for none; None: its own class."""

    objects: int = 0
    """Objects that lie in the set, where there is a mapping."""

    corruptions: tuple[str, ...] = ()
    sha256: str
    """Digest of the evaluated ids, or of what tells the files of a set of corruptions apart."""

    pixels_sha256: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def convention(self) -> str:
        """Ends the names of the numbers: which outputs, and of ObjectNet also which images."""
        if self.mapping is not None:
            return f"all_of_{self.known}_classes"
        return "all" if self.classes is None else "slice"

    @property
    def known(self) -> int:
        """Objects that some output stands for."""
        return len({number for number in self.mapping or () if number >= 0})

    @property
    def own_prefix(self) -> str:
        """How the ids of its images begin."""
        return f"{self.name}/shift/"


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
            if not _predictions_fit(_Shifted(rows, one).every, one):
                raise damaged(f"predictions on {one.name} are not those of its outputs")
        for name in self._corrupted():
            beside = _evaluated(rows)
            if (beside.column(name, "pred") != beside.column(name, "pred_all")).any():
                raise damaged(f"predictions under {name} are two")
        if plain is None or "logits" not in plain.tables["clean"].columns:
            return
        logits = plain.clean_logits()
        for one in self._images:
            positions = _clean_positions(rows, one)
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
            numbers |= _Shifted(rows, one).numbers()
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


def _predictions_fit(own: Rows, one: SetFacts) -> bool:
    """Tell whether a set's predictions can be those of its outputs, and right where they are."""
    pred, every = (own.column(one.name, name)[0].astype(int) for name in ("pred", "pred_all"))
    if one.mapping is not None:
        # ``correct`` says here what nothing else of the rows does.
        right = np.asarray(one.mapping)[pred] == own.labels
        same = np.array_equal(right, own.column(one.name, "correct")[0] == 1)
        return same and np.array_equal(pred, every)
    if one.classes is None:
        return np.array_equal(pred, every)
    inside = np.isin(every, one.classes)
    known = np.isin(pred, one.classes) & np.isin(own.labels, one.classes)
    return bool(known.all()) and np.array_equal(pred[inside], every[inside])


def _clean_positions(rows: Rows, one: SetFacts) -> IntArray:
    """Give the clean images in the order of the rows that a set is held against."""
    plain = rows.view.evaluated
    if plain is None or one.counterpart is None or one.mapping is not None:
        return np.zeros(0, dtype=np.int64)
    order = rows.order[rows.order < len(plain)]
    if one.classes is not None:
        order = order[np.isin(rows.view.labels[order], one.classes)]
    return np.asarray(order)


class _Shifted:
    """The numbers of a set with images of its own."""

    def __init__(self, rows: Rows, facts: SetFacts) -> None:
        ids, order = rows.view.sample_ids, rows.order
        own = [i for i in order.tolist() if ids[i].startswith(facts.own_prefix)]
        self.facts = facts
        self.key = facts.name
        self.every = rows.taken(np.asarray(own, dtype=np.int64))
        self.own = self.every
        if facts.mapping is not None:
            self.own = rows.taken(self.every.order[self.every.labels < facts.known])
        self.clean = rows.taken(_clean_positions(rows, facts))

    def numbers(self) -> Numbers:
        """Define accuracy, drop and calibration by the set's own convention, then by others."""
        end, key = f"_{self.facts.convention}", self.key
        numbers: Numbers = {
            (key, f"acc{end}"): self._accuracy,
            (key, f"clean_acc{end}"): partial(self._clean, "correct"),
            (key, f"drop{end}"): partial(self._drop, "correct"),
            (key, f"ece_15{end}"): lambda: Corrupted(self.own, paired=False).error(key),
            (key, f"confidence{end}"): lambda: self.own.average(
                key, "confidence", direction="neither", note="mean probability of the prediction"
            ),
            (key, f"nll{end}"): lambda: self.own.average(
                key, "nll", direction="lower", unit="nats"
            ),
        }
        if self.facts.mapping is not None:
            wider = f"acc_all_of_{self.facts.objects}_classes"
            numbers[key, wider] = lambda: self.every.share(
                key, note="the objects that no output stands for count as wrong"
            )
        if self.facts.classes is not None:
            numbers |= {
                (key, "acc_all"): self._accuracy_of_all,
                (key, "clean_acc_all"): partial(self._clean, "all"),
                (key, "drop_all"): partial(self._drop, "all"),
            }
        return numbers

    def _accuracy(self) -> Definition:
        return self.own.share(self.key, note=self._note)

    @property
    def _note(self) -> str:
        facts = self.facts
        said = "arg-max over all outputs"
        if facts.classes is not None:
            said = f"arg-max over the {len(facts.classes)} outputs of the set's classes"
        if facts.mapping is not None:
            said = f"arg-max over all outputs, of which {facts.known} objects are known"
        return f"{said}; {facts.n} of {facts.of} images" if facts.n < facts.of else said

    def _right(self, rows: Rows, column: str) -> FloatArray:
        if column == "correct":
            return np.asarray(rows.column(self.key, "correct")[0])
        return np.asarray(rows.column(self.key, "pred_all")[0] == rows.labels, dtype=np.float64)

    def _accuracy_of_all(self) -> Definition:
        return share(self._right(self.own, "all"), note="arg-max over all outputs")

    @property
    def _missing(self) -> str | None:
        clean = SHIFTS.row(self.key).clean_of if self.key in SHIFTS else "its data set"
        if self.facts.mapping is not None:
            return "its objects were photographed for it alone: there is no clean counterpart"
        if self.facts.counterpart is None:
            return f"the clean counterpart, the test images of {clean}, was not evaluated"
        if self.clean.n == 0:
            return "no evaluated clean image is of its classes"
        return None

    def _clean(self, column: str) -> Definition:
        note = "clean images of the same classes, by the same outputs"
        if self._missing is not None:
            return absent(self.own.n, self._missing, direction="higher")
        return share(self._right(self.clean, column), note=note)

    def _drop(self, column: str) -> Definition:
        note = "clean accuracy on the same classes minus accuracy"
        if self._missing is not None:
            return absent(self.own.n, self._missing, direction="lower")
        return unpaired_difference(
            self._right(self.clean, column), self._right(self.own, column), note=note
        )


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
        with torch.no_grad():
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
    with torch.no_grad():
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
        names = self.shift or _lying(scene)
        for name in names:
            _check_name(name, names)
        both = [_open(name, scene) for name in names]
        return OpenedShift(
            sets=tuple(facts for facts, _ in both), opened=tuple(opened for _, opened in both)
        )


def _lying(scene: Scene) -> tuple[str, ...]:
    """Name the sets of the evaluated data set that are in the data folder."""
    of = _data_set(scene.data)
    known = [name for name in SHIFTS if SHIFTS.row(name).clean_of == of]
    found = tuple(name for name in known if place_of(name, scene.folder) is not None)
    if not found:
        raise UsageError(
            f"no shift set of {of} lies in the data folder {scene.folder}",
            f"extract one there: {', '.join(known)}"
            if known
            else f"leave the suite out: of {of} there is none",
            code="E-SHIFT-SET",
        )
    return found


def _check_name(name: str, names: Sequence[str]) -> None:
    if name in CORRUPTED:
        raise UsageError(
            f"{name} is read by the suite corruption",
            "use --suite corruption --corruption-source official",
            code="E-SHIFT-SET",
        )
    SHIFTS.checked(name, code="E-SHIFT-SET")
    if list(names).count(name) > 1:
        raise UsageError(f"shift set {name} is named twice", "name it once", code="E-SHIFT-SET")


def _data_set(data: ImageSet) -> str:
    """Name the data set whose classes the evaluated images have."""
    name = benchmark_name(data)
    if name in SHIFTS:
        return SHIFTS.row(name).clean_of
    return "imagenet-1k" if data.class_names == imagenet_wnids() else name


def _open(name: str, scene: Scene) -> tuple[SetFacts, ShiftSet | Conditions]:
    data, row = scene.data, SHIFTS.row(name)
    if _data_set(data) != row.clean_of:
        raise UsageError(
            f"{name} has the classes of {row.clean_of}, the evaluated images are of {data.name}",
            f"evaluate a model of {row.clean_of} on it, or leave {name} out",
            code="E-SHIFT-SET",
        )
    place = place_of(name, scene.folder)
    if place is None:
        raise IntakeError(
            f"{name} is not in the data folder: no {' or '.join(row.places)} in {scene.folder}",
            "download it from its authors and extract it there",
            code="E-DATA",
        )
    same = benchmark_name(data) == row.clean_of
    counterpart = row.clean_of if same else None
    if row.kind == "conditions":
        if not same:
            raise UsageError(
                f"{name} changes the test images of {row.clean_of}, the evaluated ones are of "
                f"{data.name}",
                f"evaluate on {row.clean_of}",
                code="E-SHIFT-SET",
            )
        _check_stored(name, data)
    opened = SHIFTS[name](name, place, data)
    if isinstance(opened, Conditions):
        facts = SetFacts(
            name=name,
            kind="conditions",
            n=0,
            of=len(data),
            counterpart=counterpart,
            corruptions=opened.names,
            sha256=opened.sha256,
            notes=opened.notes,
        )
        return facts, opened
    return _facts(name, opened, counterpart, scene)


def _check_stored(name: str, data: ImageSet) -> None:
    size = as_stored(data.pixels).pixels.size
    side = SIDES.get(SHIFTS.row(name).clean_of, 32)
    if size != (3, side, side):
        raise IntakeError(
            f"{name} holds images of {side}x{side} pixels, the clean ones have {size[1]}x{size[2]}",
            f"evaluate a model for {side} pixels",
            code="E-INPUT-SIZE",
        )


def _facts(
    name: str, opened: ShiftSet, counterpart: str | None, scene: Scene
) -> tuple[SetFacts, ShiftSet]:
    whole = opened.images
    notes = opened.notes
    if opened.expected is not None and len(whole) != opened.expected:
        notes = (*notes, f"it has {len(whole):,} images, {opened.expected:,} were published")
    objects = 0 if opened.mapping is None else len(set(whole.labels.tolist()))
    images = _limited(whole, opened, scene)
    facts = SetFacts(
        name=name,
        kind="images",
        n=len(images),
        of=len(whole),
        counterpart=counterpart,
        classes=opened.classes,
        mapping=opened.mapping,
        objects=objects,
        sha256=images.order_sha256,
        pixels_sha256=pixels_sha256(images),
        notes=notes,
    )
    kept = ShiftSet(images=images, classes=opened.classes, mapping=opened.mapping)
    return facts, kept


def _limited(images: ImageSet, opened: ShiftSet, scene: Scene) -> ImageSet:
    """Take as many images as were asked for of the evaluated ones, by the same seed."""
    if scene.limit is None:
        return images
    count = max(1, limited_count(scene.limit, len(images)))
    chosen = seeded_subset(scene.seed, images.sample_ids, count)
    return images if chosen is None else images.subset(chosen)
