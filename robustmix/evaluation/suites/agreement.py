"""Suite ``agreement``: do other models make the same mistakes, and fall for the same images?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal, get_args

import numpy as np
from pydantic import JsonValue

from robustmix.attacks import Norm, attack_norms, find_attack
from robustmix.attacks.doubts import Doubts
from robustmix.errors import UsageError, unknown_name
from robustmix.evaluation.options import option
from robustmix.evaluation.params import exact_name, unrecorded
from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Found,
    Part,
    Passes,
    Prepared,
    Scene,
    Suite,
)
from robustmix.evaluation.suites.attack_rows import (
    check_threat,
    headline_radius,
    only_first_note,
    parse_eps,
    scored,
)
from robustmix.evaluation.suites.surrogate import open_surrogate
from robustmix.later import RobustModel
from robustmix.metrics.consistency import expected_overlap, kappa
from robustmix.metrics.definition import Definition, Numbers, share
from robustmix.metrics.scores import BoolArray, IntArray
from robustmix.report.rows import Rows
from robustmix.report.schema import Shown, SuitePart, TablePart, Warn
from robustmix.rng import sample_keys
from robustmix.types import Model

Maker = Literal["pgd", "mifgsm", "none"]

MODEL = "model"
"""What the evaluated model is called among the others."""

MOST_STEPS = 10_000
MOST_OTHERS = 20
"""Models make and judge images by pairs: the square of their number."""

ERROR = "transfer_error"
"""The number of a condition ``MADE_ON/SCORED_BY``."""


@dataclass(frozen=True, kw_only=True)
class OtherModel:
    """What a report records of another model."""

    name: str
    """``other1``, ``other2``, ... in the order they were given."""

    arch: str
    source: str
    """Name of its file, without the folder, or of its architecture."""

    sha256: str | None
    """Of its file."""

    state_sha256: str
    """Of its parameters and buffers."""

    notes: tuple[str, ...] = ()
    """What to warn of, each beginning with its code."""


@dataclass(frozen=True, kw_only=True)
class PreparedAgreement(Prepared):
    """The other models, and how images are made that fool one."""

    kind: ClassVar[str] = "agreement"

    others: tuple[OtherModel, ...]
    transfer_by: Maker
    norm: Norm
    eps: Fraction
    steps: int
    notes: tuple[str, ...] = ()

    @property
    def _names(self) -> list[str]:
        return [MODEL, *(one.name for one in self.others)]

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        """Which model images are made on, and which is shown them; none without an attack."""
        if self.transfer_by == "none":
            return []
        return [(made, shown) for made in self._names for shown in self._names]

    def passes(self, n: int) -> Passes:
        """Count a pass of each other model over the clean images, the attacks, and their judges.

        Passes of all models are counted alike.
        """
        others, models = len(self.others), len(self._names)
        conditions = others + len(self._pairs)
        if self.transfer_by == "none":
            return Passes(conditions, others * n, 0)
        # An attack looks at where it stands after each step, and once before the first.
        forwards = others + models * (self.steps + 1 + models)
        return Passes(conditions, forwards * n, models * self.steps * n)

    def numbers(self, rows: Rows) -> Numbers:
        """Define how each other model agrees with the evaluated one, then how errors transfer."""
        numbers: Numbers = {}
        for one in self.others:
            pair = _Pair(rows, one.name)
            numbers |= {
                (one.name, name): partial(define, pair) for name, define in AGREEMENTS.items()
            }
        for made, shown in self._pairs:
            numbers[f"{made}/{shown}", ERROR] = partial(_transfer, rows, made, shown)
        return numbers

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Tabulate the models and the matrix, and warn of models that cannot be meant."""
        under = {condition.name: condition.metrics for condition in numbers.conditions}
        models: list[list[JsonValue]] = [
            [
                one.name,
                one.arch,
                one.source,
                under[one.name]["acc_other"].value,
                under[one.name]["error_consistency"].value,
                one.state_sha256[:12],
            ]
            for one in self.others
        ]
        tables = [
            TablePart(
                name="models",
                caption="The other models: accuracy, and error consistency with the evaluated one",
                columns=["model", "architecture", "source", "accuracy", "consistency", "weights"],
                rows=models,
                units={"accuracy": "fraction", "consistency": "score"},
            )
        ]
        if self._pairs:
            matrix: list[list[JsonValue]] = [
                [made, *(under[f"{made}/{shown}"][ERROR].value for shown in self._names)]
                for made in self._names
            ]
            tables.append(
                TablePart(
                    name="transfer",
                    caption="Errors on images made on the model of the row, shown to that of the "
                    "column, among images that both classify right",
                    columns=["made on", *self._names],
                    rows=matrix,
                    units=dict.fromkeys(self._names, "fraction"),
                )
            )
        notes = [*self.notes, *(note for one in self.others for note in one.notes)]
        for one in self.others:
            accuracy = under[one.name]["acc_other"].value or 0.0
            if accuracy < 2 / rows.num_classes:
                notes.append(
                    f"W-AGREEMENT: {one.name} is right on {accuracy:.1%} of the images, hardly "
                    "more than chance: see whether its classes are in this order and its "
                    "normalisation is right"
                )
        return Found(tables=tables, notes=notes)

    def shown(self, part: SuitePart) -> Shown:
        """Show consistency and agreement, and what transfers to and from the evaluated model."""
        first = [
            f"{name}[{one.name}]"
            for one in self.others
            for name in ("error_consistency", "agreement")
        ]
        moved = [
            f"{ERROR}[{condition}]"
            for one in self.others
            if self._pairs
            for condition in (f"{one.name}/{MODEL}", f"{MODEL}/{one.name}")
        ]
        how = f"; {self.transfer_by}, {self.norm}, eps {exact_name(self.eps)}, {self.steps} steps"
        return Shown(
            headline=[*first, *moved],
            compared=[*first, *moved],
            note=", ".join(f"{one.name}: {one.source}" for one in self.others)
            + how * bool(self._pairs),
            section="Agreement with other models",
            drawings=["transfer-matrix"] if self._pairs else [],
        )

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        """Warn of models that are no others, or were meant for other images."""
        notes = [note.partition(": ") for note in parts[key].notes]
        return [Warn(code=code, suite=key, message=text) for code, _, text in notes]

    def forecast_note(self) -> str:
        """Name the other models."""
        return ", ".join(f"{one.name}: {one.arch} ({one.source})" for one in self.others)


