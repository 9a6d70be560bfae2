"""Suite ``perturbation``: how often the answer changes while an image changes little by little."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np

from robustmix.corruptions.cifar_c import CLASSES
from robustmix.corruptions.folder_c import SIDES
from robustmix.data.perturbed.arrays import ArraySequences
from robustmix.data.perturbed.films import FilmSequences
from robustmix.data.perturbed.names import (
    COUNTED,
    DIFFICULTIES,
    FOLDERS,
    all_names,
    is_noise,
)
from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.evaluation.options import option
from robustmix.evaluation.params import unrecorded
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
    to_unit,
)
from robustmix.evaluation.suites.official import as_stored, benchmark_name
from robustmix.later import Tensor, torch
from robustmix.metrics.definition import Definition, Numbers, absent, mean
from robustmix.metrics.metric import Unit
from robustmix.metrics.perturbed import (
    DEPTH,
    FlipReference,
    distances,
    flips,
    load_flip_reference,
    missing_figures,
)
from robustmix.metrics.scores import check_finite
from robustmix.report.rows import Rows, damaged
from robustmix.report.schema import Shown, SuitePart, TablePart

READ_BYTES = 2**27
"""Pictures of so many bytes are in memory at once."""


class Sequences(Protocol):
    """What the readers of both forms share."""

    def pictures(self, name: str) -> int:
        """Give how many pictures a sequence has."""
        ...

    def take(self, name: str, indices: Tensor) -> Tensor:
        """Read sequences uint8 (n, pictures, 3, H, W)."""
        ...


@dataclass(frozen=True, kw_only=True)
class PreparedPerturbation(Prepared):
    """The perturbations and what their pictures are compared with."""

    kind: ClassVar[str] = "perturbation"

    dataset: str
    """As benchmarks call it; it decides which perturbations count."""

    perturbations: tuple[str, ...]
    pictures: tuple[int, ...]
    """Pictures of a sequence of each, as they were found."""

    difficulty: int
    distance: bool
    """Whether there are enough classes for a top-5 distance."""

    reference: FlipReference | None

    def passes(self, n: int) -> Passes:
        """Count one pass a picture."""
        return Passes(len(self.perturbations), n * sum(self.pictures), 0)

    def check(self, rows: Rows) -> None:
        """Refuse rows that no sequence can have.

        Raises:
            IntakeError: the record is damaged.
        """
        most = {"flips": 1.0} | ({"distance": 15.0} if self.distance else {})
        for name in self.perturbations:
            for column, largest in most.items():
                values = rows.column(name, column)
                if values.min() < 0 or values.max() > largest:
                    raise damaged(f"{column} of {name} are not in 0 to {largest:g}")

    @property
    def _absent(self) -> str | None:
        lacking = [one for one in COUNTED[self.dataset] if one not in self.perturbations]
        if not lacking:
            return None
        return f"it takes all ten that count; {lacking[0]} was not run"

    def numbers(self, rows: Rows) -> Numbers:
        """Define the means over the ten that count, the rates if there is a reference, then each.

        The mean over perturbations is taken sequence by sequence first, for those of one image are
        not independent.
        """
        numbers: Numbers = {
            ("", "mfp"): partial(self._mean, rows, "flips", "fraction"),
            ("", "mut5d"): partial(self._mean, rows, "distance", "score"),
            ("", "mfr"): partial(self._rate, rows, "flips", "fp"),
            ("", "mt5d"): partial(self._rate, rows, "distance", "ut5d"),
        }
        for name in self.perturbations:
            numbers[name, "fp"] = partial(
                rows.average, name, "flips", direction="lower", note=self._note(name)
            )
            if self.distance:
                numbers[name, "ut5d"] = partial(
                    rows.average, name, "distance", direction="lower", unit="score"
                )
        return numbers

    def _note(self, name: str) -> str:
        pictures = self.pictures[self.perturbations.index(name)]
        against = "the first" if is_noise(name) else f"that {self.difficulty} before"
        return f"{pictures} pictures, each against {against}"

    def _mean(self, rows: Rows, column: str, unit: Unit) -> Definition:
        note = f"plain mean over {len(COUNTED[self.dataset])} perturbations"
        reason = self._lacks_classes(column) or self._absent
        if reason is not None:
            return absent(rows.n, reason, direction="lower", unit=unit, note=note)
        each = [rows.mean(name, column) for name in COUNTED[self.dataset]]
        return mean(np.mean(each, axis=0), direction="lower", unit=unit, note=note)

    def _lacks_classes(self, column: str) -> str | None:
        if column == "distance" and not self.distance:
            return f"it follows the first {DEPTH} classes, and there are fewer"
        return None

    def _rate(self, rows: Rows, column: str, key: str) -> Definition:
        """Define the mean of ratios, which is not the ratio of means."""
        names, reference = COUNTED[self.dataset], self.reference
        reason = self._lacks_classes(column) or self._absent
        figures: Mapping[str, float] = {}
        if reference is None:
            reason = (
                "it divides by the reference model's figures, and none were given "
                "(--perturbation-reference)"
            )
        else:
            figures = reference.fp if key == "fp" else reference.ut5d
            if reason is None and (lacking := missing_figures(figures, names)):
                reason = f"the reference has no {key} of {lacking[0]}"
        if reason is not None:
            return absent(rows.n, reason, direction="lower", unit="percent")
        each = [100 * rows.mean(name, column) / figures[name] for name in names]
        source = "" if reference is None else reference.source
        note = f"in per cent of the reference: {source}"
        return mean(np.mean(each, axis=0), direction="lower", unit="percent", note=note)

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Tabulate the perturbations."""
        counted = COUNTED[self.dataset]
        table = TablePart(
            name="perturbations",
            caption="Flip probability and top-5 distance of each perturbation",
            columns=["perturbation", "pictures", "counts", "fp", "ut5d"],
            rows=[
                [
                    name,
                    pictures,
                    "yes" if name in counted else "no",
                    numbers.condition(name)["fp"].value,
                    numbers.condition(name)["ut5d"].value if self.distance else None,
                ]
                for name, pictures in zip(self.perturbations, self.pictures, strict=True)
            ],
            units={"fp": "fraction", "ut5d": "score"},
        )
        return Found(tables=[table])

    def shown(self, part: SuitePart) -> Shown:
        """Show the means, and the rates where there are any; the gate watches flips."""
        known = [name for name, metric in part.metrics.items() if metric.value is not None]
        names = [str(name) for name in ("mfp", "mfr", "mut5d", "mt5d") if name in known]
        each = [f"fp[{name}]" for name in self.perturbations]
        notes = [f"{len(self.perturbations)} perturbations"]
        if self.difficulty > 1:
            notes.append(f"difficulty {self.difficulty}")
        if self.reference is not None:
            notes.append(f"reference: {self.reference.source}")
        return Shown(
            headline=names or each,
            compared=names or each,
            gated=["mfp"] if "mfp" in names else each,
            note=", ".join(notes),
            section="Perturbations",
        )

    def forecast_note(self) -> str:
        """Say how many pictures there are."""
        return f"{len(self.perturbations)} perturbations, {sum(self.pictures)} pictures an image"


