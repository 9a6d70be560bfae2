"""Suite ``corruption``: accuracy under the common corruptions, official files or generated."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from robustmix.corruptions import (
    APPROXIMATE,
    CORRUPTIONS,
    EXTRA,
    GENERATOR_VERSION,
    GROUPS,
    MAIN,
    NAMES,
    PROFILES,
    SEVERITIES,
    canonical_name,
    choose_profile,
    corrupt,
    frost,
)
from robustmix.corruptions.names import Profile
from robustmix.corruptions.writer import read_record
from robustmix.data.images import ImageSet
from robustmix.errors import UsageError
from robustmix.evaluation.held_out import HeldOut
from robustmix.evaluation.options import option
from robustmix.evaluation.params import recorded, unrecorded
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
from robustmix.evaluation.suites.calibration import PreparedCalibration, clean_temperatures
from robustmix.evaluation.suites.official import (
    CorruptedFiles,
    as_stored,
    benchmark_name,
    official_folder,
    open_official,
)
from robustmix.later import Tensor, torch
from robustmix.metrics.corrupted import SCALED, Corrupted, spread
from robustmix.metrics.definition import Numbers, absent
from robustmix.metrics.mce import MceReference, load_reference, mce, relative_mce, source_name
from robustmix.metrics.scores import FloatArray, score_logits
from robustmix.report.rows import Rows
from robustmix.report.schema import Shown, SuitePart, Warn
from robustmix.tables import Origin

TWO_FOLD = "two-fold on the clean images"

_SETS: dict[str, tuple[str, ...]] = {"main": MAIN, "extra": EXTRA, "all": NAMES}


def select_corruptions(names: str | Sequence[str]) -> tuple[str, ...]:
    """Give canonical names for ``main``, ``extra``, ``all``, single names, or several with commas.

    ``all`` is the benchmark's 19, whatever else is registered.

    Raises:
        UsageError: a name is unknown, or there is none.

    Example:
        >>> select_corruptions("jpeg,fog")
        ('fog', 'jpeg_compression')
    """
    chosen: set[str] = set()
    for name in filter(None, (name.strip() for name in _listed(names).split(","))):
        chosen |= {*_SETS[name]} if name in _SETS else {canonical_name(name)}
    if not chosen:
        raise UsageError("no corruption was named", "give --corruptions main|extra|all|NAMES")
    return tuple(name for name in CORRUPTIONS if name in chosen)


def _listed(names: str | Sequence[str]) -> str:
    return names if isinstance(names, str) else ",".join(names)


def parse_severities(text: str) -> tuple[int, ...]:
    """Read severities from ``1,3`` or ``1-5``.

    Raises:
        UsageError: they are not 1 to 5.

    Example:
        >>> parse_severities("1-3,5")
        (1, 2, 3, 5)
    """
    found: list[int] = []
    for item in text.split(","):
        first, dash, last = (end.strip() for end in item.partition("-"))
        ends = [first, last] if dash else [first]
        # Before any range is made of them: 1-99999999 fills the memory.
        if any(end not in map(str, SEVERITIES) for end in ends):
            raise _no_severity(item)
        found += range(int(ends[0]), int(ends[-1]) + 1)
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class PreparedCorruption(Prepared):
    """The corruptions, and where their images come from."""

    kind: ClassVar[str] = "corruption"

    requested: str
    """The corruptions as they were asked for."""

    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    """Rising."""

    source: Literal["official", "generated"]
    profile: str | None
    """Severity constants of generated images: cifar, tiny or imagenet."""

    generator_version: str | None
    frost: Literal["procedural", "photographs"] | None
    """What generated frost is made with, if there is any."""

    paired: bool
    """Whether the corrupted images are the clean ones, corrupted; only Tiny-ImageNet-C's are not.
    """

    mce_reference: MceReference | None
    temperature: str = TWO_FOLD
    """Where the temperature that logits are scaled with comes from."""

    foreign_groups: tuple[tuple[str, str], ...] = recorded((), omit_default=True)
    """Corruptions that are not of the benchmark, each with its group."""

    nearest_to: tuple[int, int] | None = recorded(None, omit_default=True)
    """Height and width of images that no profile is made for, where the nearest stands in."""

    def __post_init__(self) -> None:
        _check_severities(self.severities)

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """The corruptions by groups, in the order of the benchmark."""
        members = {group: set(names) for group, names in GROUPS.items()}
        for name, group in self.foreign_groups:
            members.setdefault(group, set()).add(name)
        found = {k: tuple(n for n in self.corruptions if n in of) for k, of in members.items()}
        return {group: names for group, names in found.items() if names}

    @property
    def approximate(self) -> list[str]:
        """The corruptions that a substitute stands in for."""
        if self.frost != "procedural":
            return []
        return [name for name in self.corruptions if name in APPROXIMATE]

    def foreign(self) -> list[tuple[str, str, Origin | None]]:
        """List the corruptions with their origins."""
        return [("corruption", name, CORRUPTIONS.origin(name)) for name in self.corruptions]

    def passes(self, n: int) -> Passes:
        """Count one pass a corruption and severity."""
        conditions = len(self.corruptions) * len(self.severities)
        return Passes(conditions, conditions * n, 0)

    def numbers(self, rows: Rows) -> Numbers:
        """Define means over all conditions, then every condition, then means over some."""
        data = Corrupted(rows, self.paired)
        numbers: Numbers = {}
        for key, names in self._sets().items():
            suffix = f"_{key}{'_subset' if rows.subset or not self._complete else ''}"
            numbers |= data.means(names, self.severities, suffix)
        numbers |= self._mce_numbers(data)
        for corruption in self.corruptions:
            for severity in self.severities:
                numbers |= data.condition(corruption, severity)
        for condition, names, severities in self._selections():
            numbers[condition, "acc_mean"] = partial(data.accuracy, names, severities)
        return numbers

    @property
    def _complete(self) -> bool:
        return self.severities == SEVERITIES

    def _sets(self) -> dict[str, tuple[str, ...]]:
        """Name the sets that means are taken over, and none that would mislead."""
        chosen = set(self.corruptions)
        sets = {key: of for key, of in (("main15", MAIN), ("all19", NAMES)) if set(of) <= chosen}
        if chosen not in map(set, sets.values()):
            sets[f"selected{len(chosen)}"] = self.corruptions
        return sets

    def _selections(self) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
        every, severities = self.corruptions, self.severities
        groups = sorted(self.groups.items())
        return [
            *((f"groups:{group}", names, severities) for group, names in groups),
            *((f"by_severity:{s}", every, (s,)) for s in severities),
            *((f"by_corruption:{name}", (name,), severities) for name in sorted(every)),
        ]

    def _mce_numbers(self, data: Corrupted) -> Numbers:
        reference, n = self.mce_reference, data.rows.n
        if reference is None:
            reason = (
                "no reference errors were named, and there are none of CIFAR-C (--mce-reference)"
            )
        elif not set(MAIN) <= set(self.corruptions) or not self._complete:
            reason = "it takes all 15 main corruptions at all severities"
        else:

            def wrong() -> dict[str, FloatArray]:
                return {name: 1 - data.right((name,), SEVERITIES) for name in MAIN}

            return {
                ("", "mce"): lambda: mce(wrong(), reference),
                ("", "relative_mce"): lambda: relative_mce(
                    wrong(), 1 - data.clean, reference, paired=self.paired
                ),
            }
        none = partial(absent, n, reason, direction="lower", unit="percent")
        return {("", "mce"): none, ("", "relative_mce"): none}

    def found(self, rows: Rows, numbers: SuitePart) -> Found:
        """Report where the images come from, the worst condition, and the spread of errors."""
        under = {condition.name: condition.metrics for condition in numbers.conditions}

        def value(name: str, severity: int, metric: str) -> float:
            return under[f"{name}/{severity}"][metric].value or 0.0

        every = [(name, severity) for name in self.corruptions for severity in self.severities]
        name, severity = min(every, key=lambda at: value(at[0], at[1], "acc"))
        endings = Corrupted(rows, self.paired).endings
        temperature = (
            clean_temperatures(rows.view, rows.seed, rules=rows.rules)
            if SCALED in endings
            else None
        )
        spreads = {
            str(s): {
                metric: spread([value(corruption, s, metric) for corruption in self.corruptions])
                for metric in (f"{stem}{end}" for stem in ("ece_15", "gap") for end in endings)
            }
            for s in self.severities
        }
        said = ("source", "profile", "generator_version", "frost", "paired")
        details: dict[str, Any] = {field: getattr(self, field) for field in said} | {
            "corruptions": list(self.corruptions),
            "severities": list(self.severities),
            "approximate": self.approximate,
            "complete": self._complete,
            "worst": {
                "corruption": name,
                "severity": severity,
                "acc": value(name, severity, "acc"),
            },
            "calibration": {
                "temperature": None if temperature is None else temperature[1],
                "by_severity": spreads,
            },
        }
        return Found(details=details, notes=[self._stand_in] if self._stand_in else [])

    @property
    def _stand_in(self) -> str:
        if self.nearest_to is None:
            return ""
        height, width = self.nearest_to
        return f"profile {self.profile}, the nearest to {height}x{width} pixels"

    def shown(self, part: SuitePart) -> Shown:
        """Show the mean accuracies, of the groups too; the gate watches the largest set's."""
        # By name, as the keys of a file are: a part says the same before and after it is saved.
        means = sorted(name for name in part.metrics if name.startswith("acc_mean"))
        errors = [name.replace("acc_mean", "ece_15_mean") for name in means]
        notes = [self.source, f"{len(self.corruptions)} corruptions", self._stand_in]
        if self.approximate:
            notes.append(f"{' and '.join(self.approximate)} approximate")
        return Shown(
            headline=[*means, *(f"acc_mean[groups:{group}]" for group in sorted(self.groups))],
            compared=[*means, *errors],
            # All 19 hold the 15: gating both would test the same images twice.
            gated=sorted(means, key=lambda n: ("all19" not in n, "main15" not in n, n))[:1],
            note=", ".join(filter(None, notes)),
            section="Corruptions",
            drawings=["heatmap"],
        )

    def warnings(self, key: str, parts: Mapping[str, SuitePart]) -> list[Warn]:
        """Warn of frost that is not the benchmark's."""
        if not parts[key].details.get("approximate"):
            return []
        return [
            Warn(
                code="W-FROST-SUBSTITUTE",
                suite=key,
                message="frost was made with textures that stand in for the photographs of the "
                "benchmark (--frost-dir); compare neither it nor means that hold it with published "
                "figures",
            )
        ]

    def forecast_note(self) -> str:
        """Say whether the images are the official ones."""
        return f"{self.source} images"


