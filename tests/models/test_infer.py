import pytest
import torch
from torch import Tensor

from robustmix.models.infer import head_of, stem_of, suggest_arch
from robustmix.models.names import ARCHS
from robustmix.models.registry import ARCHITECTURES
from robustmix.models.resnet import ResNet
from robustmix.models.wide_resnet import WideResNet

NAMES = [(name, stem) for name, info in ARCHS.items() for stem in info.stems]


@pytest.mark.parametrize(("name", "stem"), NAMES)
def test_every_architecture_is_recognised(name: str, stem: str) -> None:
    with torch.device("meta"):
        state = ARCHITECTURES[name](11, "cifar" if stem == "cifar" else "imagenet").state_dict()
    assert suggest_arch(state) == (name if name == "wrn28_8" else f"{name}-{stem}")
    assert stem_of(state) == stem
    assert head_of(state) == ("fc", 11)


def test_other_networks_are_not_guessed() -> None:
    with torch.device("meta"):
        others = [
            ResNet(3, block="basic", depths=(2, 2, 2, 2), stem="cifar", width=32),
            ResNet(3, block="basic", depths=(2, 2, 2), stem="cifar"),
            ResNet(3, block="bottleneck", depths=(3, 4, 6, 3), stem="cifar", groups=2),
            WideResNet(3, depth=16, widen=8),
            WideResNet(3, depth=28, widen=10),
        ]
    assert [suggest_arch(net.state_dict()) for net in others] == [None] * 5
    assert suggest_arch({}) is None
    assert (
        suggest_arch({"conv1.weight": torch.zeros(3), "layer1.0.conv1.weight": torch.zeros(3)})
        is None
    )


def test_deeper_library_networks_are_named() -> None:
    with torch.device("meta"):
        net = ResNet(3, block="bottleneck", depths=(3, 4, 23, 3), stem="imagenet")
    assert suggest_arch(net.state_dict()) == "torchvision:resnet101"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["head.fc"], "head.fc"),
        (["heads.head"], "heads.head"),
        (["classifier.0", "classifier.3", "classifier.6"], "classifier.6"),
        (["features.0", "classifier"], "classifier"),
        (["features.0"], None),
    ],
)
def test_names_of_the_classifier(names: list[str], expected: str | None) -> None:
    state: dict[str, Tensor] = {f"{name}.weight": torch.zeros(9, 4) for name in names}
    assert head_of(state) == (None if expected is None else (expected, 9))


def test_a_convolution_is_no_linear_classifier() -> None:
    assert head_of({"classifier.1.weight": torch.zeros(9, 4, 1, 1)}) is None