@dataclass(frozen=True, kw_only=True)
class OpenedPerturbation(PreparedPerturbation):
    """With the files."""

    sequences: Sequences | None = unrecorded(None)

    def parts(self, context: Context) -> list[Part]:
        """List one pass a perturbation."""
        return [
            Part(name, (name,), partial(self._rows, context, name)) for name in self.perturbations
        ]

    def _rows(self, context: Context, name: str, batch: Batch) -> Mapping[str, Columns]:
        assert self.sequences is not None, "what is read back from a report cannot work"
        stored = as_stored(context.data.pixels)
        places = context.official[batch.indices]
        size = 3 * stored.pixels.size[1] * stored.pixels.size[2] * self.sequences.pictures(name)
        found: list[Columns] = []
        for some in torch.split(places, max(1, READ_BYTES // size)):
            sequences = self.sequences.take(name, some)
            logits = _logits(context, stored.enlarge, sequences, len(batch.indices))
            # One picture of a sequence after the other; of NaN there is no prediction to compare.
            done = sum(len(one["flips"]) for one in found)
            ids = batch.sample_ids[done : done + len(some)]
            flat = logits.flatten(0, 1).numpy()
            check_finite(flat, [f"{one} ({name})" for one in ids for _ in range(logits.shape[1])])
            noise, apart = is_noise(name), self.difficulty
            columns = {"flips": flips(logits.argmax(dim=2), noise=noise, difficulty=apart)}
            if self.distance:
                columns["distance"] = distances(logits, noise=noise, difficulty=apart)
            found.append(columns)
        return {name: {key: torch.cat([one[key] for one in found]) for key in found[0]}}


def _logits(
    context: Context, enlarge: Callable[[Tensor], Tensor], sequences: Tensor, most: int
) -> Tensor:
    """Give the logits of every picture, (n, pictures, K); so many pictures a pass."""
    n, pictures = sequences.shape[:2]
    logits = []
    with context.scoring():
        for some in torch.split(sequences.flatten(0, 1), max(most, 1)):
            logits.append(context.model(to_unit(enlarge(some).to(context.device))).float().cpu())
    return torch.cat(logits).view(n, pictures, -1)


@dataclass(frozen=True, kw_only=True)
class Perturbation(Suite):
    """Flip probability on ImageNet-P or CIFAR-P: how often the answer changes in a sequence."""

    recorded: ClassVar[type[Prepared]] = PreparedPerturbation

    perturbations: str | tuple[str, ...] = option("counted", form="counted|all|NAMES")
    """The ten that means are taken over, all that were released, or names with commas between."""

    difficulty: int = option(1, form="1|2|3")
    """Pictures so far apart are compared; of noise the harder sequences are read."""

    perturbation_reference: Path | None = option(None, form="FILE")
    """Figures of the model that mFR and mT5D divide by, AlexNet by custom: JSON with source, fp and
    ut5d (and dataset, difficulty), or a report with this suite."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.difficulty not in DIFFICULTIES:
            raise UsageError(
                f"difficulties are 1 to 3, got {self.difficulty}",
                "leave --difficulty out for the usual one",
                code="E-DIFFICULTY",
            )

    def prepare(self, scene: Scene) -> OpenedPerturbation:
        """Open the files and read the reference.

        Raises:
            UsageError: there are no such sequences of this data set, or a name is unknown.
            IntakeError: files are missing, damaged or not of these images.
            IncompatibleError: the reference is of other sequences.
        """
        dataset = benchmark_name(scene.data)
        if dataset not in FOLDERS:
            raise UsageError(
                f"no sequences were made of the images of {scene.data.name}",
                f"leave the suite out; there are some of {', '.join(FOLDERS)}",
                code="E-PERTURBATION",
            )
        names = self._names(dataset)
        sequences = _open(scene, dataset, names, self.difficulty)
        reference = self.perturbation_reference
        pictures = tuple(sequences.pictures(name) for name in names)
        if min(pictures) <= self.difficulty:
            raise IntakeError(
                f"sequences of {min(pictures)} pictures are too short for difficulty "
                f"{self.difficulty}",
                "extract the released archive again",
                code="E-DATA",
            )
        return OpenedPerturbation(
            dataset=dataset,
            perturbations=names,
            pictures=pictures,
            difficulty=self.difficulty,
            distance=scene.data.num_classes >= DEPTH,
            reference=None
            if reference is None
            else load_flip_reference(reference, dataset, self.difficulty),
            sequences=sequences,
        )

    def _names(self, dataset: str) -> tuple[str, ...]:
        asked, known = self.perturbations, all_names(dataset)
        items = asked.split(",") if isinstance(asked, str) else asked
        chosen: set[str] = set()
        for name in filter(None, (item.strip() for item in items)):
            if name == "counted":
                chosen |= set(COUNTED[dataset])
            elif name == "all":
                chosen |= set(known)
            elif name in known:
                chosen.add(name)
            else:
                raise unknown_name(
                    "perturbation", name, [*known, "counted", "all"], code="E-PERTURBATION"
                )
        if not chosen:
            raise UsageError(
                "no perturbation was named",
                "give --perturbations counted|all|NAMES",
                code="E-PERTURBATION",
            )
        return tuple(name for name in known if name in chosen)


def _open(scene: Scene, dataset: str, names: Sequence[str], difficulty: int) -> Sequences:
    data = scene.data
    places = [scene.folder / place for place in FOLDERS[dataset]]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise IntakeError(
            f"there is no folder {places[0]}",
            f"extract the released {FOLDERS[dataset][0]} there",
            code="E-DATA",
        )
    small = as_stored(data.pixels).pixels
    if dataset in CLASSES:
        return ArraySequences.open(folder, names, difficulty, small)
    side = SIDES[dataset]
    if small.size != (3, side, side):
        raise IntakeError(
            f"{folder} holds pictures of {side}x{side} pixels, the clean images have "
            f"{small.size[1]}x{small.size[2]}",
            f"evaluate a model for {side} pixels",
            code="E-INPUT-SIZE",
        )
    return FilmSequences.open(
        folder,
        names,
        difficulty,
        dataset=dataset,
        class_names=data.class_names,
        labels=data.labels,
        files=[sample_id.rpartition("/")[2] for sample_id in data.sample_ids],
        side=side,
    )