@dataclass(frozen=True, kw_only=True)
class OpenedCorruption(PreparedCorruption):
    """With the files that the images are read from or made with."""

    files: CorruptedFiles | None = unrecorded()
    """The official files; None where the images are generated."""

    frost_dir: Path | None = unrecorded()
    """Folder of the benchmark's frost pictures; without it generated frost is a substitute."""

    def parts(self, context: Context) -> list[Part]:
        """List one pass a corruption and severity."""
        # Fitted when it is first needed: a run that is resumed may have no image left to score.
        temperature = cache(partial(_temperature, context))
        return [
            Part(
                f"{name}-{severity}",
                (f"{name}/{severity}",),
                partial(self._rows, context, temperature, name, severity),
            )
            for name in self.corruptions
            for severity in self.severities
        ]

    def _rows(
        self,
        context: Context,
        temperature: Callable[[], FloatArray | None],
        name: str,
        severity: int,
        batch: Batch,
    ) -> Mapping[str, Columns]:
        stored = as_stored(context.data.pixels)
        if self.files is None:
            clean = stored.pixels.take(batch.indices)
            images = corrupt(
                clean.cpu() if clean.device.type == "mps" else clean,  # it has no float64
                name,
                severity,
                seed=context.seed,
                sample_ids=batch.sample_ids,
                profile=self.profile,
                frost_dir=self.frost_dir,
            )
        else:
            images = self.files.take(name, severity, context.official[batch.indices])
        with context.scoring():
            logits = context.model(to_unit(stored.enlarge(images).to(context.device)))
        scaled = _scaled(temperature(), batch, logits)
        return {f"{name}/{severity}": {"logits": logits, **scaled}}


