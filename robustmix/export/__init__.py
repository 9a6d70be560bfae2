"""Models written in the form that other programs read, each checked by reading it back."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.export.export import export_model as export_model
    from robustmix.export.exported import Exported as Exported
    from robustmix.export.registry import EXPORTS as EXPORTS

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
