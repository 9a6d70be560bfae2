"""Whole classifiers in other programs' forms, run there."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from torch import Tensor, nn

from robustmix.cli.app import run
from robustmix.errors import IncompleteError, UsageError
from robustmix.export import EXPORTS, export_model
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


class Small(nn.Module):
    """A network that knows whether its images were normalised."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        pooled: Tensor = self.convolution(x).relu().mean(dim=(2, 3))
        logits: Tensor = self.last(pooled)
        return logits


def small(**more: object) -> RobustModel:
    torch.manual_seed(0)
    options = {"num_classes": 5, "input_size": (3, 11, 17), **more}
    return RobustModel(Small(), mean=MEAN, std=STD, **options)  # type: ignore[arg-type]


def pixels(n: int, size: tuple[int, int] = (11, 17)) -> Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(9))


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def in_onnx_runtime(path: Path, images: Tensor) -> Tensor:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def in_torch(path: Path, images: Tensor) -> Tensor:
    logits: Tensor = torch.jit.load(str(path))(images)  # type: ignore[no-untyped-call]
    return logits


JIT = "ignore:.*torch.jit.*:FutureWarning"


@pytest.mark.filterwarnings(JIT, "ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize("normalisation", ["inside", "beside"])
def test_torchscript_gives_the_model_s_logits(normalisation: str, tmp_path: Path) -> None:
    robust = small()
    done = export_model(robust, "torchscript", tmp_path / "a.ts", normalisation=normalisation)
    images = pixels(7)
    given = images if normalisation == "inside" else normalised(images)
    torch.testing.assert_close(in_torch(done.path, given), robust(images), rtol=0, atol=1e-6)
    other = normalised(images) if normalisation == "inside" else images
    assert not torch.allclose(in_torch(done.path, other), robust(images), atol=1e-3)
    assert ("mean" in done.written.settings) == (normalisation == "beside")


@pytest.mark.filterwarnings(JIT, "ignore:.*torch.jit.*:DeprecationWarning")
def test_class_map_temperature_and_size_are_in_the_program(tmp_path: Path) -> None:
    robust = small(num_classes=3, class_map=[2, -1, 0, 1, 2], temperature=1.7, resize=(20, 9))
    done = export_model(robust, "torchscript", tmp_path / "a.ts")
    images = pixels(6)
    expected = robust(images)
    assert expected.shape == (6, 3)
    torch.testing.assert_close(in_torch(done.path, images), expected, rtol=1e-5, atol=1e-5)


def test_onnx_runtime_gives_the_model_s_logits_for_any_batch(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    robust = small(num_classes=3, class_map=[2, -1, 0, 1, 2], temperature=1.7)
    done = export_model(robust, "onnx", tmp_path / "a.onnx")
    for n in (1, 2, 7):
        images = pixels(n)
        torch.testing.assert_close(
            in_onnx_runtime(done.path, images), robust(images), rtol=1e-4, atol=1e-4
        )
    assert done.written.settings["logits"] == ["batch", 3]
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", "a.onnx.json"}


@pytest.mark.parametrize("fails", [False, True], ids=["other logits", "no program"])
def test_a_program_that_is_not_the_model_is_not_kept(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def traced(program: nn.Module, example: Tensor, **_: object) -> torch.jit.ScriptModule:
        if fails:
            raise RuntimeError("data-dependent\n\nlong " * 50)
        net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 11 * 17, 5))
        made: torch.jit.ScriptModule = trace(net, example)  # type: ignore[no-untyped-call]
        return made

    trace = torch.jit.trace
    monkeypatch.setattr(torch.jit, "trace", traced)
    message = "cannot be written as TorchScript: data-dep" if fails else "gives other logits"
    with pytest.raises(IncompleteError, match=message) as caught:
        export_model(small(), "torchscript", tmp_path / "a.ts")
    assert len(caught.value.message) < 400
    assert list(tmp_path.iterdir()) == []


def test_safetensors_say_of_what_network_they_are(tmp_path: Path) -> None:
    options = {"num_classes": 6, "input_size": (3, 32, 32), "mean": MEAN, "std": STD}
    robust = load_model("robustmix:resnet8", **options)  # type: ignore[arg-type]
    done = export_model(robust, "safetensors", tmp_path / "a.safetensors")
    with safe_open(done.path, "pt") as file:
        assert file.metadata()["arch"] == "resnet8-cifar"
        np.testing.assert_array_equal(
            file.get_tensor("conv1.weight"), robust.net.state_dict()["conv1.weight"]
        )
    again = load_model(done.path)  # with no word more
    images = pixels(4, (32, 32))
    assert torch.equal(again(images), robust(images))
    assert again.info.arch == "resnet8"


def test_timm_takes_the_folder(tmp_path: Path) -> None:
    robust = load_model("timm:resnet10t", num_classes=4, mean=MEAN, std=STD)
    done = export_model(robust, "timm", tmp_path / "folder")
    theirs = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    images = pixels(2, robust.input_size[1:])
    torch.testing.assert_close(theirs(normalised(images)), robust(images), rtol=0, atol=1e-5)
    assert theirs.pretrained_cfg["mean"] == list(MEAN)
    assert theirs.pretrained_cfg["num_classes"] == 4
    again = load_model(done.path)
    assert torch.equal(again(images), robust(images))


@pytest.mark.parametrize("to", ["safetensors", "timm", "hf"])
def test_what_weights_alone_do_not_hold_is_refused(to: str, tmp_path: Path) -> None:
    own = load_model(Small(), num_classes=5, input_size=(3, 8, 8), mean=MEAN, std=STD)
    with pytest.raises(UsageError, match="module of your own"):
        export_model(own, to, tmp_path / to)
    named = load_model("robustmix:resnet8", num_classes=3, mean=MEAN, std=STD)
    if to == "timm":
        with pytest.raises(UsageError, match="timm builds no network called resnet8"):
            export_model(named, to, tmp_path / to)
    named.class_map = torch.tensor([0, 2, 1])
    with pytest.raises(UsageError, match="do not hold the class map"):
        export_model(named, to, tmp_path / to)
    named.class_map, named.resize = None, (40, 40)
    with pytest.raises(UsageError, match="do not hold the resizing"):
        export_model(named, to, tmp_path / to)
    named.resize, named.temperature = None, torch.tensor(2.0)
    with pytest.raises(UsageError, match="do not hold the temperature"):
        export_model(named, to, tmp_path / to)
    assert list(tmp_path.iterdir()) == []


WEIGHTS = [name for name, row in EXPORTS.rows().items() if not row.normalises]


@pytest.mark.parametrize("to", WEIGHTS)
def test_weights_hold_no_normalisation(to: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no normalisation can be inside them"):
        export_model(small(), to, tmp_path / "x", normalisation="inside")
    with pytest.raises(UsageError, match="did you mean 'beside'"):
        export_model(small(), to, tmp_path / "x", normalisation="besides")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings(JIT, "ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.parametrize(
    ("to", "asked", "told"),
    [
        ("safetensors", None, "beside"),
        ("safetensors", "beside", "beside"),
        ("timm", "beside", "beside"),
        ("hf", "beside", "beside"),
        ("torchscript", None, "inside"),
        ("torchscript", "beside", "beside"),
    ],
)
def test_what_lies_beside_says_where_the_normalisation_is(
    to: str, asked: str | None, told: str, tmp_path: Path
) -> None:
    robust = load_model("timm:test_resnet", num_classes=3, mean=MEAN, std=STD)
    done = export_model(robust, to, tmp_path / "x", normalisation=asked)
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["normalisation"] == done.normalisation == told
    assert ("mean" in record["settings"]) == (told == "beside")


def test_the_command_and_what_lies_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.safetensors"
    words = ["export", "robustmix:resnet8", "--num-classes", "3", "--norm-preset", "cifar10"]
    words += ["--img-size", "32", "--to", "safetensors", "--out", str(out)]
    assert run(words) == 0
    assert capsys.readouterr().out == f"{out}\n"
    told = json.loads((tmp_path / "a.safetensors.json").read_text())
    assert told["check"]["largest_relative_difference"] == 0
    assert run([*words, "--normalisation", "inside", "--force"]) == 2
    assert "or export a program (onnx, torchscript)" in capsys.readouterr().err
