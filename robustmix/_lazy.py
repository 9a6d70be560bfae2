"""Public names that are imported on first use, so that listing and helping need no torch."""

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType


def lazy_exports(package: str, exports: Mapping[str, str]) -> Callable[[str], object]:
    """Return a module ``__getattr__`` (PEP 562) that imports each public name on first use.

    An algorithm and its file share their name (``fgsm`` in ``fgsm.py``). Importing the file would
    bind the module to that name in the package; here the public name stays the function, whichever
    of the two is imported first.

    Args:
        package: the importing package, its ``__name__``.
        exports: public name -> module that defines it.

    Example:
        >>> load = lazy_exports("robustmix", {"write_text": "robustmix.files"})
        >>> load("write_text").__name__
        'write_text'
    """

    class LazyPackage(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            if not (name in exports and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    module = sys.modules[package]
    module.__class__ = LazyPackage

    def load(name: str) -> object:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(exports[name]), name)
        setattr(module, name, value)
        return value

    return load
