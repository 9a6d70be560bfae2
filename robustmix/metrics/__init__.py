"""Metrics of scored samples and their intervals: numpy float64, without torch."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.metrics.binned import ece_paper_tool as ece_paper_tool
    from robustmix.metrics.binned import expected_calibration_error as expected_calibration_error
    from robustmix.metrics.calibration import CalibrationResult as CalibrationResult
    from robustmix.metrics.calibration import calibration_metrics as calibration_metrics
    from robustmix.metrics.clean import CleanResult as CleanResult
    from robustmix.metrics.clean import clean_metrics as clean_metrics
    from robustmix.metrics.intervals import bootstrap as bootstrap
    from robustmix.metrics.intervals import bootstrap_bias as bootstrap_bias
    from robustmix.metrics.intervals import clustered_mean as clustered_mean
    from robustmix.metrics.intervals import proportion as proportion
    from robustmix.metrics.intervals import wilson as wilson
    from robustmix.metrics.scores import Scores as Scores
    from robustmix.metrics.scores import score_logits as score_logits
    from robustmix.metrics.temperature import CalibrationSplit as CalibrationSplit
    from robustmix.metrics.temperature import Temperature as Temperature
    from robustmix.metrics.temperature import fit_temperature as fit_temperature
    from robustmix.metrics.temperature import held_out_temperature as held_out_temperature
    from robustmix.metrics.temperature import two_fold_temperature as two_fold_temperature

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
