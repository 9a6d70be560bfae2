"""Train image classifiers with mixup methods and measure how robust the result is."""

import importlib
from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports

if TYPE_CHECKING:
    from robustmix import attacks, corruptions
    from robustmix.evaluation.evaluate import evaluate
    from robustmix.models.load import load_model
    from robustmix.models.robust_model import RobustModel
    from robustmix.report.report import Report
    from robustmix.training.loop import train

__version__ = "0.1.0"

__all__ = [
    "Report",
    "RobustModel",
    "__version__",
    "attacks",
    "corruptions",
    "evaluate",
    "load_model",
    "train",
]

_PARTS = ("attacks", "corruptions")

_load = lazy_exports(
    __name__,
    {
        "Report": "robustmix.report.report",
        "RobustModel": "robustmix.models.robust_model",
        "evaluate": "robustmix.evaluation.evaluate",
        "load_model": "robustmix.models.load",
        "train": "robustmix.training.loop",
    },
)


def __getattr__(name: str) -> object:
    return importlib.import_module(f"robustmix.{name}") if name in _PARTS else _load(name)
