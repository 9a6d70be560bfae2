"""Public names that are imported on first use, so that listing and helping need no torch."""

import ast
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple, cast


class LazyExports(NamedTuple):
    """What a package whose names are imported on first use is given."""

    getattr: Callable[[str], object]
    """Its ``__getattr__`` (PEP 562)."""

    dir: Callable[[], list[str]]
    """Its ``__dir__``."""

    all: list[str]
    """Its ``__all__``."""


def lazy_exports_of(package: str) -> LazyExports:
    """Make the names that a package imports ``if TYPE_CHECKING:`` importable on first use.

    That block is the only list of them: type checkers see it, and here it is read from the
    package's source, which takes a millisecond. ``from robustmix import attacks as attacks`` in it
    makes a sub-package one of the names.

    An algorithm and its file share their name (``fgsm`` in ``fgsm.py``). Importing the file would
    bind the module to that name in the package; here the public name stays the function, whichever
    of the two is imported first.

    Args:
        package: the importing package, its ``__name__``.

    Example:
        ``__getattr__, __dir__, __all__ = lazy_exports_of(__name__)``, below the block.
    """
    module = sys.modules[package]
    # The loader, not the file: it can read zip archives too.
    source = cast(Any, module.__spec__).loader.get_source(package)
    exports = dict(_imported(ast.parse(source)))
    names = sorted(exports)

    class LazyPackage(ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            defined_elsewhere = exports.get(name, package) != package
            if not (defined_elsewhere and isinstance(value, ModuleType)):
                super().__setattr__(name, value)

    module.__class__ = LazyPackage

    def load(name: str) -> object:
        if name not in exports:
            # With both, Python's traceback says which name was meant.
            raise AttributeError(
                f"module {package!r} has no attribute {name!r}", name=name, obj=module
            )
        if exports[name] == package:
            return importlib.import_module(f"{package}.{name}")
        value: object = getattr(importlib.import_module(exports[name]), name)
        setattr(module, name, value)
        return value

    def listed() -> list[str]:
        # What completion offers: no modules that happen to be loaded, no names of this file's.
        return sorted({*names, *(one for one in vars(module) if one.startswith("__"))})

    return LazyExports(load, listed, names)


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield name and module of everything imported in a block ``if TYPE_CHECKING:``."""
    for block in tree.body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            for node in block.body:
                if isinstance(node, ast.ImportFrom):
                    yield from ((alias.name, str(node.module)) for alias in node.names)
