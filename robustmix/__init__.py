"""Train image classifiers with mixup methods and measure how robust the result is."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix import attacks as attacks
    from robustmix import corruptions as corruptions
    from robustmix import metrics as metrics
    from robustmix import recipes as recipes
    from robustmix import register as register
    from robustmix import studies as studies
    from robustmix.comparison.check import check as check
    from robustmix.comparison.compare import compare as compare
    from robustmix.evaluation.evaluate import evaluate as evaluate
    from robustmix.export.export import export_model as export_model
    from robustmix.models.load import load_model as load_model
    from robustmix.models.robust_model import RobustModel as RobustModel
    from robustmix.report.report import Report as Report
    from robustmix.studies.side_by_side import table as table
    from robustmix.training.loop import train as train

__version__ = "0.1.0"

__getattr__, __dir__, _names = lazy_exports_of(__name__)
__all__ = [*_names, "__version__"]