@dataclass(frozen=True, kw_only=True)
class Corruption(Suite):
    """Accuracy under the common corruptions at severities 1 to 5, and calibration under them."""

    recorded: ClassVar[type[Prepared]] = PreparedCorruption

    corruptions: str | tuple[str, ...] = option("all", form="main|extra|all|NAMES")
    """The benchmark's main 15, extra 4, all 19, or names with commas between."""

    severity: tuple[int, ...] = option(SEVERITIES, parse=parse_severities, form="N,...|LOW-HIGH")
    """Severities of corruptions, e.g. 1,3,5 or 1-5."""

    corruption_source: Literal["auto", "official", "generate"] = "auto"
    """official reads the released files, generate makes the images, auto prefers files."""

    profile: str | None = option(
        None, form="|".join(PROFILES), shown="of the nearest size to the images'"
    )
    """Severity constants of generated corruptions."""

    frost_dir: Path | None = option(None, form="FOLDER")
    """The benchmark's frost pictures; without them generated frost is a substitute."""

    mce_reference: str | None = option(None, form="alexnet|REPORT")
    """Model whose errors mCE divides by; without it there is no mCE."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_severities(self.severity)
        select_corruptions(self.corruptions)
        if self.profile is not None:
            choose_profile(self.profile, 0, 0)

    def prepare(self, scene: Scene) -> OpenedCorruption:
        """Decide the source, open its files and read the reference.

        Raises:
            UsageError: official files were asked for that are not there, or see
                ``load_reference``.
            IntakeError: files are missing, damaged or not of these images; see ``open_official``.
            IncompatibleError: see ``load_reference``.
        """
        data, names = scene.data, select_corruptions(self.corruptions)
        severities = tuple(sorted(set(self.severity)))
        folder = self._official(official_folder(data, scene.folder), names)
        generated = folder is None
        frost_dir = self.frost_dir if generated else None
        height, width = as_stored(data.pixels).pixels.size[1:]
        nearest = nearest_profile(height, width)
        fits = self.profile is not None or height == width == PROFILES[nearest]
        profile = self.profile or nearest if generated else None
        self._refuse_unused(generated, names)
        pictures: Literal["procedural", "photographs"] | None = None
        if generated and "frost" in names:
            pictures = "procedural" if frost_dir is None else "photographs"
        if frost_dir is not None and "frost" in names:
            frost.photographs(frost_dir, frost.SCALE[choose_profile(profile, 0, 0)])
        files = None if folder is None else open_official(folder, data, names, severities)
        return OpenedCorruption(
            requested=_listed(self.corruptions),
            corruptions=names,
            severities=severities,
            source="generated" if generated else "official",
            profile=profile,
            generator_version=GENERATOR_VERSION if generated else None,
            frost=pictures,
            paired=files is None or files.paired,
            mce_reference=self._reference(data, generated, frost_dir is not None),
            temperature=_fitted_to(scene.prepared.get("calibration")),
            foreign_groups=_foreign_groups(names),
            nearest_to=None if fits or not generated else (height, width),
            files=files,
            frost_dir=frost_dir,
        )

    def _refuse_unused(self, generated: bool, names: Sequence[str]) -> None:
        """Refuse options that would change nothing."""
        for flag, given in (("--profile", self.profile), ("--frost-dir", self.frost_dir)):
            if given is not None and not generated:
                raise UsageError(
                    f"{flag} is of generated images, and these are the released ones",
                    f"add --corruption-source generate, or leave {flag} out",
                    code="E-UNUSED-OPTION",
                )
        if self.frost_dir is not None and "frost" not in names:
            raise UsageError(
                "--frost-dir is of frost, which is not among the corruptions",
                "add frost to --corruptions, or leave --frost-dir out",
                code="E-UNUSED-OPTION",
            )

    def _official(self, folder: Path | None, names: Sequence[str]) -> Path | None:
        """Give the folder to read from; None if the images are to be made."""
        foreign = [name for name in names if name not in NAMES]
        # No released files hold those of others, and all images of a suite are of one source: auto
        # must not make fog anew, only because something else was asked for beside it.
        alone = self.corruption_source == "auto" and len(foreign) == len(names)
        if self.corruption_source == "generate" or alone:
            return None
        if folder is not None and read_record(folder) is not None:
            if self.corruption_source == "official":
                raise UsageError(
                    f"{folder} holds files that robustmix generated, not the released ones",
                    "use --corruption-source generate: the same seed gives the same images",
                    code="E-CORRUPTION-SOURCE",
                )
            return None
        if self.corruption_source == "official" and folder is None:
            raise UsageError(
                "there are no official corruption files for this data set in the data folder",
                "use --corruption-source generate, or unpack CIFAR-10-C, CIFAR-100-C, "
                "Tiny-ImageNet-C or ImageNet-C there",
                code="E-CORRUPTION-SOURCE",
            )
        if folder is not None and foreign:
            raise UsageError(
                f"{folder} holds the benchmark's corruptions, and {foreign[0]} is none of them",
                f"give --corruption-source generate, or --corruptions {foreign[0]} by itself",
                code="E-CORRUPTION-SOURCE",
            )
        return folder

    def _reference(self, data: ImageSet, generated: bool, photographs: bool) -> MceReference | None:
        if self.mce_reference is None:
            return None
        return load_reference(
            self.mce_reference,
            data.name,
            known_as=benchmark_name(data),
            source=source_name(generated=generated, photographs=photographs),
        )


def _check_severities(severities: Sequence[int]) -> None:
    wrong = [severity for severity in severities if severity not in SEVERITIES]
    if wrong or not severities:
        raise _no_severity(wrong[0] if wrong else "none")


def _no_severity(what: object) -> UsageError:
    return UsageError(
        f"severities are 1 to 5, got {str(what)[:40]}", "write 1,3,5 or 1-5", code="E-SEVERITY"
    )


def nearest_profile(height: int, width: int) -> Profile:
    """Name the severity constants for images of the nearest size, by the ratio of their sides.

    Example:
        >>> nearest_profile(28, 28), nearest_profile(96, 96), nearest_profile(299, 299)
        ('cifar', 'tiny', 'imagenet')
    """
    side = math.sqrt(height * width)
    return min(PROFILES, key=lambda name: abs(math.log(side / PROFILES[name])))


def _foreign_groups(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Give the groups of corruptions that are not of the benchmark, which are imported here."""
    foreign = [name for name in names if name not in NAMES]
    # One that cannot be imported is refused before any work, not in the middle of it.
    return tuple((CORRUPTIONS[name].name, CORRUPTIONS.row(name).group) for name in foreign)


def _fitted_to(calibration: Prepared | None) -> str:
    """Say which images the temperature was fitted to that logits are scaled with."""
    if isinstance(calibration, PreparedCalibration):
        split = calibration.temperature
        if isinstance(split, HeldOut):
            return f"held-out: {split.source}, content {split.content_sha256}"
    return TWO_FOLD


def _temperature(context: Context) -> FloatArray | None:
    """Give the temperature of each sample, fitted on clean samples of which it is not one, (n,)."""
    found = clean_temperatures(context.record, context.seed)
    if found is None:
        return None
    covered = slice(None) if context.positions is None else context.positions.numpy()
    return np.asarray(found[0][covered])


def _scaled(temperature: FloatArray | None, batch: Batch, logits: Tensor) -> Columns:
    """Score what the calibrated model says of the samples, if there is a temperature."""
    if temperature is None:
        return {}
    scores = score_logits(
        logits,
        batch.labels,
        sample_ids=batch.sample_ids,
        temperature=temperature[batch.indices.numpy()],
    )
    return {
        f"{name}{SCALED}": torch.from_numpy(getattr(scores, name).astype(np.float32))
        for name in ("confidence", "nll", "brier")
    }
