"""What is recorded of shift sets, and the numbers of those with images of their own."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from robustmix.data.shift.registry import SHIFTS, Kind
from robustmix.metrics.corrupted import Corrupted
from robustmix.metrics.definition import Definition, Numbers, absent, share
from robustmix.metrics.scores import FloatArray, IntArray
from robustmix.metrics.shifted import unpaired_difference
from robustmix.report.rows import Rows


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


def predictions_fit(own: Rows, one: SetFacts) -> bool:
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


def clean_positions(rows: Rows, one: SetFacts) -> IntArray:
    """Give the clean images in the order of the rows that a set is held against."""
    plain = rows.view.evaluated
    if plain is None or one.counterpart is None or one.mapping is not None:
        return np.zeros(0, dtype=np.int64)
    order = rows.order[rows.order < len(plain)]
    if one.classes is not None:
        order = order[np.isin(rows.view.labels[order], one.classes)]
    return np.asarray(order)


class Shifted:
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
        self.clean = rows.taken(clean_positions(rows, facts))

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
