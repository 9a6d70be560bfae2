import os
import subprocess
import sys
from pathlib import Path

import pytest

import robustmix

LINKED = ("attacks", "corruptions", "cli", "data_manifests")


@pytest.mark.parametrize("folder", LINKED)
def test_linked_folder_is_one_module(folder: str) -> None:
    inside = Path(robustmix.__file__).parent / folder
    assert inside.is_dir(), f"robustmix/{folder} is not a directory: are symlinks checked out?"
    if inside.is_symlink():  # a checkout; an installed wheel holds real folders
        assert os.readlink(inside) == f"../{folder}"
    assert not {name for name in sys.modules if name.partition(".")[0] == folder}


def test_public_names_exist_and_no_more() -> None:
    for name in robustmix.__all__:
        assert getattr(robustmix, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = robustmix.nonsense


LAYERS = ["attacks", "corruptions"]
LEAVES = {"errors", "files", "rng", "types", "_lazy"}


@pytest.mark.parametrize("folder", LAYERS)
def test_attacks_and_corruptions_import_only_leaves(folder: str) -> None:
    """A stranger can use them alone: of ours they import only modules without dependencies."""
    for path in sorted((Path(robustmix.__file__).parent / folder).glob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] == ["from"] and words[1].startswith("robustmix."):
                top = words[1].split(".")[1]
                assert top in LEAVES | {folder}, f"{path.name} imports {words[1]}"


def test_help_and_lists_do_not_import_torch() -> None:
    code = """
import sys
from robustmix.cli.app import run
assert run(["--help"]) == 0
for command in (
    *("train", "eval", "calibrate", "compare", "check", "report"),
    *("demo", "doctor", "list", "methods", "corrupt"),
):
    assert run([command, "--help"]) == 0
for kind in ("archs", "attacks", "corruptions", "datasets", "methods", "recipes", "suites"):
    assert run(["list", kind]) == 0
assert run(["methods", "list"]) == 0
assert run(["methods", "info", "adautomix"]) == 0
heavy = {"torch", "torchvision", "timm", "scipy", "sklearn", "matplotlib", "pandas"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
