"""``~`` begins a path of the user's home in Python too, in everything public that takes a path."""

import importlib
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import robustmix
from robustmix import corruptions, data, models, recipes, register, saliency, studies
from robustmix.data.manifests import DATASETS
from robustmix.doctor.machine import find_data
from robustmix.errors import RobustmixError
from robustmix.files import expanded
from robustmix.loggers import Hook, Log, RunFinished, RunStarted, log_to
from robustmix.report.samples import Samples
from robustmix.testing import assert_no_regression
from tests.models.builders import checkpoint, state

PACKAGE = Path(robustmix.__file__).resolve().parent
DOCS = PACKAGE.parent / "docs" / "api"
PATH = re.compile(r"\bPath\b")

NO_PLACE = {
    "robustmix.corruptions.cifar_c.CifarC": "what open() gives",
    "robustmix.evaluation.suite.Scene": "made by evaluate",
    "robustmix.export.exported.Exported": "what export_model gives",
    "robustmix.loggers.events.RunStarted": "made by train and evaluate",
    "robustmix.loggers.memory.Memory": "made by a log",
    "robustmix.loggers.memory.Memory.of": "called by a log",
    "robustmix.training.loop.TrainResult": "what train gives",
}
"""Who takes paths that no caller writes, and why."""


def named(where: str) -> Any:
    """Return what a page of the reference names."""
    parts = where.split(".")
    for count in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(where)


