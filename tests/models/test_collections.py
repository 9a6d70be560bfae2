"""Weights as widely used collections of CIFAR networks name them.

Names and shapes are written here as those collections have them; what is loaded is compared
with a second implementation that computes from these tensors alone.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from robustmix.errors import IntakeError
from robustmix.models.dialects import DIALECTS, spelled
from robustmix.models.inspect import inspect_model
from robustmix.models.layouts import Place
from robustmix.models.load import load_model
from robustmix.models.registry import build_model
from robustmix.models.start_weights import load_start_weights

State = dict[str, Tensor]
CLASSES = 7


class Names(NamedTuple):
    """How a collection names a residual network of basic blocks."""

    conv: str
    norm: str
    stage: Callable[[int], str]
    inside: tuple[str, str, str, str]
    """The two convolutions and norms of a block: conv, norm, conv, norm."""

    shortcut: str | None
    """None: without weights, every second pixel and zeros on both sides."""

    linear: str


USUAL = ("conv1", "bn1", "conv2", "bn2")
SEQUENCE = tuple(f"residual_function.{at}" for at in (0, 1, 3, 4))
AKAMASTER = Names("conv1", "bn1", "layer{}".format, USUAL, None, "linear")
CHENYAOFO = Names("conv1", "bn1", "layer{}".format, USUAL, "downsample", "fc")
KUANGLIU = Names("conv1", "bn1", "layer{}".format, USUAL, "shortcut", "linear")
WEIAICUNZAI = Names(
    "conv1.0",
    "conv1.1",
    lambda stage: f"conv{stage + 1}_x",
    SEQUENCE,  # type: ignore[arg-type] # four of them
    "shortcut",
    "fc",
)


class Net(NamedTuple):
    names: Names
    depths: tuple[int, ...]
    width: int

    def blocks(self) -> Iterator[tuple[str, int, int, int]]:
        """Yield prefix, channels before and after, and stride of each block."""
        channels = self.width
        for stage, depth in enumerate(self.depths, 1):
            out = self.width * 2 ** (stage - 1)
            for i in range(depth):
                stride = 2 if stage > 1 and i == 0 else 1
                yield f"{self.names.stage(stage)}.{i}.", channels, out, stride
                channels = out

    def shapes(self) -> dict[str, tuple[int, ...]]:
        names = self.names
        found = _conv(names.conv, self.width, 3, 3) | _norm(names.norm, self.width)
        for prefix, channels, out, _ in self.blocks():
            conv1, norm1, conv2, norm2 = (prefix + name for name in names.inside)
            found |= _conv(conv1, out, channels, 3) | _norm(norm1, out)
            found |= _conv(conv2, out, out, 3) | _norm(norm2, out)
            if channels != out and names.shortcut is not None:
                found |= _conv(f"{prefix}{names.shortcut}.0", out, channels, 1)
                found |= _norm(f"{prefix}{names.shortcut}.1", out)
        features = self.width * 2 ** (len(self.depths) - 1)
        return found | {
            f"{names.linear}.weight": (CLASSES, features),
            f"{names.linear}.bias": (CLASSES,),
        }

    def logits(self, state: State, x: Tensor) -> Tensor:
        names = self.names
        x = _normed(state, names.norm, F.conv2d(x, state[f"{names.conv}.weight"], padding=1)).relu()
        for prefix, channels, out, stride in self.blocks():
            conv1, norm1, conv2, norm2 = (prefix + name for name in names.inside)
            h = F.conv2d(x, state[f"{conv1}.weight"], stride=stride, padding=1)
            h = F.conv2d(_normed(state, norm1, h).relu(), state[f"{conv2}.weight"], padding=1)
            kept = x
            if channels != out and names.shortcut is None:
                zeros = torch.zeros_like(x[:, : (out - channels) // 2, ::2, ::2])
                kept = torch.cat([zeros, x[:, :, ::2, ::2], zeros], dim=1)
            elif channels != out:
                short = f"{prefix}{names.shortcut}"
                kept = F.conv2d(x, state[f"{short}.0.weight"], stride=stride)
                kept = _normed(state, f"{short}.1", kept)
            x = (_normed(state, norm2, h) + kept).relu()
        weight, bias = state[f"{names.linear}.weight"], state[f"{names.linear}.bias"]
        return F.linear(x.mean(dim=(2, 3)), weight, bias)


def _conv(name: str, out: int, channels: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, channels, kernel, kernel)}


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{leaf}": (channels,) for leaf in leaves}


def _normed(state: State, name: str, x: Tensor) -> Tensor:
    weight, bias, mean, var = (
        state[f"{name}.{leaf}"].view(-1, 1, 1)
        for leaf in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def drawn(shapes: dict[str, tuple[int, ...]]) -> State:
    """Draw tensors of which none is a round number and whose network neither grows nor dies."""
    generator = torch.Generator().manual_seed(11)
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            fan_in = torch.Size(shape[1:]).numel()
            state[name] = noise * (2 / fan_in) ** 0.5
        else:
            positive = name.endswith(("running_var", "weight"))
            state[name] = 0.5 + 0.1 * noise.abs() if positive else 0.1 * noise
    return state


def wrapped(state: State) -> State:
    return {f"module.{name}": tensor for name, tensor in state.items()}


class Case(NamedTuple):
    net: Net
    arch: str
    file: Callable[[State], object]
    collection: str | None
    place: str
    prefix: str


CASES = {
    "akamaster": Case(
        Net(AKAMASTER, (3, 3, 3), 16),
        "resnet20-cifar",
        lambda state: {"state_dict": wrapped(state), "best_prec1": 91.7},
        "pytorch_resnet_cifar10",
        "state_dict",
        "module.",
    ),
    "chenyaofo": Case(
        Net(CHENYAOFO, (5, 5, 5), 16), "resnet32_b-cifar", lambda state: state, None, "top", ""
    ),
    "kuangliu": Case(
        Net(KUANGLIU, (2, 2, 2, 2), 64),
        "resnet18-cifar",
        lambda state: {"net": wrapped(state), "acc": 95.0, "epoch": 3},
        "pytorch-cifar",
        "net",
        "module.",
    ),
    "weiaicunzai": Case(
        Net(WEIAICUNZAI, (2, 2, 2, 2), 64),
        "resnet18-cifar",
        lambda state: state,
        "pytorch-cifar100",
        "top",
        "",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_of_a_collection_is_told_and_loads(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    state = drawn(case.net.shapes())
    path = tmp_path / "model.pth"
    torch.save(case.file(state), path)

    found = inspect_model(path)
    place = next(one for one in found.places if one["where"] == case.place)
    assert (place["arch"], place["prefix"]) == (case.arch, case.prefix)
    assert (place["classifier"], place["classes"]) == ("fc", CLASSES)
    assert place.get("names") == case.collection
    assert f"--arch {case.arch} and {CLASSES} classes" in found.problem
    usual = {one.name: one.norm for one in DIALECTS}
    assert place.get("trained_with") == usual.get(case.collection or "")
    assert usual.get(case.collection or "", "or --mean and --std") in found.problem

    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    model = load_model(path, arch=case.arch, norm_preset="half")
    with torch.no_grad():
        expected = case.net.logits(state, 2 * images - 1)
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
    told = f"I-LAYOUT: tensors are named as in {case.collection}"
    assert (told in model.info.notes) == (case.collection is not None)


@pytest.mark.parametrize(
    ("arch", "params"),
    [
        ("resnet20", 269_722),  # the paper's 0.27 million
        ("resnet32", 464_154),  # 0.46
        ("resnet44", 658_586),  # 0.66
        ("resnet56", 853_018),  # 0.85
        ("resnet110", 1_727_962),  # 1.7
        ("resnet20_b", 272_474),
        ("resnet56_b", 855_770),
        ("wrn28_10", 36_479_194),  # 36.5
        ("wrn40_2", 2_243_546),  # 2.2
        ("wrn34_10", 46_160_474),
    ],
)
def test_numbers_of_parameters_are_the_published_ones(arch: str, params: int) -> None:
    from robustmix.models.registry import blueprint

    own = blueprint(arch, num_classes=10, input_size=(3, 32, 32))
    counted = (t.numel() for name, t in own.items() if "running" not in name and t.ndim)
    assert sum(counted) == params


def test_a_shortcut_of_option_a_has_no_weights_and_keeps_the_others_apart() -> None:
    plain = build_model("resnet20", num_classes=3, input_size=(3, 32, 32))
    assert not any("downsample" in name for name in plain.state_dict())
    with_weights = build_model("resnet20_b", num_classes=3, input_size=(3, 32, 32))
    assert set(plain.state_dict()) < set(with_weights.state_dict())


def wide_logits(state: State, x: Tensor, blocks: int) -> Tensor:
    """Compute a wide residual network as its authors have it."""
    x = F.conv2d(x, state["conv1.weight"], padding=1)
    for stage in (1, 2, 3):
        for i in range(blocks):
            prefix = f"block{stage}.layer.{i}."
            stride = 2 if stage > 1 and i == 0 else 1
            active = _normed(state, f"{prefix}bn1", x).relu()
            h = F.conv2d(active, state[f"{prefix}conv1.weight"], stride=stride, padding=1)
            h = _normed(state, f"{prefix}bn2", h).relu()
            h = F.conv2d(h, state[f"{prefix}conv2.weight"], padding=1)
            short = state.get(f"{prefix}convShortcut.weight")
            x = h + (x if short is None else F.conv2d(active, short, stride=stride))
    x = _normed(state, "bn1", x).relu().mean(dim=(2, 3))
    return F.linear(x, state["fc.weight"], state["fc.bias"])


def wide_shapes(blocks: int, widen: int) -> dict[str, tuple[int, ...]]:
    found = _conv("conv1", 16, 3, 3)
    channels = 16
    for stage in (1, 2, 3):
        out = 16 * widen * 2 ** (stage - 1)
        for i in range(blocks):
            prefix = f"block{stage}.layer.{i}."
            found |= _norm(f"{prefix}bn1", channels) | _conv(f"{prefix}conv1", out, channels, 3)
            found |= _norm(f"{prefix}bn2", out) | _conv(f"{prefix}conv2", out, out, 3)
            if channels != out:
                found |= _conv(f"{prefix}convShortcut", out, channels, 1)
            channels = out
    return (
        found | _norm("bn1", channels) | {"fc.weight": (CLASSES, channels), "fc.bias": (CLASSES,)}
    )


@pytest.mark.parametrize("unused", [False, True])
def test_wide_networks_of_trades_and_robustbench(tmp_path: Path, unused: bool) -> None:
    state = drawn(wide_shapes(6, 2))
    first = {name: tensor for name, tensor in state.items() if name.startswith("block1.")}
    more = {f"sub_{name}": tensor + 1 for name, tensor in first.items()} if unused else {}
    path = tmp_path / "model.pt"
    torch.save(state | more, path)
    (place,) = inspect_model(path).places
    assert (place["arch"], place.get("names")) == ("wrn40_2", "TRADES" if unused else None)
    model = load_model(path, arch="wrn40_2", norm_preset="none")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = wide_logits(state, images, 6)
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
    assert any(note.startswith("W-LEFT-OUT") for note in model.info.notes) == unused


def test_training_starts_from_the_weights_of_a_collection(tmp_path: Path) -> None:
    state = drawn(Net(KUANGLIU, (2, 2, 2, 2), 64).shapes())
    torch.save({"net": wrapped(state), "acc": 95.0}, tmp_path / "ckpt.pth")
    network = build_model("resnet18", num_classes=3, input_size=(3, 32, 32))
    load_start_weights(network, str(tmp_path / "ckpt.pth"))
    own = network.state_dict()
    assert torch.equal(own["layer2.0.downsample.0.weight"], state["layer2.0.shortcut.0.weight"])
    assert own["fc.weight"].shape == (3, 512)


def test_names_that_would_become_one_are_left_as_they_are() -> None:
    state = dict.fromkeys(Net(KUANGLIU, (1, 1, 1, 1), 64).shapes(), torch.zeros(1))
    place = Place(path=(), state=state | {"layer2.0.downsample.0.weight": torch.ones(1)})
    assert spelled(place) is place
    assert spelled(Place(path=(), state=state)).dialect is DIALECTS[1]


def test_another_network_in_the_names_of_a_collection_does_not_load(tmp_path: Path) -> None:
    state = drawn(Net(KUANGLIU, (2, 2, 2, 2), 64).shapes())
    state["layer3.1.extra.weight"] = torch.ones(3)
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(IntakeError, match="1 unexpected"):
        load_model(tmp_path / "model.pth", arch="resnet18-cifar", norm_preset="none")
