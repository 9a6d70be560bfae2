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
    from robustmix.metrics.detection import detection_scores as detection_scores
    from robustmix.metrics.functional.accuracy import accuracy as accuracy
    from robustmix.metrics.functional.accuracy import macro_accuracy as macro_accuracy
    from robustmix.metrics.functional.accuracy import top_k_accuracy as top_k_accuracy
    from robustmix.metrics.functional.agreement import cohen_kappa as cohen_kappa
    from robustmix.metrics.functional.agreement import error_consistency as error_consistency
    from robustmix.metrics.functional.calibration import ace as ace
    from robustmix.metrics.functional.calibration import adaptive_ece as adaptive_ece
    from robustmix.metrics.functional.calibration import aurc as aurc
    from robustmix.metrics.functional.calibration import classwise_ece as classwise_ece
    from robustmix.metrics.functional.calibration import ece as ece
    from robustmix.metrics.functional.calibration import (
        maximum_calibration_error as maximum_calibration_error,
    )
    from robustmix.metrics.functional.calibration import reliability as reliability
    from robustmix.metrics.functional.calibration import rmsce as rmsce
    from robustmix.metrics.functional.calibration import tace as tace
    from robustmix.metrics.functional.corruption import (
        mean_corruption_error as mean_corruption_error,
    )
    from robustmix.metrics.functional.detection import aupr as aupr
    from robustmix.metrics.functional.detection import auroc as auroc
    from robustmix.metrics.functional.detection import fpr95 as fpr95
    from robustmix.metrics.functional.intervals import bootstrap_interval as bootstrap_interval
    from robustmix.metrics.functional.proper_scores import brier_score as brier_score
    from robustmix.metrics.functional.proper_scores import nll as nll
    from robustmix.metrics.intervals import bootstrap as bootstrap
    from robustmix.metrics.intervals import bootstrap_bias as bootstrap_bias
    from robustmix.metrics.intervals import clustered_mean as clustered_mean
    from robustmix.metrics.intervals import proportion as proportion
    from robustmix.metrics.intervals import wilson as wilson
    from robustmix.metrics.scores import Scores as Scores
    from robustmix.metrics.scores import score_logits as score_logits
    from robustmix.metrics.scores import score_probabilities as score_probabilities
    from robustmix.metrics.temperature import CalibrationSplit as CalibrationSplit
    from robustmix.metrics.temperature import Temperature as Temperature
    from robustmix.metrics.temperature import fit_temperature as fit_temperature
    from robustmix.metrics.temperature import held_out_temperature as held_out_temperature
    from robustmix.metrics.temperature import two_fold_temperature as two_fold_temperature

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
