"""Suite ``corruption``: accuracy under the common corruptions, official files or generated."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor

from robustmix.corruptions import (
    APPROXIMATE,
    EXTRA,
    GENERATOR_VERSION,
    GROUPS,
    MAIN,
    NAMES,
    canonical_name,
    choose_profile,
    corrupt,
    frost,
)
from robustmix.corruptions.writer import read_record
from robustmix.data.images import ImageSet
from robustmix.errors import UsageError
from robustmix.evaluation.engine import Batch, Columns, Context, Part, to_unit
from robustmix.evaluation.suites.calibration import clean_temperatures
from robustmix.evaluation.suites.official import (
    CorruptedFiles,
    as_stored,
    benchmark_name,
    open_official,
)
from robustmix.metrics.corrupted import SCALED, Corrupted
from robustmix.metrics.mce import MceReference, load_reference, mce, source_name
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import score_logits
from robustmix.report.samples import Samples
from robustmix.report.schema import ConditionPart, CorruptionPart

Source = Literal["auto", "official", "generate"]
SEVERITIES = (1, 2, 3, 4, 5)
TWO_FOLD = "two-fold on the clean images"


def select_corruptions(names: str) -> tuple[str, ...]:
    """Return canonical names for ``main``, ``extra``, ``all`` or a comma-separated list.

    Raises:
        UsageError: a name is unknown or given twice.

    Example:
        >>> select_corruptions("jpeg,fog")
        ('fog', 'jpeg_compression')
    """
    groups = {"main": MAIN, "extra": EXTRA, "all": NAMES}
    if names in groups:
        return tuple(groups[names])
    chosen = [canonical_name(name.strip()) for name in names.split(",") if name.strip()]
    if not chosen:
        raise UsageError("no corruption was named", "give --corruptions main|extra|all|NAMES")
    return tuple(name for name in NAMES if name in chosen)


@dataclass(frozen=True, kw_only=True)
class CorruptionSuite:
    """Common corruptions at severities 1 to 5."""

    corruptions: str = "all"
    """``main`` (15), ``extra`` (4), ``all`` (19) or names separated by commas."""

    severities: tuple[int, ...] = SEVERITIES
    source: Source = "auto"
    """``official`` reads CIFAR-C files, ``generate`` makes the images, ``auto`` prefers files."""

    profile: str | None = None
    """Severity constants: cifar, tiny or imagenet; None chooses by image size."""

    folder: Path | None = None
    """Folder of the official files, once the source is resolved."""

    frost_dir: Path | None = None
    """Folder of the benchmark's frost pictures; without it generated frost is a substitute."""

    mce_reference: MceReference | str | None = None
    """What mCE divides by: errors, ``alexnet`` or a report; without it there is none."""

    paired: bool = True
    """Whether the corrupted images are the clean ones, corrupted; only Tiny-ImageNet-C's are not.
    """

    temperature: str = TWO_FOLD
    """Where the temperature that logits are scaled with comes from."""

    files: CorruptedFiles | None = field(default=None, repr=False, compare=False)
    """The official files, once they are opened."""

    part: ClassVar[type[CorruptionPart]] = CorruptionPart

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Self:
        """Return the suite whose recorded parameters these are."""
        return cls(
            corruptions=params["requested"],
            severities=tuple(params["severities"]),
            source="official" if params["source"] == "official" else "generate",
            profile=params["profile"],
            # Which folder it was is nobody's business; that there was one decides the report.
            frost_dir=Path("photographs") if params["frost"] == "photographs" else None,
            paired=params["paired"],
            mce_reference=params["mce_reference"]
            and MceReference.from_params(params["mce_reference"]),
            temperature=params.get("temperature", TWO_FOLD),
        )

    def __post_init__(self) -> None:
        if not self.severities or any(s not in SEVERITIES for s in self.severities):
            raise UsageError(f"severities are 1 to 5, got {self.severities}", code="E-SEVERITY")
        select_corruptions(self.corruptions)
        if self.profile is not None:
            choose_profile(self.profile, 0, 0)

    @property
    def name(self) -> str:
        """Name in the registry and the report."""
        return "corruption"

    @property
    def trials(self) -> int:
        """One: a corruption is drawn once a sample, as in the published files."""
        return 1

    @property
    def selected(self) -> tuple[str, ...]:
        """The corruptions that were asked for."""
        return select_corruptions(self.corruptions)

    @property
    def approximate(self) -> tuple[str, ...]:
        """Those of the selected ones that a substitute stands in for."""
        if self.source == "official" or self.frost_dir is not None:
            return ()
        return tuple(name for name in self.selected if name in APPROXIMATE)

    def resolved(self, folder: Path | None, profile: str | None) -> "CorruptionSuite":
        """Return the suite with its source decided.

        Args:
            folder: where the official files of the data set lie, None if they do not.
            profile: severity constants for the size of the images.

        Raises:
            UsageError: official files were asked for that are not there, or the size of the
                images has no severity constants.
        """
        source: Source = self.source
        if folder is not None and read_record(folder) is not None:
            if source == "official":
                raise UsageError(
                    f"{folder} holds files that robustmix generated, not the released ones",
                    "use --corruption-source generate: the same seed gives the same images",
                    code="E-CORRUPTION-SOURCE",
                )
            folder = None
        if source == "auto":
            source = "official" if folder is not None else "generate"
        if source == "official" and folder is None:
            raise UsageError(
                "there are no official corruption files for this data set in the data folder",
                "use --corruption-source generate, or unpack CIFAR-10-C, CIFAR-100-C, "
                "Tiny-ImageNet-C or ImageNet-C there",
                code="E-CORRUPTION-SOURCE",
            )
        if source == "generate" and self.profile is None and profile is None:
            raise UsageError(
                "images of this size have no severity constants of their own",
                "choose --profile cifar, tiny or imagenet",
                code="E-PROFILE",
            )
        return replace(
            self,
            severities=tuple(sorted(set(self.severities))),
            source=source,
            profile=self.profile or profile,
            folder=folder if source == "official" else None,
            frost_dir=self.frost_dir if source == "generate" else None,
        )

    def opened(self, data: ImageSet) -> "CorruptionSuite":
        """Return the resolved suite with its files open and its reference read.

        Args:
            data: the whole clean test set.

        Raises:
            IntakeError: files are missing, damaged or not of these images; see ``open_official``.
            UsageError: see ``load_reference``.
            IncompatibleError: likewise.
        """
        files, reference = None, self.mce_reference
        if self.frost_dir is not None and "frost" in self.selected:
            frost.photographs(self.frost_dir, frost.SCALE[choose_profile(self.profile, 0, 0)])
        if self.folder is not None:
            files = open_official(self.folder, data, self.selected, self.severities)
        if isinstance(reference, str):
            generated = self.source == "generate"
            reference = load_reference(
                reference,
                data.name,
                known_as=benchmark_name(data),
                source=source_name(generated=generated, photographs=self.frost_dir is not None),
            )
        return replace(
            self, files=files, paired=files is None or files.paired, mce_reference=reference
        )

    def params(self) -> dict[str, Any]:
        """Return every parameter that the numbers depend on."""
        generated = self.source == "generate"
        return {
            "requested": self.corruptions,
            "corruptions": list(self.selected),
            "severities": list(self.severities),
            "source": "generated" if generated else "official",
            "profile": self.profile if generated else None,
            "generator_version": GENERATOR_VERSION if generated else None,
            "frost": self._frost(),
            "paired": self.paired,
            "mce_reference": self._reference and self._reference.params(),
            "temperature": self.temperature,
        }

    @property
    def _reference(self) -> MceReference | None:
        assert not isinstance(self.mce_reference, str), "the suite was not opened"
        return self.mce_reference

    def _frost(self) -> Literal["procedural", "photographs"] | None:
        if self.source == "official" or "frost" not in self.selected:
            return None
        return "procedural" if self.frost_dir is None else "photographs"

    def parts(self, context: Context) -> list[Part]:
        """Return one pass a corruption and severity."""
        return [
            Part(
                f"{name}-{severity}",
                (f"{name}/{severity}",),
                partial(self._rows, context, name, severity),
            )
            for name in self.selected
            for severity in self.severities
        ]

    def _rows(
        self, context: Context, name: str, severity: int, batch: Batch
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
        with torch.no_grad():
            logits = context.model(to_unit(stored.enlarge(images).to(context.device)))
        return {f"{name}/{severity}": {"logits": logits, **_scaled(context, batch, logits)}}

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> CorruptionPart:
        """Make the suite's part of the report from the rows alone."""
        table, chosen = samples.tables["corruption"], self.selected
        rows = Corrupted(
            rows={(n, s): table.at(f"{n}/{s}") for n in chosen for s in self.severities},
            clean=samples.tables["clean"].at("clean")["correct"].astype(float),
            seed=facts["seed"],
            paired=self.paired,
        )
        conditions = [
            ConditionPart(
                corruption=name, severity=severity, metrics=rows.condition(name, severity)
            )
            for name in chosen
            for severity in self.severities
        ]
        worst = min(conditions, key=lambda c: c.metrics["acc"].value or 0.0)
        params = self.params()
        return CorruptionPart(
            status="ok",
            params=params,
            metrics=self._aggregates(rows, bool(facts["subset"])) | self._mce(rows),
            source=params["source"],
            profile=params["profile"],
            generator_version=params["generator_version"],
            corruptions=list(chosen),
            severities=list(self.severities),
            approximate=list(self.approximate),
            frost=self._frost(),
            complete=self.severities == SEVERITIES,
            paired=self.paired,
            conditions=conditions,
            groups={
                group: rows.accuracy(present, self.severities)
                for group, members in GROUPS.items()
                if (present := tuple(name for name in chosen if name in members))
            },
            by_severity={str(s): rows.accuracy(chosen, (s,)) for s in self.severities},
            by_corruption={name: rows.accuracy((name,), self.severities) for name in chosen},
            worst={
                "corruption": worst.corruption,
                "severity": worst.severity,
                "acc": worst.metrics["acc"].value,
            },
            calibration={
                "temperature": _temperatures(samples, facts["seed"]) if rows.endings[1:] else None,
                "by_severity": rows.boxes(chosen, self.severities),
            },
        )

    def _aggregates(self, rows: Corrupted, subset: bool) -> dict[str, Metric]:
        """Return the means that have a name of their own, and none that would mislead."""
        suffix = "_subset" if subset or self.severities != SEVERITIES else ""
        sets = {
            key: tuple(names)
            for key, names in (("main15", MAIN), ("all19", NAMES))
            if set(names) <= set(self.selected)
        }
        if set(self.selected) not in map(set, sets.values()):
            sets[f"selected{len(self.selected)}"] = self.selected
        return {
            f"{metric}_{key}{suffix}": value
            for key, names in sets.items()
            for metric, value in rows.means(names, self.severities).items()
        }

    def _mce(self, rows: Corrupted) -> dict[str, Metric]:
        if self._reference is None:
            reason = (
                "no reference errors were named, and there are none of CIFAR-C (--mce-reference)"
            )
        elif not set(MAIN) <= set(self.selected) or self.severities != SEVERITIES:
            reason = "it takes all 15 main corruptions at all severities"
        else:
            wrong = {name: 1 - rows.right((name,), SEVERITIES) for name in MAIN}
            return mce(wrong, 1 - rows.clean, self._reference, paired=self.paired)
        none = Metric(
            value=None, unit="percent", direction="lower", n=len(rows.clean), reason=reason
        )
        return {"mce": none, "relative_mce": none}


def clean_temperature(samples: Samples, seed: int) -> Tensor | None:
    """Return the temperature of each sample, fitted on clean samples of which it is not one.

    Returns:
        float64 (n,); None for a single sample without a calibration split.
    """
    found = clean_temperatures(samples, seed)
    return None if found is None else torch.from_numpy(found[0])


def _temperatures(samples: Samples, seed: int) -> dict[str, Any] | None:
    found = clean_temperatures(samples, seed)
    return None if found is None else found[1]


def _scaled(context: Context, batch: Batch, logits: Tensor) -> Columns:
    """Return what the calibrated model says of the samples, if there is a temperature."""
    if context.temperature is None:
        return {}
    scores = score_logits(
        logits,
        batch.labels,
        sample_ids=batch.sample_ids,
        temperature=context.temperature[batch.indices].numpy(),
    )
    return {
        f"{name}{SCALED}": torch.from_numpy(column.astype(np.float32))
        for name, column in (
            ("confidence", scores.confidence),
            ("nll", scores.nll),
            ("brier", scores.brier),
        )
    }