class _Pair:
    """The answers of the evaluated model and of another one to the same images."""

    def __init__(self, rows: Rows, name: str) -> None:
        self.classes = rows.num_classes
        self.pred: tuple[IntArray, IntArray] = (
            rows.clean("pred").astype(np.int64),
            rows.column(name, "pred")[0].astype(np.int64),
        )
        self.right: tuple[BoolArray, BoolArray] = (
            rows.clean("correct") == 1,
            rows.column(name, "correct")[0] == 1,
        )

    @property
    def wrong(self) -> BoolArray:
        """Where both are wrong."""
        return ~self.right[0] & ~self.right[1]

    def consistency(self) -> Definition:
        """Define the error consistency."""
        own, other = (of.astype(np.int64) for of in self.right)
        return kappa(
            own,
            other,
            2,
            note="Cohen's kappa of being right: 1 the same errors, 0 as by chance",
            reason="both models are right, or both wrong, on all images",
        )

    def expected(self) -> Definition:
        """Define the error overlap that the two accuracies make by chance."""
        own, other = (of.astype(np.int64) for of in self.right)
        note = "of models with these accuracies whose errors are independent"
        return expected_overlap(own, other, 2, note=note)

    def overlap(self) -> Definition:
        """Define the share of images on which both are right or both are wrong."""
        return _neither(self.right[0] == self.right[1], "both right or both wrong")

    def agreement(self) -> Definition:
        """Define the share of images with one prediction."""
        return _neither(self.pred[0] == self.pred[1], "share of images with the same prediction")

    def kappa(self) -> Definition:
        """Define Cohen's kappa of the predictions."""
        return kappa(
            *self.pred,
            self.classes,
            note="of the predicted classes",
            reason="both models predict one class alone",
        )

    def accuracy(self) -> Definition:
        """Define the accuracy of the other model."""
        return _neither(self.right[1], "accuracy of the other model")

    def both_wrong(self) -> Definition:
        """Define the share of images that both get wrong."""
        return _neither(self.wrong, "share of images")

    def only_model_wrong(self) -> Definition:
        """Define the share of images that the evaluated model alone gets wrong."""
        return _neither(~self.right[0] & self.right[1], "share of images")

    def only_other_wrong(self) -> Definition:
        """Define the share of images that the other model alone gets wrong."""
        return _neither(self.right[0] & ~self.right[1], "share of images")

    def same_error(self) -> Definition:
        """Define the share of one wrong class among the images that both get wrong."""
        return share(
            self.pred[0] == self.pred[1],
            direction="neither",
            within=self.wrong,
            note="share of the same wrong prediction among the images that both get wrong",
            reason="no image that both get wrong",
        )


