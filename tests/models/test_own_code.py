"""Networks of a user's own file: what is typed is run, what a file says is not."""

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustmix.cli.app import run
from robustmix.errors import IntakeError, RobustmixError, UsageError
from robustmix.export import export_model
from robustmix.models.checkpoint import save_checkpoint
from robustmix.models.load import load_model
from robustmix.models.names import ARCHS, own_name, split_stem
from robustmix.models.own_code import register_own
from robustmix.models.registry import blueprint, build_model
from robustmix.training.loop import train
from robustmix.training.recipe import Recipe
from robustmix.training.recipe_dict import recipe_to_dict
from tests.models.builders import checkpoint, images

SOURCE = '''
import torch
from torch import nn

import own_width


class Small(nn.Module):
    """One convolution and a linear layer."""

    def __init__(self, num_classes=10, width=own_width.WIDTH):
        super().__init__()
        self.first = nn.Conv2d(3, width, 3, 2, 1)
        self.second = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.second(self.first(x).relu().mean(dim=(2, 3)))


def small(num_classes):
    return Small(num_classes)


def by_place(classes):
    return Small(classes)


def any_words(**words):
    return Small(**words)


def seven():
    return Small(7)


def configured():
    net = Small(7)
    net.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    net.pretrained_cfg["input_size"] = (3, 16, 16)
    return net


def needs_more(num_classes, width):
    return Small(num_classes, width)


def raises(num_classes=10):
    return Small(num_classes).nothing  # the line 48


def number():
    return 3


class Fails(Small):
    def forward(self, x):
        return x @ torch.zeros(5)  # the line 57


value = 3
'''
SAID: dict[str, Any] = {"input_size": (3, 32, 32), "norm_preset": "half"}


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with ARCHS.temporary():
        yield
    for name in set(sys.modules) - modules:
        if name.startswith("own_"):
            del sys.modules[name]


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("nets").mkdir()
    Path("nets/own_width.py").write_text("WIDTH = 5\n")
    path = Path("nets/net.py")
    path.write_text(SOURCE)
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("factory", "given", "classes"),
    [
        ("Small", None, 10),
        ("Small", 4, 4),
        ("small", 4, 4),
        ("by_place", 4, 4),
        ("any_words", None, 10),
        ("any_words", 4, 4),
        ("seven", None, 7),
        ("seven", 7, 7),
    ],
)
def test_the_factory_is_given_the_number_of_classes_if_it_takes_it(
    net: Path, factory: str, given: int | None, classes: int
) -> None:
    model = load_model(f"module:{net}:{factory}", num_classes=given, **SAID)
    assert model(images()).shape == (3, classes)
    info = model.info
    assert (info.source, info.arch) == (f"module:net.py:{factory}",) * 2
    assert (info.format, info.sha256) == ("module", sha256(net))
    origin = ARCHS.origin(info.arch)
    assert origin is not None
    assert (origin.module, origin.version) == ("net.py", f"sha256:{sha256(net)}")


def test_its_weights_do_not_depend_on_what_was_drawn_before(net: Path) -> None:
    before = torch.get_rng_state()
    first = load_model(f"module:{net}:Small", **SAID)
    torch.rand(3)
    second = load_model(f"module:{net}:Small", **SAID)
    assert torch.equal(first(images()), second(images()))
    torch.set_rng_state(before)


def test_what_timm_would_write_on_it_is_believed(net: Path) -> None:
    model = load_model(f"module:{net}:configured")
    assert model.input_size == (3, 16, 16)
    assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])
    assert load_model(f"module:{net}:configured", **SAID).input_size == (3, 32, 32)


