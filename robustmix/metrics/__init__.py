"""Metrics of scored samples and their intervals: numpy float64, without torch."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports

if TYPE_CHECKING:
    from robustmix.metrics.binned import (
        ece_paper_tool,
        expected_calibration_error,
    )
    from robustmix.metrics.calibration import CalibrationResult, calibration_metrics
    from robustmix.metrics.clean import CleanResult, clean_metrics
    from robustmix.metrics.intervals import (
        bootstrap,
        bootstrap_bias,
        clustered_mean,
        proportion,
        wilson,
    )
    from robustmix.metrics.scores import Scores, score_logits
    from robustmix.metrics.temperature import (
        CalibrationSplit,
        Temperature,
        fit_temperature,
        held_out_temperature,
        two_fold_temperature,
    )

__all__ = [
    "CalibrationResult",
    "CalibrationSplit",
    "CleanResult",
    "Scores",
    "Temperature",
    "bootstrap",
    "bootstrap_bias",
    "calibration_metrics",
    "clean_metrics",
    "clustered_mean",
    "ece_paper_tool",
    "expected_calibration_error",
    "fit_temperature",
    "held_out_temperature",
    "proportion",
    "score_logits",
    "two_fold_temperature",
    "wilson",
]
__getattr__ = lazy_exports(
    __name__,
    {
        "CalibrationResult": f"{__name__}.calibration",
        "CalibrationSplit": f"{__name__}.temperature",
        "CleanResult": f"{__name__}.clean",
        "Scores": f"{__name__}.scores",
        "Temperature": f"{__name__}.temperature",
        "bootstrap": f"{__name__}.intervals",
        "bootstrap_bias": f"{__name__}.intervals",
        "calibration_metrics": f"{__name__}.calibration",
        "clean_metrics": f"{__name__}.clean",
        "clustered_mean": f"{__name__}.intervals",
        "ece_paper_tool": f"{__name__}.binned",
        "expected_calibration_error": f"{__name__}.binned",
        "fit_temperature": f"{__name__}.temperature",
        "held_out_temperature": f"{__name__}.temperature",
        "proportion": f"{__name__}.intervals",
        "score_logits": f"{__name__}.scores",
        "two_fold_temperature": f"{__name__}.temperature",
        "wilson": f"{__name__}.intervals",
    },
)
