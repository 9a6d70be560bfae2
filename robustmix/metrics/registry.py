"""The one table of metrics: numbers of whole suites that are called by a fixed name.

``clean.top1`` is the metric ``top1`` of suites of the kind ``clean``. Numbers of conditions, curves
and selections of corruptions have names that depend on the run; the suites define those.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from robustmix.metrics.definition import Definition
    from robustmix.report.rows import Rows

MetricFunction: TypeAlias = "Callable[[Rows], Definition | None]"
"""Rows of a suite -> the definition of a number; None where it does not apply to them."""


def _row(target: str, text: str) -> Row:
    return Row(f"robustmix.metrics.{target}", text)


METRICS: Table[MetricFunction, Row] = Table(
    "metric",
    Row,
    {
        "clean.top1": _row("clean:top1", "share of images with the right prediction"),
        "clean.top5": _row("clean:top5", "share with the label among the five largest logits"),
        "clean.error": _row("clean:error", "share of images with a wrong prediction"),
        "clean.nll_max": _row("clean:nll_max", "largest negative log-likelihood of a label"),
        "clean.superclass_acc": _row(
            "clean:superclass_acc", "share of predictions in the right coarse class"
        ),
        "clean.nll": _row("clean:nll", "mean negative log-likelihood of the label"),
        "clean.brier_sum": _row("clean:brier_sum", "Brier score, summed over classes"),
        "clean.brier_mean": _row("clean:brier_mean", "Brier score, mean over classes"),
        "clean.macro_acc": _row("clean:macro_acc", "mean of the classes' accuracies"),
        "clean.worst_class": _row("clean:worst_class", "lowest accuracy of a class"),
        "calibration.mce_min_n": _row(
            "calibration:mce_min_n", "largest gap of 15 bins, nearly empty ones left out"
        ),
        "calibration.ace_15": _row("calibration:ace_15", "classwise error, bins of equal count"),
        "calibration.tace_15": _row(
            "calibration:tace_15", "as ace_15, of probabilities above 0.01"
        ),
        "calibration.debiased_15": _row(
            "calibration:debiased_15", "squared calibration error without its bias"
        ),
        "calibration.gap": _row("calibration:gap", "mean confidence minus accuracy"),
        "calibration.mean_confidence": _row(
            "calibration:mean_confidence", "mean probability of the predicted class"
        ),
        "calibration.over": _row("calibration:over", "ece_15 of bins that are too confident"),
        "calibration.under": _row(
            "calibration:under", "ece_15 of bins that are not confident enough"
        ),
        "calibration.aurc": _row("calibration:aurc", "area under risk against coverage"),
        "calibration.acc_at_90": _row("calibration:acc_at_90", "accuracy of the surest 90 %"),
        "calibration.acc_at_80": _row("calibration:acc_at_80", "accuracy of the surest 80 %"),
        "calibration.acc_at_50": _row("calibration:acc_at_50", "accuracy of the surest half"),
        "calibration.nll": _row("clean:nll", "mean negative log-likelihood of the label"),
        "calibration.brier_sum": _row("clean:brier_sum", "Brier score, summed over classes"),
        "calibration.brier_mean": _row("clean:brier_mean", "Brier score, mean over classes"),
        "attack.error": _row("attacked:error", "share of images wrong after the attack"),
        "attack.robust_acc": _row("attacked:robust_acc", "share of images still right after it"),
        "attack.clean_acc": _row("attacked:clean_acc", "share of images that were right before it"),
        "attack.delta_error": _row("attacked:delta_error", "error that the attack adds"),
        "attack.asr": _row("attacked:asr", "share of the right images it makes wrong"),
        "attack.newly_right": _row("attacked:newly_right", "share of images that it makes right"),
        "attack.error_uint8": _row("attacked:error_uint8", "error of images rounded to 8 bits"),
        "attack.frac_zero_grad_samples": _row(
            "attacked:frac_zero_grad_samples", "share of images without any gradient"
        ),
        "attack.frac_zero_grad": _row(
            "attacked:frac_zero_grad", "share of gradient entries that are zero"
        ),
        "attack.frac_clipped": _row(
            "attacked:frac_clipped", "share of values that [0, 1] held back"
        ),
        "attack.linf": _row("attacked:linf", "mean of the largest change of a value"),
        "attack.max_linf": _row("attacked:max_linf", "largest change of a value in any image"),
        "attack.l2": _row("attacked:l2", "mean Euclidean length of the change"),
        "attack.max_l2": _row("attacked:max_l2", "largest Euclidean length of a change"),
        "attack.nll": _row("attacked:nll", "mean negative log-likelihood after the attack"),
        "attack.loss_raised": _row("attacked:loss_raised", "share of images whose loss it raised"),
        "attack.error_last": _row("attacked:error_last", "error at the last step of a search"),
    },
)


def metrics_for(kind: str, rows: "Rows") -> "dict[str, Callable[[], Definition]]":
    """Give the metrics of a kind of suites that apply to these rows, by their names."""
    found: dict[str, Callable[[], Definition]] = {}
    for path in METRICS:
        family, _, name = path.partition(".")
        if family == kind:
            try:
                definition = METRICS[path](rows)
            except Exception as error:
                # One metric that cannot be made must not take the others with it: it fails when
                # it is asked for.
                found[name] = partial(_failed, error)
            else:
                if definition is not None:
                    found[name] = partial(_given, definition)
    return found


def _given(definition: "Definition") -> "Definition":
    return definition


def _failed(error: Exception) -> "Definition":
    raise error
