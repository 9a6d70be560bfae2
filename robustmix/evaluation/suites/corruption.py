"""Suite ``corruption``: accuracy under the common corruptions, official files or generated."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from robustmix.corruptions import (
    APPROXIMATE,
    EXTRA,
    GENERATOR_VERSION,
    GROUPS,
    MAIN,
    NAMES,
    CifarC,
    canonical_name,
    corrupt,
)
from robustmix.corruptions.writer import read_record
from robustmix.errors import UsageError
from robustmix.evaluation.engine import Batch, Columns, Context, Part, to_unit
from robustmix.evaluation.metrics.conditions import condition_ece, shared_resamples
from robustmix.evaluation.metrics.mce import MceReference, load_reference, mce
from robustmix.evaluation.metrics.statistics import clustered_mean, proportion
from robustmix.report.metric import Metric
from robustmix.report.samples import Samples
from robustmix.report.schema import ConditionPart, CorruptionPart

Source = Literal["auto", "official", "generate"]
SEVERITIES = (1, 2, 3, 4, 5)


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

    def __post_init__(self) -> None:
        if not self.severities or any(s not in SEVERITIES for s in self.severities):
            raise UsageError(f"severities are 1 to 5, got {self.severities}", code="E-SEVERITY")
        select_corruptions(self.corruptions)

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

    def resolved(
        self, folder: Path | None, profile: str | None, dataset: str = ""
    ) -> "CorruptionSuite":
        """Return the suite with its source decided.

        Args:
            folder: where the official files of the data set lie, None if they do not.
            profile: severity constants for the size of the images.
            dataset: name of the data set, which a reference for mCE must share.

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
                "use --corruption-source generate, or unpack CIFAR-10-C/CIFAR-100-C there",
                code="E-CORRUPTION-SOURCE",
            )
        suite = CorruptionSuite(
            corruptions=self.corruptions,
            severities=tuple(sorted(set(self.severities))),
            source=source,
            profile=self.profile or profile,
            folder=folder if source == "official" else None,
            frost_dir=self.frost_dir if source == "generate" else None,
            mce_reference=load_reference(self.mce_reference, dataset)
            if isinstance(self.mce_reference, str)
            else self.mce_reference,
        )
        if source == "generate" and suite.profile is None:
            raise UsageError(
                "images of this size have no severity constants of their own",
                "choose --profile cifar, tiny or imagenet",
                code="E-PROFILE",
            )
        return suite

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
            "mce_reference": self._reference and self._reference.params(),
        }

    @property
    def _reference(self) -> MceReference | None:
        assert not isinstance(self.mce_reference, str), "the suite is not resolved"
        return self.mce_reference

    def _frost(self) -> Literal["procedural", "photographs"] | None:
        if self.source == "official" or "frost" not in self.selected:
            return None
        return "procedural" if self.frost_dir is None else "photographs"

    def parts(self, context: Context) -> list[Part]:
        """Return one pass a corruption and severity."""
        files = None
        if self.folder is not None:
            files = CifarC.open(
                self.folder,
                dataset=context.data.name,
                clean_images=context.data.pixels.take(torch.arange(len(context.data))).cpu(),
                clean_labels=context.data.labels,
                clean_indices=context.official,
            )
        return [
            Part(
                f"{name}-{severity}",
                (f"{name}/{severity}",),
                partial(self._rows, context, files, name, severity),
            )
            for name in self.selected
            for severity in self.severities
        ]

    def _rows(
        self, context: Context, files: CifarC | None, name: str, severity: int, batch: Batch
    ) -> Mapping[str, Columns]:
        if files is None:
            stored = batch.images()
            images = corrupt(
                stored.cpu() if stored.device.type == "mps" else stored,  # it has no float64
                name,
                severity,
                seed=context.seed,
                sample_ids=batch.sample_ids,
                profile=self.profile,
                frost_dir=self.frost_dir,
            )
        else:
            images = files.take(name, severity, context.official[batch.indices])
        with torch.no_grad():
            logits = context.model(to_unit(images.to(context.device)))
        return {f"{name}/{severity}": {"logits": logits}}

    def summarise(self, samples: Samples, facts: Mapping[str, Any]) -> CorruptionPart:
        """Make the suite's part of the report from the rows alone."""
        table = samples.tables["corruption"]
        weights = shared_resamples(len(samples), facts["seed"])
        conditions = [
            ConditionPart(
                corruption=name,
                severity=severity,
                metrics=_condition_metrics(table.at(f"{name}/{severity}"), weights, facts["seed"]),
            )
            for name in self.selected
            for severity in self.severities
        ]
        right = {
            condition: table.columns["correct"][i, 0].astype(float)
            for i, condition in enumerate(table.conditions)
        }

        def mean(names: tuple[str, ...], severities: tuple[int, ...]) -> Metric:
            rows = [right[f"{name}/{s}"] for name in names for s in severities]
            note = f"unweighted mean over {len(names)} corruptions x {len(severities)} severities"
            return clustered_mean(np.mean(rows, axis=0), direction="higher", note=note)

        clean = samples.tables["clean"].at("clean")["correct"].astype(float)
        metrics = self._aggregates(mean, right, clean, bool(facts["subset"]))
        worst = min(conditions, key=lambda c: c.metrics["acc"].value or 0.0)
        return CorruptionPart(
            status="ok",
            params=self.params(),
            metrics=metrics,
            source="generated" if self.source == "generate" else "official",
            profile=self.params()["profile"],
            generator_version=self.params()["generator_version"],
            corruptions=list(self.selected),
            severities=list(self.severities),
            approximate=list(self.approximate),
            frost=self._frost(),
            complete=self.severities == SEVERITIES,
            conditions=conditions,
            groups={
                group: mean(chosen, self.severities)
                for group, members in GROUPS.items()
                if (chosen := tuple(name for name in self.selected if name in members))
            },
            by_severity={str(s): mean(self.selected, (s,)) for s in self.severities},
            by_corruption={name: mean((name,), self.severities) for name in self.selected},
            worst={
                "corruption": worst.corruption,
                "severity": worst.severity,
                "acc": worst.metrics["acc"].value,
            },
        )

    def _aggregates(
        self,
        mean: Any,
        right: Mapping[str, NDArray[np.float64]],
        clean: NDArray[np.float64],
        subset: bool,
    ) -> dict[str, Metric]:
        """Return the means that have a name of their own, and none that would mislead."""
        suffix = "_subset" if subset or self.severities != SEVERITIES else ""
        sets = {
            key: names
            for key, names in (("main15", MAIN), ("all19", NAMES))
            if set(names) <= set(self.selected)
        }
        if set(self.selected) not in map(set, sets.values()):
            sets[f"selected{len(self.selected)}"] = self.selected
        metrics: dict[str, Metric] = {}
        for key, names in sets.items():
            accuracy = mean(tuple(names), self.severities)
            assert accuracy.value is not None
            metrics[f"acc_mean_{key}{suffix}"] = accuracy
            metrics[f"mean_ce_{key}{suffix}"] = accuracy.model_copy(
                update={
                    "value": 1 - accuracy.value,
                    "direction": "lower",
                    "ci": accuracy.ci and (1 - accuracy.ci[1], 1 - accuracy.ci[0]),
                }
            )
            rows = np.mean([right[f"{n}/{s}"] for n in names for s in self.severities], axis=0)
            metrics[f"drop_{key}{suffix}"] = clustered_mean(
                clean - rows, direction="lower", note="clean accuracy minus the mean, paired"
            )
        return metrics | self._mce(right, clean)

    def _mce(
        self, right: Mapping[str, NDArray[np.float64]], clean: NDArray[np.float64]
    ) -> dict[str, Metric]:
        if self._reference is None:
            reason = (
                "no reference errors were named, and there are none of CIFAR-C (--mce-reference)"
            )
        elif not set(MAIN) <= set(self.selected) or self.severities != SEVERITIES:
            reason = "it takes all 15 main corruptions at all severities"
        else:
            wrong = {
                name: 1 - np.mean([right[f"{name}/{s}"] for s in SEVERITIES], axis=0)
                for name in MAIN
            }
            return mce(wrong, 1 - clean, self._reference)
        none = Metric(value=None, unit="percent", direction="lower", n=len(clean), reason=reason)
        return {"mce": none, "relative_mce": none}


def _condition_metrics(
    rows: Mapping[str, NDArray[Any]], weights: NDArray[np.int64], seed: int
) -> dict[str, Metric]:
    correct = rows["correct"].astype(bool)
    confidence = rows["confidence"].astype(float)
    return {
        "acc": proportion(int(correct.sum()), len(correct), direction="higher"),
        "nll": clustered_mean(rows["nll"], unit="nats", direction="lower"),
        "gap": clustered_mean(
            confidence - correct, direction="neither", note="confidence minus accuracy"
        ),
        "ece_15": condition_ece([confidence], [correct], weights, seed),
    }
