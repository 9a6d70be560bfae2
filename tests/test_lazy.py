"""The packages' public names: written once, all there, and imported on first use only."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

import robustmix

FOLDER = Path(robustmix.__file__).parent

INITS = [FOLDER / "__init__.py", *sorted(FOLDER.glob("*/__init__.py"))]

PACKAGES = {
    ".".join(("robustmix", *path.parent.relative_to(FOLDER).parts)): path.read_text("utf-8")
    for path in INITS
    if "lazy_exports_of" in path.read_text("utf-8")
}
"""Package -> source of its ``__init__``."""

BESIDES = {"robustmix": ["__version__"]}
"""Public names that no import gives."""


def listed(package: str) -> dict[str, str]:
    """Public name -> module; all imports of the block are of the form that exports a name."""
    _, block = PACKAGES[package].split("if TYPE_CHECKING:\n")
    unwrapped = re.sub(r"\(\n +(.+),\n +\)", r"\1", block)  # of names too long for one line
    lines = [line for line in unwrapped.splitlines() if line.startswith("    ")]
    found = [re.fullmatch(r"    from (\S+) import (\w+) as \2", line) for line in lines]
    assert all(found), lines[found.index(None)]
    return {match[2]: match[1] for match in found if match}


def test_the_packages_that_show_names_are_found() -> None:
    shown = {"attacks", "corruptions", "data", "methods", "metrics", "models", "training"}
    assert PACKAGES.keys() >= {"robustmix", *(f"robustmix.{name}" for name in shown)}
    assert not [path for path in INITS if "__all__ = [\n" in path.read_text("utf-8")]


def described(thing: object) -> tuple[object, ...]:
    """Say what something is without asking whether it is the very same object."""
    names = [getattr(thing, name, None) for name in ("__module__", "__qualname__")]
    return (type(thing).__qualname__, *names, None if names[1] else str(thing)[:20])


@pytest.mark.parametrize("package", PACKAGES)
def test_names_are_those_that_type_checkers_see(package: str) -> None:
    module, names = import_module(package), listed(package)
    assert module.__all__ == [*sorted(names), *BESIDES.get(package, [])]
    assert set(module.__all__) <= set(dir(module))
    for name, source in names.items():
        if source == package:
            assert getattr(module, name) is import_module(f"{package}.{name}")
        else:
            shown, defined = getattr(module, name), getattr(import_module(source), name)
            # Or the same by name: a test before this one may have imported its module anew.
            assert shown is defined or described(shown) == described(defined)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nonsense'"):
        module.nonsense  # noqa: B018


def test_importing_and_listing_need_no_torch() -> None:
    code = f"""
import sys
from importlib import import_module
for package in {list(PACKAGES)}:
    assert dir(import_module(package))
heavy = {{"torch", "torchvision", "timm", "scipy", "sklearn", "matplotlib", "pandas"}}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


TOY = """
from typing import TYPE_CHECKING
from robustmix._lazy import lazy_exports_of
if TYPE_CHECKING:
    from lazytoy import part as part
    from lazytoy.same import same as same
__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
"""


@pytest.mark.parametrize("archive", [False, True])
def test_a_name_that_its_file_shares_is_what_the_file_defines(
    archive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"__init__": TOY, "part": "", "same": "def same(): return 7"}
    if archive:
        with ZipFile(tmp_path / "toy.zip", "w") as packed:
            for name, text in files.items():
                packed.writestr(f"lazytoy/{name}.py", text)
    else:
        (tmp_path / "lazytoy").mkdir()
        for name, text in files.items():
            (tmp_path / "lazytoy" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path / "toy.zip" if archive else tmp_path)
    try:
        toy = import_module("lazytoy")
        assert toy.__all__ == ["part", "same"]
        assert isinstance(import_module("lazytoy.same"), ModuleType)
        assert toy.same() == 7  # not the module, although that was imported first
        assert isinstance(toy.part, ModuleType)
        # Completion offers these, not what was imported to make them.
        assert [one for one in dir(toy) if not one.startswith("__")] == ["part", "same"]
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "lazytoy"]:
            del sys.modules[name]
