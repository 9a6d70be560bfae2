import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import robustmix
from tests.imports import ROOT, circles, graph, modules

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
LEAVES = {"errors", "files", "later", "rng", "types", "upload", "_lazy", "tables"}


@pytest.mark.parametrize("folder", LAYERS)
def test_attacks_and_corruptions_import_only_leaves(folder: str) -> None:
    """A stranger can use them alone: of ours they import only modules without dependencies."""
    for path in sorted((Path(robustmix.__file__).parent / folder).glob("*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] == ["from"] and words[1].startswith("robustmix."):
                top = words[1].split(".")[1]
                assert top in LEAVES | {folder}, f"{path.name} imports {words[1]}"


def test_the_search_for_circles_finds_them() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set[str]()}
    assert [sorted(group) for group in circles(edges)] == [["a", "b", "c"]]


def test_no_modules_import_each_other_not_even_inside_functions() -> None:
    edges = graph()
    assert len(edges) > 200
    assert edges["robustmix.report.report"] >= {"robustmix.report.schema", "robustmix.files"}
    assert circles(edges) == []


FORBIDDEN = {
    "report": ("comparison", "evaluation", "pages", "cli"),
    "metrics": ("comparison", "evaluation", "pages", "cli", "models"),
    "evaluation": ("comparison", "pages", "cli"),
    "comparison": ("pages", "cli"),
    "saliency": ("comparison", "evaluation", "report", "pages", "cli"),
    "methods": ("comparison", "evaluation", "report", "pages", "cli"),
}
"""Dependencies point one way: a folder -> those that it must not import."""


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_dependencies_point_one_way(folder: str) -> None:
    inside = f"robustmix.{folder}."
    wrong = {
        f"{name} imports {other}"
        for name, others in graph().items()
        if (name + ".").startswith(inside)
        for other in others
        if other.split(".")[1:2] and other.split(".")[1] in FORBIDDEN[folder]
    }
    assert not wrong


KINDS_TESTED = re.compile(r"isinstance\([^()]*\b\w*(Part|Suite|Prepared\w*)\b")


def test_only_suites_know_what_kind_of_suite_there_is() -> None:
    """Whoever else asked would not know of the next one."""
    assert KINDS_TESTED.search("isinstance(part, AttackPart)")
    assert KINDS_TESTED.search("isinstance(one.suite, FgsmSuite | PgdSuite)")
    suites = ROOT / "evaluation" / "suites"
    asking = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in modules().values()
        if not path.is_relative_to(suites)
        for line in path.read_text(encoding="utf-8").splitlines()
        if KINDS_TESTED.search(line)
    ]
    assert asking == []


def test_help_and_lists_do_not_import_torch() -> None:
    code = """
import sys
from robustmix.cli.app import run
assert run(["--help"]) == 0
for command in (
    *("train", "eval", "calibrate", "export", "compare", "check", "report", "table"),
    *("demo", "doctor", "list", "methods", "corrupt", "data"),
):
    assert run([command, "--help"]) == 0
from robustmix.cli.listing import KINDS
for kind in KINDS:
    assert run(["list", kind]) == 0
assert run(["methods", "list"]) == 0
assert run(["data", "list"]) == 0
assert run(["data", "info", "imagenet-1k"]) == 0
assert run(["methods", "info", "adautomix"]) == 0
heavy = {"torch", "torchvision", "timm", "scipy", "sklearn", "matplotlib", "pandas"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