def with_paths() -> set[str]:
    """Return ``CALLABLE:ARGUMENT`` of all documented arguments that are paths."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    called: dict[str, Any] = {}
    for where in re.findall(r"^::: (robustmix\.\S+)", text, re.M):
        found = named(where)
        if callable(found):
            called[where] = found
        if inspect.isclass(found):
            own = [name for name in vars(found) if not name.startswith("_")]
            called |= {f"{where}.{name}": getattr(found, name) for name in own}
    return {
        f"{where}:{name}"
        for where, found in called.items()
        if callable(found) and where not in NO_PLACE
        for name, parameter in _parameters(found).items()
        if PATH.search(str(parameter.annotation))
    }


def _parameters(found: Any) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(found).parameters)
    except ValueError:  # of a type such as tuple
        return {}


Case = Callable[[Path], object]


def looks_in(act: Callable[[], object], code: str) -> Case:
    """Make a case of a call that must miss a file, and say that it looked in the home."""

    def case(home: Path) -> None:
        with pytest.raises(RobustmixError) as caught:
            act()
        assert caught.value.code == code
        assert str(home / "absent") in caught.value.message + caught.value.hint

    return case


def evaluated(home: Path) -> None:
    models.save_checkpoint(
        Path("~/last.pth"), checkpoint(num_classes=10, class_names=(), model=state(0, classes=10))
    )
    assert (home / "last.pth").is_file()
    report = robustmix.evaluate("~/last.pth", "digits", ["clean"], out="~/run", limit=9)
    assert (home / "run" / "report.json").is_file()
    report.save("~/saved")
    assert robustmix.Report.load("~/saved/report.json").samples is not None
    assert report.samples is not None
    report.samples.save(Path("~/alone.npz"))
    assert Samples.load(Path("~/alone.npz")).rows == report.samples.rows
    assert robustmix.compare("~/run", "~/saved").comparisons
    (home / "rules.toml").write_text(
        '[[rule]]\nmetric = "clean.top1"\nkind = "no-drop"\ntolerance = "1pp"\n'
    )
    assert robustmix.check("~/run", "~/saved", "~/rules.toml").exit_code == 0
    assert_no_regression("~/run", "~/saved", "~/rules.toml")
    assert robustmix.table("~/run").rows
    assert len(studies.read_results(["~/run", "~/saved"]).results) == 2


def trained(home: Path) -> None:
    done = robustmix.train(
        "digits-resnet8-vanilla", out="~/run", epochs=1, limit_train=9, limit_val=9, device="cpu"
    )
    assert done.last.is_relative_to(home / "run")
    last = f"~/{done.last.relative_to(home)}"
    assert robustmix.train(out="~/run", resume=last, device="cpu").already
    again = robustmix.train("~/run/recipe.toml", out="~/again", weights=last, device="cpu")
    assert again.last.is_relative_to(home / "again")
    missing = Path("~/absent")
    looks_in(
        lambda: robustmix.train("cifar10-resnet18-mixup", out="~/c", data_dir=missing), "E-DATA"
    )(home)


def exported(home: Path) -> None:
    models.save_checkpoint(home / "last.pth", checkpoint())
    assert robustmix.export_model("~/last.pth", "safetensors").path.parent == home
    done = robustmix.export_model(home / "last.pth", "safetensors", "~/out.safetensors")
    assert done.path == home / "out.safetensors"
    looks_in(
        lambda: robustmix.export_model("~/last.pth", "hf", "~/hf", report="~/absent"), "E-INTAKE"
    )(home)


def class_maps(home: Path) -> None:
    (home / "map.csv").write_text("".join(f"{i},{i % 2}\n" for i in range(7)))
    models.save_checkpoint(home / "last.pth", checkpoint())
    assert models.read_checkpoint(Path("~/last.pth")).num_classes == 7
    for given in ("~/map.csv", Path("~/map.csv")):
        assert robustmix.load_model("~/last.pth", class_map=given).num_classes == 2


def own_code(home: Path) -> None:
    (home / "net.py").write_text(
        "from torch import nn\n"
        "def make(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(48, num_classes))\n"
    )
    model = robustmix.load_model(
        "module:~/net.py:make", num_classes=3, input_size=(3, 4, 4), norm_preset="cifar10"
    )
    assert model.num_classes == 3


def recipe_files(home: Path) -> None:
    recipes.write_recipe(Path("~/a.toml"), recipes.load_recipe("digits-resnet8-mixup"))
    assert (home / "a.toml").is_file()
    assert recipes.load_recipe("~/a.toml") == recipes.resolve_recipe(file=Path("~/a.toml"))


def study_files(home: Path) -> None:
    (home / "s.toml").write_bytes((PACKAGE / "studies" / "quick.toml").read_bytes())
    assert studies.read_study("~/s.toml").title == studies.read_study("quick").title


def maps_and_regions(home: Path) -> None:
    some = data.load_dataset("digits", "test").subset(torch.arange(2))
    saliency.save_maps(Path("~/m.npz"), some.sample_ids, np.ones((2, 2, 2), dtype=np.float32))
    assert (home / "m.npz").is_file()
    assert len(saliency.load_maps(Path("~/m.npz")).places) == 2
    assert saliency.load_regions(Path("~/m.npz"), some).masks is not None
    (home / "boxes.csv").write_text("a,1,2,3,4\n")
    assert saliency.load_true_boxes(Path("~/boxes.csv"), ["a"]).of
    (home / "masks").mkdir()
    assert saliency.load_true_masks(Path("~/masks"), ["a"]).name == "masks"


def logs(home: Path) -> None:
    hooks: list[Hook] = [log_to("csv", folder="~/log0"), Log("csv", folder="~/log1")]
    for number, log in enumerate(hooks):
        log(RunStarted(kind="train", name="a", folder=None, run_id="a", config={}))
        log(RunFinished(status="done"))
        assert (home / f"log{number}").is_dir()


def data_folders(home: Path) -> None:
    place = Path("~/absent")
    assert data.data_folder(place) == home / "absent"
    assert data.verify_dataset("cifar10", place).root == home / "absent"
    looks_in(lambda: data.load_dataset("cifar10", "test", data_dir=place), "E-DATA")(home)
    model = robustmix.load_model("robustmix:resnet8", num_classes=10, norm_preset="cifar10")
    looks_in(lambda: robustmix.evaluate(model, "cifar10", data_dir="~/absent"), "E-DATA")(home)


def looked_for_data(home: Path) -> None:
    (home / "data" / "fgvc-aircraft-2013b" / "data").mkdir(parents=True)
    assert find_data(Path("~/data")) == find_data(home / "data")


def own_manifest(home: Path) -> None:
    known = json.loads((PACKAGE / "data_manifests" / "digits.json").read_text())
    (home / "m.json").write_text(json.dumps({**known, "name": "mine"}))
    with DATASETS.temporary():
        register.dataset("mine", lambda *_: None, manifest="~/m.json")
        assert "mine" in DATASETS


def corrupted(home: Path) -> None:
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    looks_in(
        lambda: corruptions.corrupt(images, "frost", 1, sample_ids=["a"], frost_dir="~/absent"),
        "E-FROST",
    )(home)
    looks_in(lambda: corruptions.CifarC.open(Path("~/absent"), dataset="cifar10"), "E-INTAKE")(home)


def options(home: Path) -> None:
    """Files of which an option of a suite speaks."""
    model = robustmix.load_model("robustmix:resnet8", num_classes=10, norm_preset="cifar10")
    looks_in(
        lambda: robustmix.evaluate(model, "digits", ["corruption"], frost_dir="~/absent"), "E-FROST"
    )(home)


COVERED: dict[Case, set[str]] = {
    evaluated: {
        "robustmix.comparison.check.check:baseline",
        "robustmix.comparison.check.check:report",
        "robustmix.comparison.check.check:rules",
        "robustmix.comparison.compare.compare:a",
        "robustmix.comparison.compare.compare:others",
        "robustmix.evaluation.evaluate.evaluate:model",
        "robustmix.evaluation.evaluate.evaluate:out",
        "robustmix.models.checkpoint.save_checkpoint:path",
        "robustmix.report.report.Report.load:path",
        "robustmix.report.report.Report.save:folder",
        "robustmix.report.samples.Samples.load:path",
        "robustmix.report.samples.Samples.save:path",
        "robustmix.studies.results.read_results:places",
        "robustmix.studies.side_by_side.table:places",
        "robustmix.testing.assert_no_regression:baseline",
        "robustmix.testing.assert_no_regression:report",
        "robustmix.testing.assert_no_regression:rules",
    },
    trained: {
        "robustmix.training.loop.train:data_dir",
        "robustmix.training.loop.train:out",
        "robustmix.training.loop.train:recipe",
        "robustmix.training.loop.train:resume",
    },
    exported: {
        "robustmix.export.export.export_model:model",
        "robustmix.export.export.export_model:out",
        "robustmix.export.export.export_model:report",
    },
    class_maps: {
        "robustmix.models.checkpoint.read_checkpoint:path",
        "robustmix.models.load.load_model:class_map",
        "robustmix.models.load.load_model:source",
    },
    own_code: set(),
    options: set(),
    recipe_files: {
        "robustmix.training.recipe_dict.write_recipe:path",
        "robustmix.training.resolve.load_recipe:source",
        "robustmix.training.resolve.resolve_recipe:file",
    },
    study_files: {"robustmix.studies.study.read_study:source"},
    maps_and_regions: {
        "robustmix.saliency.from_file.load_maps:path",
        "robustmix.saliency.from_file.save_maps:path",
        "robustmix.saliency.object_regions.load_regions:path",
        "robustmix.saliency.true_boxes.load_true_boxes:path",
        "robustmix.saliency.true_masks.load_true_masks:folder",
    },
    logs: {"robustmix.loggers.log.Log:folder", "robustmix.loggers.log.log_to:folder"},
    data_folders: {
        "robustmix.data.datasets.load_dataset:data_dir",
        "robustmix.data.location.data_folder:data_dir",
        "robustmix.data.verify.verify_dataset:data_dir",
        "robustmix.evaluation.evaluate.evaluate:data_dir",
    },
    looked_for_data: {"robustmix.doctor.run.examine:data_dir"},
    own_manifest: {"robustmix.data.manifests.DatasetRow:manifest"},
    corrupted: {
        "robustmix.corruptions.cifar_c.CifarC.open:folder",
        "robustmix.corruptions.corrupt.corrupt:frost_dir",
    },
}
"""What each case calls with ``~``."""


@pytest.mark.parametrize("case", COVERED, ids=lambda case: case.__name__)
def test_a_path_that_begins_with_a_tilde_is_below_the_home(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    case(tmp_path / "home")
    assert not list((tmp_path / "here").iterdir())


def test_every_public_argument_that_is_a_path_is_tried() -> None:
    tried = [one for names in COVERED.values() for one in names]
    assert sorted(tried) == sorted(with_paths())


def test_a_user_who_is_not_there_stays_a_name() -> None:
    assert expanded("~nobody-of-this-name/a") == Path("~nobody-of-this-name/a")
