"""What `robustmix models inspect` says of files that somebody wrote."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from robustmix.cli.app import run
from robustmix.errors import IntakeError
from robustmix.export import export_model
from robustmix.models.inspect import inspect_model
from robustmix.models.load import load_model
from robustmix.models.registry import build_model


def weights(classes: int = 7) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    net = build_model("resnet18", num_classes=classes, input_size=(3, 32, 32), generator=generator)
    return dict(net.state_dict())


def test_a_file_that_does_not_say_what_it_is(tmp_path: Path) -> None:
    state = weights()
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    path = tmp_path / "x.pth"
    torch.save({"epoch": 3, "state_dict": wrapped, "model_ema": state}, path)
    found = inspect_model(path)
    assert (found.layout, found.model) == ("torch", None)
    assert "--arch resnet18-cifar" in found.problem
    first, second = sorted(found.places, key=lambda place: str(place["where"]))
    assert (first["where"], first["prefix"]) == ("model_ema", "")
    assert (second["where"], second["prefix"]) == ("state_dict", "module.")
    for place in found.places:
        assert (place["arch"], place["classifier"], place["classes"]) == ("resnet18-cifar", "fc", 7)
        assert place["tensors"] == len(state)
        assert place["numbers"] == sum(tensor.numel() for tensor in state.values())


def test_heads_of_openmixup(tmp_path: Path) -> None:
    net = weights(7)
    body = {name: tensor for name, tensor in net.items() if not name.startswith("fc.")}
    state = {f"backbone_{side}.{name}": tensor for side in "kq" for name, tensor in body.items()}
    for head in ("one_k", "mix_q"):
        state |= {
            f"head_{head}.fc.weight": net["fc.weight"],
            f"head_{head}.fc.bias": net["fc.bias"],
        }
    path = tmp_path / "epoch_9.pth"
    torch.save({"state_dict": state, "meta": {}}, path)
    found = inspect_model(path)
    assert found.layout == "OpenMixup"
    (place,) = found.places
    assert sorted(place["heads"]) == ["mix_q", "one_k"]  # type: ignore[arg-type, type-var]


def test_what_it_loads_as_and_what_was_assumed(tmp_path: Path) -> None:
    robust = load_model("robustmix:resnet8", num_classes=4, mean=(0.1, 0.2, 0.3), std=(0.4,) * 3)
    export_model(robust, "safetensors", tmp_path / "a.safetensors")
    found = inspect_model(tmp_path / "a.safetensors")
    assert found.problem == ""
    assert found.model is not None
    assert (found.model["arch"], found.model["classes"]) == ("resnet8", 4)
    assert found.model["mean"] == pytest.approx([0.1, 0.2, 0.3])
    assert found.model["input_size"] == [3, 32, 32]
    assert found.model["assumed"] == list(load_model(tmp_path / "a.safetensors").info.notes)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("/tmp/robustmix-bomb"),)


def test_no_code_is_run_to_look_into_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"state_dict": weights(), "more": Bomb()}, path)
    with pytest.raises(IntakeError):
        inspect_model(path)
    (tmp_path / "y.pth").write_bytes(pickle.dumps({"a": Bomb()}))
    with pytest.raises(IntakeError):
        inspect_model(tmp_path / "y.pth")
    assert not Path("/tmp/robustmix-bomb").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.pth"
    torch.save(weights(3), path)
    assert run(["models", "inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == inspect_model(path).record()
    assert run(["models", "inspect", str(path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("x.pth: torch\n  sha256 ")
    assert "arch resnet18-cifar" in told
    assert "it does not load without more words: x.pth does not say" in told
    assert run(["models", "inspect", str(tmp_path / "nowhere")]) == 3
