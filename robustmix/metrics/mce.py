"""mCE: corruption errors in units of a reference model's, and what to divide by.

Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4. AlexNet is the reference of ImageNet-C
alone; nobody published reference errors for CIFAR-C or Tiny-ImageNet-C, so there a report of one's
own is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robustmix.corruptions.names import MAIN, SEVERITIES
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.files import expanded, file_digest
from robustmix.metrics.corrupted import difference
from robustmix.metrics.definition import Definition, absent, mean
from robustmix.metrics.scores import FloatArray
from robustmix.report.report import REPORT_FILE, Report


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
    """Say where corrupted images came from: ``official``, or ``generated`` and with what frost.

    Example:
        >>> source_name(generated=True, photographs=False)
        'generated (substitute for frost)'
    """
    if not generated:
        return "official"
    return "generated" if photographs else "generated (substitute for frost)"


def load_reference(reference: str, dataset: str, *, known_as: str, source: str) -> MceReference:
    """Give the reference ``alexnet``, or the errors in a report.

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
    path = expanded(reference)
    path = path / REPORT_FILE if path.is_dir() else path
    content = Report.load(path, samples=False).content
    if content.dataset.name != dataset:
        raise IncompatibleError(
            f"{reference} is a report on {content.dataset.name}, not on {dataset}",
            "give a report on the same data set",
            code="E-MCE-REFERENCE",
        )
    part = content.suites.get("corruption")
    if part is None or part.kind != "corruption" or part.status != "ok":
        raise _lacking(reference, "a corruption suite")
    means = [part.number(f"acc_mean[by_corruption:{name}]") for name in MAIN]
    if None in means:
        raise _lacking(reference, "some of the 15 main corruptions")
    if part.params.get("severities") != list(SEVERITIES):
        raise _lacking(reference, "some severities")
    top1 = content.suites["clean"].number("top1") if "clean" in content.suites else None
    errors = tuple(1 - one.value for one in means if one is not None and one.value is not None)
    if top1 is None or top1.value is None or len(errors) < len(MAIN):
        raise _lacking(reference, "an accuracy")
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
            generated=part.params.get("source") == "generated",
            photographs=part.params.get("frost") == "photographs",
        ),
        clean=1 - top1.value,
        errors=errors,
        sha256=file_digest(path),
    )
    _check_source(found, source)
    return found


def _lacking(reference: str, what: str) -> IntakeError:
    return IntakeError(
        f"{reference} lacks {what}",
        "give the report of an evaluation with --suite corruption",
        code="E-MCE-REFERENCE",
    )


def _check_source(reference: MceReference, source: str) -> None:
    if reference.source != source:
        raise IncompatibleError(
            f"the reference errors are of {reference.source} images, these are {source}",
            "evaluate both on images of one source (--corruption-source, --frost-dir)",
            code="E-MCE-REFERENCE",
        )


def mce(wrong: Mapping[str, FloatArray], reference: MceReference) -> Definition:
    """Define mCE, in percent; it is linear in the errors, so every image has a share in it.

    Args:
        wrong: each main corruption -> share of severities at which an image is wrong, (n,).
        reference: what the errors are divided by.
    """
    values = _percent(wrong, reference.errors)
    return mean(values, unit="percent", direction="lower", note=_note(reference))


def relative_mce(
    wrong: Mapping[str, FloatArray],
    clean_wrong: FloatArray,
    reference: MceReference,
    *,
    paired: bool = True,
) -> Definition:
    """Define relative mCE, in percent: of what is lost by corruption alone.

    Args:
        wrong: see ``mce``.
        clean_wrong: whether an image is wrong without corruption, (n,).
        reference: what the losses are divided by.
        paired: whether the corrupted images are the clean ones, corrupted.
    """
    gains = [error - reference.clean for error in reference.errors]
    if min(gains) <= 0:
        reason = "the reference is no worse under a corruption than without"
        return absent(
            len(clean_wrong), reason, direction="lower", unit="percent", note=_note(reference)
        )
    clean = 100 * clean_wrong * float(np.mean([1 / gain for gain in gains]))
    values = _percent(wrong, gains)
    return difference(values, clean, paired, unit="percent", note=_note(reference))


def _percent(wrong: Mapping[str, FloatArray], divisors: Sequence[float]) -> FloatArray:
    shares = [100 * wrong[name] / by for name, by in zip(MAIN, divisors, strict=True)]
    return np.asarray(np.mean(shares, axis=0))


def _note(reference: MceReference) -> str:
    return f"divided by the errors of {reference.name}"