AGREEMENTS = {
    "acc_other": _Pair.accuracy,
    "agreement": _Pair.agreement,
    "kappa": _Pair.kappa,
    "error_overlap": _Pair.overlap,
    "error_overlap_by_chance": _Pair.expected,
    "error_consistency": _Pair.consistency,
    "both_wrong": _Pair.both_wrong,
    "only_model_wrong": _Pair.only_model_wrong,
    "only_other_wrong": _Pair.only_other_wrong,
    "same_error": _Pair.same_error,
}
"""Name of a number of two models -> its definition."""


def _neither(hits: BoolArray, note: str) -> Definition:
    return share(hits, direction="neither", note=note)


def _right_of(rows: Rows, name: str) -> BoolArray:
    """Tell where a model classifies the clean image right, (n,)."""
    found = rows.clean("correct") if name == MODEL else rows.column(name, "correct")[0]
    return np.asarray(found == 1)


def _transfer(rows: Rows, made: str, shown: str) -> Definition:
    """Define the error of one model on images made on another, among those both get right."""
    condition = f"{made}/{shown}"
    told = "on images that both classify right"
    if made == shown:
        told = "white box, on images that it classifies right"
    return share(
        rows.column(condition, "correct")[0] == 0,
        direction="lower" if shown == MODEL else "neither",
        within=_right_of(rows, made) & _right_of(rows, shown),
        note=f"error {told}",
        reason="no image that both classify right",
    )


@dataclass(frozen=True, kw_only=True)
class OpenedAgreement(PreparedAgreement):
    """With the models."""

    networks: tuple[RobustModel, ...] = unrecorded(())

    def parts(self, context: Context) -> list[Part]:
        """List a pass of all other models over the clean images, and one a model that is fooled."""
        models = {MODEL: context.model, **self._asked(context)}
        names = tuple(one.name for one in self.others)
        parts = [Part("clean", names, partial(_answers, context, models, names))]
        for made in dict.fromkeys(made for made, _ in self._pairs):
            conditions = tuple(f"{made}/{shown}" for shown in models)
            work = partial(self._fooled, context, models, made)
            parts.append(Part(f"made-on-{made}", conditions, work))
        return parts

    def _asked(self, context: Context) -> dict[str, Model]:
        """Give the other models, the answer to an image the same in every batch."""
        from robustmix.models.robust_model import padded

        found = {}
        for one, network in zip(self.others, self.networks, strict=True):
            there = network.to(context.device).in_precision(context.robust.precision)
            found[one.name] = padded(there)
        return found

    def _fooled(
        self, context: Context, models: Mapping[str, Model], made: str, batch: Batch
    ) -> Mapping[str, Columns]:
        images, eps = batch.pixels(), float(self.eps)
        keys = sample_keys(context.seed, "agreement", made, 0, batch.sample_ids)
        # Through its entry: one of the two takes linf alone.
        outcome = find_attack(self.transfer_by).outcome(
            models[made],
            images,
            batch.labels,
            eps=eps,
            norm=self.norm,
            steps=self.steps,
            keys=keys,
        )
        # The last iterate: the first that fools the maker transfers less.
        last = outcome.last
        assert last is not None, "both attacks know their last iterate"
        doubts, found = Doubts(), {}
        for shown, model in models.items():
            rows = scored(model, batch, images, last, norm=self.norm, eps=eps, doubts=doubts)
            found[f"{made}/{shown}"] = {"logits": rows["logits"]}
        doubts.settle()
        return found