@pytest.mark.parametrize(
    ("name", "options", "kind", "message"),
    [
        ("nets/net.py:raises", SAID, IntakeError, "net.py, line 48: AttributeError: "),
        ("nets/net.py:Fails", SAID, IntakeError, "net.py, line 57: module:net.py:Fails fails on"),
        ("nets/net.py:number", SAID, IntakeError, "makes int, not a torch.nn.Module"),
        ("nets/net.py:small", SAID, UsageError, "needs num_classes"),
        ("nets/net.py:needs_more", {"num_classes": 3, **SAID}, UsageError, "needs width"),
        ("nets/net.py:seven", {"num_classes": 3, **SAID}, IntakeError, "has 7 classes, expected 3"),
        ("nets/net.py:smal", SAID, UsageError, "did you mean small?"),
        ("nets/net.py:value", SAID, UsageError, "is a int"),
        ("nets/none.py:small", SAID, UsageError, "there is no file or module nets/none.py"),
        ("own_nothing.at:all", SAID, UsageError, "there is no file or module own_nothing.at"),
        ("nets/net.py", SAID, UsageError, "names no network of yours"),
        ("nets/net.py:Small", {}, IntakeError, "its image size and normalisation; pass img_size"),
        ("nets/net.py:Small", {"arch": "resnet8"}, UsageError, "is an architecture already"),
    ],
)
def test_what_is_wrong_is_one_line(
    net: Path, name: str, options: dict[str, Any], kind: type[RobustmixError], message: str
) -> None:
    with pytest.raises(kind) as caught:
        load_model(f"module:{name}", **options)
    assert message in str(caught.value)
    assert "\n" not in caught.value.line()
    assert "own_code.py" not in caught.value.line()


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("x = 1\ndef f(:\n", "bad.py, line 2: SyntaxError"),
        ("\n\nraise KeyError('a')\n", "bad.py, line 3: KeyError: 'a'"),
        ("import sys\nsys.exit(0)\n", "bad.py, line 2: SystemExit: 0"),
        ("import own_absent\n", "bad.py, line 1: ModuleNotFoundError"),
    ],
)
def test_a_file_that_cannot_be_imported_names_the_line(net: Path, source: str, line: str) -> None:
    Path("bad.py").write_text(source)
    with pytest.raises(IntakeError) as caught:
        load_model("module:bad.py:f", **SAID)
    assert caught.value.message.startswith(line)
    assert caught.value.__cause__ is not None  # what --debug shows
    assert not any(name.endswith("_bad") for name in sys.modules)


def test_a_module_of_a_package(net: Path) -> None:
    Path("own_package").mkdir()
    Path("own_package/good.py").write_text(SOURCE)
    Path("own_width.py").write_text("WIDTH = 5\n")
    model = load_model("module:own_package.good:Small", num_classes=3, **SAID)
    assert model.info.arch == "module:own_package.good:Small"
    assert model.info.sha256 == sha256(Path("own_package/good.py"))
    Path("own_package/nets.py").write_text("raise OSError('x')")
    with pytest.raises(IntakeError, match=r"nets.py, line 1: OSError: x"):
        load_model("module:own_package.nets:make", **SAID)


def test_a_file_that_was_changed_is_read_again_and_another_of_its_name_refused(net: Path) -> None:
    first = load_model(f"module:{net}:Small", **SAID)
    net.write_text(SOURCE.replace("num_classes=10", "num_classes=11"))
    second = load_model(f"module:{net}:Small", **SAID)
    assert (first.num_classes, second.num_classes) == (10, 11)
    assert second.info.sha256 == sha256(net) != first.info.sha256
    Path("net.py").write_text(SOURCE)
    with pytest.raises(UsageError, match="the name of two files"):
        load_model("module:net.py:Small", **SAID)


# --- weights in a user's network


@pytest.mark.parametrize("factory", ["small", "seven"])
def test_weights_of_a_file_in_a_network_of_the_user(net: Path, factory: str) -> None:
    trained = load_model(f"module:{net}:seven", **SAID)
    state = {key: value + 0.01 for key, value in trained.net.state_dict().items()}
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, "w.pth")
    model = load_model("w.pth", arch=f"module:{net}:{factory}", **SAID)
    trained.net.load_state_dict(state)
    torch.testing.assert_close(model(images()), trained(images()))
    assert model.info.arch == f"module:net.py:{factory}"
    with pytest.raises(UsageError, match="which nobody can build from its name"):
        export_model(model, "safetensors", net.parent / "x.safetensors")
    with pytest.raises(IntakeError, match="does not say its image size"):
        load_model("w.pth", arch=f"module:{net}:{factory}", norm_preset="half")
    with pytest.raises(IntakeError, match="missing"):
        load_model("w.pth", arch="resnet8", **SAID)


def touching(target: Path) -> str:
    return f"open({str(target)!r}, 'w').close()\ndef make(num_classes=7): pass\n"


