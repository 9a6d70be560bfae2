"""mCE: corruption errors in units of a reference model's, and what to divide by.

Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4. AlexNet is the reference of ImageNet-C
alone; nobody published reference errors for CIFAR-C or Tiny-ImageNet-C, so there a report of one's
own is needed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.corruptions.names import MAIN
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.files import file_digest
from robustmix.metrics.corrupted import difference
from robustmix.metrics.intervals import clustered_mean
from robustmix.metrics.metric import Metric


@dataclass(frozen=True, kw_only=True)
class MceReference:
    """Errors of the model that corruption errors are divided by."""

    name: str
    """``alexnet``, or the id of a report's run."""

    dataset: str
    source: str
    """Where the corrupted images came from, see ``source_name``."""

    clean: float
    """Top-1 error on the clean images, in [0, 1]."""

    errors: tuple[float, ...]
    """Mean error over the five severities of each of the 15 main corruptions, in their order."""

    sha256: str | None = None
    """Of the report's file."""

    def __post_init__(self) -> None:
        if len(self.errors) != len(MAIN) or not all(0 < e <= 1 for e in self.errors):
            raise ValueError(f"expected {len(MAIN)} errors in (0, 1], got {self.errors}")

    def params(self) -> dict[str, Any]:
        """Return the reference as JSON-like values."""
        return {**asdict(self), "errors": list(self.errors)}

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "MceReference":
        """Return the reference of such values."""
        return cls(**{**params, "errors": tuple(params["errors"])})


ALEXNET = MceReference(
    name="alexnet",
    dataset="imagenet-1k",
    source="official",
    clean=0.4348,
    errors=(
        0.886428,
        0.894468,
        0.922640,
        0.819880,
        0.826268,
        0.785948,
        0.798360,
        0.866816,
        0.826572,
        0.819324,
        0.564592,
        0.853204,
        0.646056,
        0.717840,
        0.606500,
    ),
)
"""The published normaliser of ImageNet-C."""


def source_name(*, generated: bool, photographs: bool) -> str:
    """Return where corrupted images came from: ``official``, or ``generated`` and with what frost.

    Example:
        >>> source_name(generated=True, photographs=False)
        'generated (substitute for frost)'
    """
    if not generated:
        return "official"
    return "generated" if photographs else "generated (substitute for frost)"


def load_reference(reference: str, dataset: str, *, known_as: str, source: str) -> MceReference:
    """Return the reference ``alexnet``, or the errors in a report.

    Args:
        reference: ``alexnet``, or a report.json or its folder.
        dataset: what is evaluated; a report must be of the same.
        known_as: its name among the benchmarks, if it is a folder of images.
        source: where the corrupted images come from; those of the reference must have come from
            there too, or its errors are of other images.

    Raises:
        UsageError: AlexNet's errors are asked for another data set than ImageNet.
        IntakeError: the report cannot be read, or lacks one of the 15 corruptions or a severity.
        IncompatibleError: the report is of another data set, or another source.
    """
    if reference == ALEXNET.name:
        if known_as != ALEXNET.dataset:
            raise UsageError(
                f"the errors of AlexNet are those of {ALEXNET.dataset}, not of {dataset}",
                "give a report of a model of your own: --mce-reference report.json",
                code="E-MCE-REFERENCE",
            )
        _check_source(ALEXNET, source)
        return ALEXNET
    from robustmix.report.report import REPORT_FILE, Report
    from robustmix.report.schema import CorruptionPart

    path = Path(reference)
    path = path / REPORT_FILE if path.is_dir() else path
    content = Report.load(path, samples=False).content
    if content.dataset.name != dataset:
        raise IncompatibleError(
            f"{reference} is a report on {content.dataset.name}, not on {dataset}",
            "give a report on the same data set",
            code="E-MCE-REFERENCE",
        )
    part = content.suites.get("corruption")
    if not isinstance(part, CorruptionPart) or not set(MAIN) <= set(part.by_corruption):
        raise IntakeError(
            f"{reference} lacks some of the 15 main corruptions", code="E-MCE-REFERENCE"
        )
    if part.severities != [1, 2, 3, 4, 5]:
        raise IntakeError(f"{reference} lacks some severities", code="E-MCE-REFERENCE")
    accuracies = [part.by_corruption[name].value for name in MAIN]
    clean = content.suites["clean"].metrics["top1"].value
    if clean is None or None in accuracies:
        raise IntakeError(f"{reference} lacks an accuracy", code="E-MCE-REFERENCE")
    errors = tuple(1 - accuracy for accuracy in accuracies if accuracy is not None)
    if min(errors) <= 0:
        raise IntakeError(
            f"the model of {reference} makes no error under {MAIN[errors.index(min(errors))]}, and "
            "nothing can be divided by that",
            "give the report of a weaker model",
            code="E-MCE-REFERENCE",
        )
    found = MceReference(
        name=content.run.id,
        dataset=dataset,
        source=source_name(
            generated=part.source == "generated", photographs=part.frost == "photographs"
        ),
        clean=1 - clean,
        errors=errors,
        sha256=file_digest(path),
    )
    _check_source(found, source)
    return found


def _check_source(reference: MceReference, source: str) -> None:
    if reference.source != source:
        raise IncompatibleError(
            f"the reference errors are of {reference.source} images, these are {source}",
            "evaluate both on images of one source (--corruption-source, --frost-dir)",
            code="E-MCE-REFERENCE",
        )


def mce(
    wrong: Mapping[str, NDArray[np.float64]],
    clean_wrong: NDArray[np.float64],
    reference: MceReference,
    *,
    paired: bool = True,
) -> dict[str, Metric]:
    """Return mCE and relative mCE, in percent, with intervals over images.

    Both are linear in the errors, so an image's share of them is what the interval is made of.

    Args:
        wrong: each main corruption -> share of severities at which an image is wrong, (n,).
        clean_wrong: whether it is wrong without corruption, (n,).
        reference: what the errors are divided by.
        paired: whether the corrupted images are the clean ones, corrupted.
    """
    note = f"divided by the errors of {reference.name}"
    shares = [100 * wrong[name] / error for name, error in zip(MAIN, reference.errors, strict=True)]
    plain = clustered_mean(np.mean(shares, axis=0), direction="lower", unit="percent", note=note)
    gains = [error - reference.clean for error in reference.errors]
    if min(gains) <= 0:
        relative = Metric(
            value=None,
            unit="percent",
            direction="lower",
            n=len(clean_wrong),
            reason="the reference is no worse under a corruption than without",
            note=note,
        )
    else:
        shares = [100 * wrong[name] / gain for name, gain in zip(MAIN, gains, strict=True)]
        clean_share = 100 * clean_wrong * float(np.mean([1 / gain for gain in gains]))
        relative = difference(
            np.mean(shares, axis=0), clean_share, paired, unit="percent", note=note
        )
    return {"mce": plain, "relative_mce": relative}
