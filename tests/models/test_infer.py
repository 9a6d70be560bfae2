from typing import Any

import pytest
import torch
from torch import Tensor

from robustmix.models.infer import head_of, stem_of, suggest_arch
from robustmix.models.names import ARCHS, Stem
from robustmix.models.resnet import ResNet
from robustmix.models.wide_resnet import WideResNet

NAMES = [(name, stem) for name, info in ARCHS.rows().items() for stem in info.stems or (None,)]


@pytest.mark.parametrize(("name", "stem"), NAMES)
def test_every_architecture_is_recognised(name: str, stem: Stem | None) -> None:
    with torch.device("meta"):
        state = ARCHS[name](11, stem, (64, 96), 0.0).state_dict()
    assert suggest_arch(state) == (f"{name}-{stem}" if stem and "wrn" not in name else name)
    if stem is not None:
        assert stem_of(state) == stem
    head = head_of(state)
    assert head is not None
    assert head[1] == 11
    assert {f"{head[0]}.weight", f"{head[0]}.bias"} <= state.keys()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convnext_tiny", {"depths": (3, 3, 8, 3)}),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 48}),
        ("deit_small_patch16_224", {"depth": 11}),
        ("deit_tiny_patch16_224", {}),
        ("efficientnet_b1", {}),
        ("mobilenetv2_050", {}),
    ],
)
def test_other_networks_of_timm_are_not_guessed(name: str, options: dict[str, Any]) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        assert suggest_arch(timm.create_model(name, **options).state_dict()) is None


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


@pytest.mark.parametrize(
    ("depths", "width", "name"),
    [((3, 8, 36, 3), None, "resnet152"), ((3, 4, 23, 3), 8, "resnext101_32x8d")],
)
def test_deeper_library_networks_are_named(
    depths: tuple[int, ...], width: int | None, name: str
) -> None:
    groups = 32 if width else 1
    with torch.device("meta"):
        net = ResNet(
            3,
            block="bottleneck",
            depths=depths,
            stem="imagenet",
            groups=groups,
            width_per_group=width,
        )
    assert suggest_arch(net.state_dict()) == f"torchvision:{name}"


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