def test_no_file_can_name_code_that_runs(net: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    touched = tmp_path / "touched"
    Path("evil.py").write_text(touching(touched))
    name = "module:evil.py:make"
    origin = {"kind": "arch", "name": name, "module": "evil", "version": "1"}
    recipe = recipe_to_dict(Recipe(dataset="digits", arch=name, epochs=3))
    for number, plugins in enumerate([(), (origin,)]):
        hostile = checkpoint(arch=name, plugins=plugins, recipe=recipe, dataset="digits")
        save_checkpoint(Path(f"{number}.pth"), hostile)
    weights = {"first.weight": torch.ones(3)}
    save_file(weights, "header.safetensors", metadata={"arch": name})
    torch.save({"state_dict": weights, "arch": name}, "foreign.pth")
    Path("hub").mkdir()
    save_file(weights, "hub/model.safetensors")
    Path("hub/config.json").write_text(json.dumps({"architecture": name}))
    for file in ("0.pth", "1.pth", "header.safetensors", "foreign.pth", "hub"):
        with pytest.raises(RobustmixError):
            load_model(file, **SAID)
        assert run(["models", "inspect", file]) in (0, 3)
        assert run(["train", "--resume", file, "--out", "run"]) in (2, 3, 5)
        with pytest.raises(RobustmixError):
            train(None, out=Path("run"), resume=file)
    assert not touched.exists()
    with pytest.raises(IntakeError):  # typed, it runs
        load_model("0.pth", arch=name)
    assert touched.exists()


def test_names_are_none_before_they_are_typed(net: Path) -> None:
    for make in (build_model, blueprint):
        with pytest.raises(UsageError, match="unknown arch"):
            make(f"module:{net}:Small", num_classes=3, input_size=(3, 32, 32))
    register_own(f"module:{net}:Small")
    built = build_model(f"module:{net}:Small", num_classes=3, input_size=(3, 32, 32))
    assert isinstance(built, nn.Module)
    assert split_stem(f"module:{net}:Small") == (own_name(f"module:{net}:Small"), None)


# --- training


def trained(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    line = ["train", "--dataset", "digits", "--method", "mixup", "--epochs", "1", "--out", "run"]
    code = run([*line, *words])
    return code, capsys.readouterr().err


def test_training_and_what_its_checkpoint_says(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = trained(capsys, "--arch", f"module:{net}:seven")
    assert code == 3
    assert "module:net.py:seven gives 7 outputs for 10 classes" in told
    assert trained(capsys, "--arch", f"module:{net}:small")[0] == 0
    # The same file by another way is the same run.
    code, told = trained(capsys, "--arch", f"module:{net.resolve()}:small")
    assert code == 0
    assert "finished already" in told
    with ARCHS.temporary():
        ARCHS._rows.pop("module:net.py:small")  # as in a process in which it was not typed
        with pytest.raises(IntakeError) as caught:
            load_model("run/checkpoints/last.pth")
        assert f"came from module net.py version sha256:{sha256(net)}" in caught.value.message
        assert caught.value.hint == "say where it is: --arch module:PATH/net.py:small"
        model = load_model("run/checkpoints/last.pth", arch=f"module:{net}:small")
        assert model.info.notes == ()
    net.write_text(SOURCE + "\n")
    model = load_model("run/checkpoints/last.pth", arch=f"module:{net}:small")
    assert model.info.notes[0].startswith("W-PLUGIN: arch 'module:net.py:small' came from net.py")


def test_the_report_records_the_file(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dataset", "digits", "--limit", "8", "--suite", "clean", "--norm-preset", "half"]
    code = run(["eval", f"module:{net.resolve()}:Small", *words, "--img-size", "32", "--out", "r"])
    assert code == 0
    report = json.loads(Path("r/report.json").read_text())
    assert report["model"]["source"] == report["model"]["arch"] == "module:net.py:Small"
    assert report["model"]["sha256"] == sha256(net)
    (plugin,) = report["tool"]["plugins"]
    assert plugin["version"] == f"sha256:{sha256(net)}"
    assert str(net.parent.resolve()) not in Path("r/report.json").read_text()
    assert run(["report", "validate", "r"]) == 0
