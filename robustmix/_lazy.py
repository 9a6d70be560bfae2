"""Public names that are imported on first use, so that listing and helping need no torch."""

import importlib
import sys
from collections.abc import Callable, Mapping


def lazy_exports(package: str, exports: Mapping[str, str]) -> Callable[[str], object]:
    """Return a module ``__getattr__`` (PEP 562) that imports each public name on first use.

    Args:
        package: the importing package, its ``__name__``.
        exports: public name -> module that defines it.

    Example:
        >>> load = lazy_exports("robustmix", {"write_text": "robustmix.files"})
        >>> load("write_text").__name__
        'write_text'
    """

    def load(name: str) -> object:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value: object = getattr(importlib.import_module(exports[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    return load
