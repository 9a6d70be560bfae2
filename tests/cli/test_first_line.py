"""Who presses Enter or Tab is answered before torch is imported, which takes seconds."""

import json
import subprocess
import sys

import pytest

from robustmix.cli import completion
from robustmix.cli.completion import complete

HEAVY = """
import importlib.abc, json, os, sys

class Reached(BaseException):
    pass

class Wall(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "matplotlib", "scipy"):
            raise Reached(name)

sys.meta_path.insert(0, Wall())
sys.argv[:1] = ["robustmix"]
from robustmix.cli import console
from robustmix.cli.app import run
"""
"""What takes long to import cannot be imported: that it was asked for is all there is to see."""

LONG = {
    "eval m.pth": "evaluating m.pth ...",
    "train digits-resnet8-mixup": "training ...",
    "train digits-resnet8-mixup --dry-run": "planning the training ...",
    "study run quick": "study quick ...",
    "calibrate m.pth": "calibrating m.pth ...",
    "export m.pth --to onnx": "exporting m.pth ...",
    "models inspect m.pth": "inspecting m.pth ...",
    "corrupt generate --dataset digits --out c": "corrupting digits ...",
    "corrupt verify c": "verifying c ...",
    "corrupt preview": "drawing corruptions ...",
    "methods preview --out m.png": "drawing methods ...",
    "saliency make --model m.pth --source gradcam --out m.npz": "making saliency maps ...",
    "saliency preview m.npz": "drawing saliency maps ...",
    "data verify digits": "verifying digits ...",
    "report html a": "making a page ...",
    "compare a b": "comparing ...",
    "demo": "demo ...",
    "doctor": "examining this installation ...",
}
"""Commands that take long, and the first line of each."""


def outcome(code: str, *words: str) -> object:
    done = subprocess.run(
        [sys.executable, "-c", HEAVY + code, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_long_command_says_that_it_begins_before_it_imports_what_takes_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    code = """
found = {}
for line in sys.argv[1:]:
    told = []
    console.say = told.append
    console.error = lambda line: told.append("wall" if "Reached" in line else line)
    run(line.split())
    found[line] = told[:2]
print(json.dumps(found))
"""
    found = outcome(code, *LONG)
    reached = {"study run quick", "compare a b", "report html a"}  # need it later or never
    assert found == {
        line: [first, *(found[line][1:] if line in reached else ["wall"])]  # type: ignore[index]
        for line, first in LONG.items()
    }


TABS = {
    "robustmix ev": ["eval"],
    "robustmix eval m.pth --suite clean,fg": ["clean,fgsm"],
    "robustmix eval m.pth --protocol sta": ["standard"],
    "robustmix eval m.pth --dataset cifar100": ["cifar100"],
    "robustmix train digits-resnet8-cutm": ["digits-resnet8-cutmix"],
    "robustmix train --method adaut": ["adautomix"],
    "robustmix train --arch resnet8": ["resnet8"],
    "robustmix methods info automi": ["automix"],
    "robustmix recipes show digits-resnet8-cutm": ["digits-resnet8-cutmix"],
    "robustmix study run poster-t1": ["poster-t1"],
    "robustmix data info inaturalist-2017": ["inaturalist-2017"],
    "robustmix list sui": ["suites"],
}
"""What is typed before Tab, and what the shell is given."""


def test_names_are_completed_without_what_takes_long() -> None:
    code = """
import io
found = {}
for line in sys.argv[1:]:
    words = line.split(" ")
    os.environ.update(_ROBUSTMIX_COMPLETE="complete_bash", COMP_WORDS=line)
    os.environ["COMP_CWORD"] = str(len(words) - 1)
    sys.stdout = io.StringIO()
    code = run([])
    told, sys.stdout = sys.stdout.getvalue(), sys.__stdout__
    found[line] = [code, told.split()]
print(json.dumps(found))
"""
    found = outcome(code, *TABS)
    assert found == {line: [0, names] for line, names in TABS.items()}


@pytest.mark.parametrize(
    ("names", "typed", "given"),
    [
        (completion.suites, "fg", ["fgsm"]),
        (completion.suites, "clean,autoa", ["clean,autoattack"]),
        (completion.suites, "nothing", []),
        (completion.datasets, "folder", ["folder:"]),
    ],
)
def test_the_last_of_several_names_is_completed(
    names: completion.Names, typed: str, given: list[str]
) -> None:
    assert complete(names, several=True)(typed) == given
