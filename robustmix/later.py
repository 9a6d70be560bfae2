"""Heavy packages for modules that a gate reads too: named at their top, imported on first use.

A suite's module says both how its work is done and what its numbers are. Judging a report needs
the second only, and importing torch for it would take two seconds and 600 MB; all of scipy that
the numbers use takes as long as the judging itself.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
    import torch.nn.functional as F
    from PIL import Image as Image
    from scipy import ndimage as ndimage
    from scipy import optimize as optimize
    from scipy import sparse as sparse
    from scipy import special as special
    from torch import Tensor as Tensor
    from torch import nn as nn

    from robustmix.models.robust_model import RobustModel as RobustModel
else:
    from importlib import import_module

    class _Later:
        """A module that is imported when something is asked of it."""

        def __init__(self, name: str) -> None:
            self._name = name
            self._module: Any = None

        def __getattr__(self, name: str) -> Any:
            # Kept once it is there: attacks ask for something many times a step.
            if self._module is None:
                self._module = import_module(self._name)
            return getattr(self._module, name)

        def __dir__(self) -> list[str]:
            return dir(import_module(self._name))

    class _ClassLater(type):
        """A class that stands for another one in hints and before ``isinstance``."""

        def __instancecheck__(cls, thing: object) -> bool:
            return isinstance(thing, cls._meant())

        def __eq__(cls, other: object) -> bool:
            # By name: what others annotate with the class itself is meant, and asks for no import.
            named = (getattr(other, "__module__", ""), getattr(other, "__name__", ""))
            return other is cls or (isinstance(other, type) and named == cls._names())

        __hash__ = type.__hash__

        def __getattr__(cls, name: str) -> Any:
            # Dunder names are looked for by whoever inspects a class: they are not worth an import.
            if name.startswith("__"):
                raise AttributeError(name)
            return getattr(cls._meant(), name)

        def _names(cls) -> tuple[str, str]:
            return cls._module, cls.__name__

        def _meant(cls) -> type:
            # Kept once it is there, as modules are.
            if cls._class is None:
                cls._class = getattr(import_module(cls._module), cls.__name__)
            return cls._class

    class Tensor(metaclass=_ClassLater):
        """Stands for ``torch.Tensor``."""

        _module, _class = "torch", None

    class RobustModel(metaclass=_ClassLater):
        """Stands for the class of this name, a ``torch.nn.Module``."""

        _module, _class = "robustmix.models.robust_model", None

    torch, nn, F = _Later("torch"), _Later("torch.nn"), _Later("torch.nn.functional")
    ndimage, optimize = _Later("scipy.ndimage"), _Later("scipy.optimize")
    sparse = _Later("scipy.sparse")
    special, Image = _Later("scipy.special"), _Later("PIL.Image")

__all__ = [
    "F", "Image", "RobustModel", "Tensor", "ndimage", "nn", "optimize", "sparse", "special",
    "torch",
]  # fmt: skip