def _answers(
    context: Context, models: Mapping[str, Model], names: Sequence[str], batch: Batch
) -> Mapping[str, Columns]:
    images = batch.pixels()
    with context.scoring():
        return {name: {"logits": models[name](images)} for name in names}


@dataclass(frozen=True, kw_only=True)
class Agreement(Suite):
    """Whether other models make the same mistakes, and are fooled by the same images."""

    recorded: ClassVar[type[Prepared]] = PreparedAgreement

    other: tuple[str | Path | RobustModel, ...] = option((), form="MODEL,...", shown="none")
    """Other models of the same task: checkpoints, or names such as timm:resnet50."""

    transfer_by: Maker = "pgd"
    """Attack that makes images on each model, which all models are then shown: its last iterate
    after all steps. none: without."""

    norm: Norm = "linf"
    """Norm of that attack: linf or l2."""

    eps: tuple[Fraction, ...] | None = option(
        None, parse=parse_eps, form="8/255", shown="8/255, in l2 1/2"
    )
    """Its radius in [0, 1] pixel units; of several the first."""

    steps: int = 10
    """Its gradient steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.transfer_by not in get_args(Maker):
            raise unknown_name("attack", self.transfer_by, get_args(Maker), code="E-CHOICE")
        check_threat(self.norm, self.eps or ())
        headline_radius(self.norm, self.eps)
        if not 1 <= self.steps <= MOST_STEPS:
            raise UsageError(
                f"expected --steps from 1 to {MOST_STEPS:,}, got {self.steps}", code="E-STEPS"
            )
        if self.transfer_by != "none" and self.norm not in attack_norms(self.transfer_by):
            raise UsageError(
                f"{self.transfer_by} is an attack in linf, not {self.norm}",
                "write --transfer-by pgd, or another --norm",
                code="E-NORM",
            )

    def prepare(self, scene: Scene) -> OpenedAgreement:
        """Load the other models.

        Raises:
            UsageError: none or too many are named, or one is of another task.
            IntakeError: one cannot be loaded, or has other classes or another order of them.
        """
        if not 1 <= len(self.other) <= MOST_OTHERS:
            raise UsageError(
                "no other model is named"
                if not self.other
                else f"{len(self.other)} other models are too many",
                f"add --other CKPT, or up to {MOST_OTHERS} with commas between",
                code="E-OTHER",
            )
        networks = tuple(open_surrogate(one, scene, called="other model") for one in self.other)
        return OpenedAgreement(
            others=_described(networks, scene),
            transfer_by=self.transfer_by,
            norm=self.norm,
            eps=headline_radius(self.norm, self.eps),
            steps=self.steps,
            notes=tuple(
                f"W-AGREEMENT: {note}"
                for note in only_first_note(
                    headline_radius(self.norm, self.eps), (self.eps or ())[1:]
                )
            ),
            networks=networks,
        )


def _described(networks: Sequence[RobustModel], scene: Scene) -> tuple[OtherModel, ...]:
    from robustmix.models.checks import state_hash

    own = state_hash(scene.robust)
    tested = scene.robust.info.test_transform
    known = {own: "the evaluated model itself"}
    found = []
    for number, network in enumerate(networks, 1):
        info, state, name = network.info, state_hash(network), f"other{number}"
        notes = []
        if state in known:
            notes.append(f"W-AGREEMENT: {name} is {known[state]}, weight for weight")
        known.setdefault(state, name)
        if info.test_transform not in (None, tested):
            notes.append(f"W-AGREEMENT: {name} was tested on images {info.test_transform}")
        for said in info.notes:
            code, _, text = said.partition(": ")
            notes.append(f"{code}: {name}: {text}")
        found.append(
            OtherModel(
                name=name,
                arch=info.arch,
                source=info.source,
                sha256=info.sha256,
                state_sha256=state,
                notes=tuple(notes),
            )
        )
    return tuple(found)
