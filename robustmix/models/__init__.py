"""Networks: architectures, checkpoint files, and the form in which suites see a model."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.models.checkpoint import Checkpoint as Checkpoint
    from robustmix.models.checkpoint import read_checkpoint as read_checkpoint
    from robustmix.models.checkpoint import save_checkpoint as save_checkpoint
    from robustmix.models.checks import buffers_hash as buffers_hash
    from robustmix.models.checks import looks_like_probabilities as looks_like_probabilities
    from robustmix.models.checks import sanity_checks as sanity_checks
    from robustmix.models.checks import state_hash as state_hash
    from robustmix.models.load import load_model as load_model
    from robustmix.models.names import ARCHS as ARCHS
    from robustmix.models.names import NORM_PRESETS as NORM_PRESETS
    from robustmix.models.names import ArchRow as ArchRow
    from robustmix.models.registry import build_model as build_model
    from robustmix.models.robust_model import ModelInfo as ModelInfo
    from robustmix.models.robust_model import RobustModel as RobustModel

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
