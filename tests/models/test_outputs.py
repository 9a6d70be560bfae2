"""Modules of others: what they return, how many classes they have, what they cannot be."""

import threading
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm, weight_norm

from robustmix.errors import IntakeError, UsageError
from robustmix.models.load import load_model
from robustmix.models.outputs import logits_in
from robustmix.models.robust_model import RobustModel
from tests.models.builders import images

SIZE = (3, 5, 7)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)

Pair = namedtuple("Pair", "features logits")  # as libraries return them


@dataclass
class Answer:
    features: Tensor
    logits: Tensor


class Shaped(nn.Module):
    """A classifier of 4 classes whose logits are wrapped by ``shape``."""

    def __init__(self, shape: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.out = nn.Linear(105, 4)
        self.shape = shape

    def forward(self, x: Tensor) -> Any:
        return self.shape(self.out(x.flatten(1)), x.flatten(1))


def load(net: nn.Module, **options: Any) -> RobustModel:
    return load_model(net, **{"input_size": SIZE, "mean": MEAN, "std": STD, **options})


def refused(net: nn.Module, **options: Any) -> IntakeError:
    with pytest.raises(IntakeError) as caught:
        load(net, **options)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.line()
    return caught.value


def normalised(x: Tensor) -> Tensor:
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


SHAPES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensor": lambda y, x: y,
    "tuple": lambda y, x: (y, x),
    "list": lambda y, x: [y],
    "none-first": lambda y, x: (None, "aux", y, x),
    "dict": lambda y, x: {"features": x, "logits": y},
    "ordered": lambda y, x: OrderedDict(output=y, features=x),
    "named-tuple": lambda y, x: Pair(x, y),
    "object": lambda y, x: Answer(x, y),
}


@pytest.mark.parametrize("form", SHAPES)
def test_logits_are_found_in_what_a_module_returns(form: str) -> None:
    model = load(Shaped(SHAPES[form]), num_classes=4)
    x = images(3, SIZE)
    want = Shaped(SHAPES["tensor"])(normalised(x))
    torch.testing.assert_close(model(x), want)
    x.requires_grad_()
    model(x).sum().backward()  # and gradients flow through all of it
    assert x.grad is not None
    assert bool(x.grad.any())


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (lambda y, x: None, "returns NoneType"),
        (lambda y, x: {"a": 1}, "returns dict"),
        (lambda y, x: "logits", "returns str"),
        (lambda y, x: (), "returns tuple"),
        (lambda y, x: ((y, x), None), "returns tuple"),
        (lambda y, x: y[:, :, None, None], r"returns \(2, 4, 1, 1\)"),
        (lambda y, x: y.argmax(dim=1), r"returns \(2,\)"),
        (lambda y, x: y.long(), "torch.int64"),
        (lambda y, x: y.sum(dim=0, keepdim=True), r"returns \(1, 4\)"),
    ],
)
def test_other_outputs_are_one_line_with_a_way_out(
    shape: Callable[[Tensor, Tensor], Any], said: str
) -> None:
    error = refused(Shaped(shape))
    assert error.code == "E-OUTPUT"
    with pytest.raises(IntakeError, match=said):
        raise error
    assert error.hint == "wrap it in a module whose forward returns the logits (N, K) alone"


def test_a_mapping_without_get_is_no_trouble() -> None:
    y = torch.zeros(2, 4)
    assert logits_in({"x": 1, "y": y}) is y
    assert logits_in({"y": y, "logits": 3}) is y


