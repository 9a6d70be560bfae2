"""What a run tells while it works, and who writes it down: CSV, TensorBoard, W&B, MLflow.

``train`` and ``evaluate`` tell all of it to one hook, ``on_event``: any function of an event. The
loggers of the table are such hooks; ``log_to("csv", "wandb")`` makes one of several.
"""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.loggers.events import Event as Event
    from robustmix.loggers.events import Hook as Hook
    from robustmix.loggers.events import Pictures as Pictures
    from robustmix.loggers.events import RunFinished as RunFinished
    from robustmix.loggers.events import RunStarted as RunStarted
    from robustmix.loggers.events import Scalars as Scalars
    from robustmix.loggers.events import SuiteFinished as SuiteFinished
    from robustmix.loggers.log import Log as Log
    from robustmix.loggers.log import log_to as log_to
    from robustmix.loggers.memory import Memory as Memory
    from robustmix.loggers.registry import LOGGERS as LOGGERS

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
