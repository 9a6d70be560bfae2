"""Networks: built-in architectures, checkpoint files, and the form in which suites see a model."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports
from robustmix.models.names import ARCHS, NORM_PRESETS, ArchInfo

if TYPE_CHECKING:
    from robustmix.models.checkpoint import Checkpoint as Checkpoint
    from robustmix.models.checkpoint import read_checkpoint as read_checkpoint
    from robustmix.models.checkpoint import save_checkpoint as save_checkpoint
    from robustmix.models.checks import buffers_hash as buffers_hash
    from robustmix.models.checks import looks_like_probabilities as looks_like_probabilities
    from robustmix.models.checks import sanity_checks as sanity_checks
    from robustmix.models.checks import state_hash as state_hash
    from robustmix.models.load import load_model as load_model
    from robustmix.models.registry import build_model as build_model
    from robustmix.models.robust_model import ModelInfo as ModelInfo
    from robustmix.models.robust_model import RobustModel as RobustModel

__all__ = [
    "ARCHS",
    "NORM_PRESETS",
    "ArchInfo",
    "Checkpoint",
    "ModelInfo",
    "RobustModel",
    "buffers_hash",
    "build_model",
    "load_model",
    "looks_like_probabilities",
    "read_checkpoint",
    "sanity_checks",
    "save_checkpoint",
    "state_hash",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "Checkpoint": "robustmix.models.checkpoint",
        "ModelInfo": "robustmix.models.robust_model",
        "RobustModel": "robustmix.models.robust_model",
        "buffers_hash": "robustmix.models.checks",
        "build_model": "robustmix.models.registry",
        "load_model": "robustmix.models.load",
        "looks_like_probabilities": "robustmix.models.checks",
        "read_checkpoint": "robustmix.models.checkpoint",
        "sanity_checks": "robustmix.models.checks",
        "save_checkpoint": "robustmix.models.checkpoint",
        "state_hash": "robustmix.models.checks",
    },
)