class Hidden(nn.Module):
    """The hidden layer is called ``fc`` and has 9 outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(105, 9)
        self.out = nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.fc(x.flatten(1)).relu())  # type: ignore[no-any-return]


def test_a_forward_pass_tells_the_classes() -> None:
    assert load(Hidden()).num_classes == 4
    assert load(Hidden(), num_classes=4).num_classes == 4
    assert load(nn.Flatten()).num_classes == 105
    assert "has 4 classes, expected 9" in refused(Hidden(), num_classes=9).message


def test_a_class_map_is_of_outputs_and_the_number_of_classes_of_labels() -> None:
    net = Hidden()
    x = images(2, SIZE)
    raw = net(normalised(x)).detach()
    model = load(net, class_map=[1, 0, 1, -1], num_classes=2)
    want = torch.stack([raw[:, 1], raw[:, [0, 2]].logsumexp(1)], dim=1)
    torch.testing.assert_close(model(x), want)
    assert "5 entries for 4 model outputs" in refused(Hidden(), class_map=[0, 1, 2, 3, 4]).message
    assert "leaves label 2" in refused(Hidden(), class_map=[0, 1], num_classes=3).message


class Remembers(nn.Module):
    """A network with batch norm, dropout, a draw and a counter in its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(105, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = x + 0 * torch.rand(1)
        return self.out(self.drop(self.norm(x)).flatten(1))  # type: ignore[no-any-return]


def test_the_trial_pass_leaves_no_trace() -> None:
    net = Remembers().train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    stream = torch.get_rng_state()
    model = load(net)
    assert torch.equal(torch.get_rng_state(), stream)
    assert net.calls == 0
    assert net.training
    for state in (net.state_dict(), model.net.state_dict()):
        assert all(torch.equal(state[key], value) for key, value in before.items())


class Weighted(nn.Module):
    def __init__(self, wrap: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        self.out = wrap(nn.Linear(105, 4))

    def forward(self, x: Tensor) -> Any:
        return self.out(x.flatten(1))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("wrap", [weight_norm, spectral_norm])
def test_weights_that_hooks_compute_are_supported_after_a_pass(
    wrap: Callable[[nn.Module], nn.Module],
) -> None:
    net = Weighted(wrap)
    x = images(2, SIZE)
    net(normalised(x))
    net.eval()
    model = load(net)
    torch.testing.assert_close(model(x), net(normalised(x)).detach())


def test_lazy_layers_are_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(4))
    assert "has lazy layers" in refused(net).message
    net(torch.zeros(2, *SIZE))
    assert load(net).num_classes == 4


def test_a_network_of_one_channel_is_one_line() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    error = refused(net)
    assert error.message.startswith("Sequential fails on images (3, 5, 7): ")
    assert "3 channels" in error.hint
    with pytest.raises(UsageError, match="images have 3 channels"):
        load(net, input_size=(1, 5, 7))


def test_a_network_of_another_size_is_one_line() -> None:
    error = refused(Hidden(), input_size=(3, 6, 7))
    assert error.message.startswith("Hidden fails on images (3, 6, 7): ")


def test_what_cannot_be_copied_is_one_line() -> None:
    net = Hidden()
    net.lock = threading.Lock()  # type: ignore[assignment]
    assert "Hidden cannot be copied: " in refused(net).message


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"mean": (float("nan"), 0.5, 0.5)}, "E-NORM"),
        ({"mean": (float("inf"), 0.5, 0.5)}, "E-NORM"),
        ({"std": (0.2, 0.0, 0.2)}, "E-NORM"),
        ({"std": (0.2, -1.0, 0.2)}, "E-NORM"),
        ({"mean": (0.5,), "std": (0.5,)}, "E-NORM"),
        ({"mean": (1e30, 0.0, 0.0)}, "E-NORM"),
        ({"input_size": (3, 0, 7)}, "E-INPUT-SIZE"),
        ({"input_size": (3, 5)}, "E-INPUT-SIZE"),
        ({"input_size": (3, 5, 10**6)}, "E-INPUT-SIZE"),
        ({"input_size": (3, 5.0, 7)}, "E-INPUT-SIZE"),
        ({"resize": 0}, "E-INPUT-SIZE"),
        ({"resize": -5}, "E-INPUT-SIZE"),
        ({"resize": (5, 10**6)}, "E-INPUT-SIZE"),
        ({"num_classes": 0}, "E-CLASSES"),
        ({"num_classes": -3}, "E-CLASSES"),
        ({"device": "meta"}, "E-DEVICE"),
        ({"device": "abacus"}, "E-DEVICE"),
    ],
)
def test_options_no_model_can_have(options: dict[str, Any], code: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(Hidden(), **options)
    assert caught.value.code == code
    assert len(caught.value.line()) < 300
