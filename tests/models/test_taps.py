import copy
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from robustmix.errors import UsageError
from robustmix.models.names import ARCHS
from robustmix.models.registry import build_model
from robustmix.models.resnet import ResNet
from robustmix.models.taps import Features, Tap, classifier_layer, find_tap, random_forward
from robustmix.models.wide_resnet import WideResNet

timm = pytest.importorskip("timm")

Net = Any


def batch(size: int, n: int = 2, seed: int = 3) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@contextmanager
def counted(module: nn.Module) -> Iterator[list[int]]:
    calls: list[int] = []
    handle = module.register_forward_hook(lambda *_: calls.append(1))
    try:
        yield calls
    finally:
        handle.remove()


class Case(NamedTuple):
    """A small network of timm, its first layer, and its map computed by running its parts."""

    name: str
    options: dict[str, Any]
    size: int
    stage: int
    first: str
    by_hand: Callable[[Net, Tensor], Tensor]


def convnext_map(net: Net, x: Tensor) -> Tensor:
    x = net.stem(x)
    for stage in net.stages[:3]:
        x = stage(x)
    return x


def swin_map(net: Net, x: Tensor) -> Tensor:
    x = net.patch_embed(x)
    for stage in net.layers[:3]:
        x = stage(x)
    x = net.layers[3].downsample(x)
    centred = x - x.mean(dim=3, keepdim=True)
    x = centred / (centred.square().mean(dim=3, keepdim=True) + 1e-5).sqrt()
    return x.permute(0, 3, 1, 2)


def vit_map(net: Net, x: Tensor) -> Tensor:
    tokens = torch.cat([net.cls_token.expand(len(x), -1, -1), net.patch_embed(x)], dim=1)
    tokens = tokens + net.pos_embed
    for block in net.blocks[:6]:
        tokens = block(tokens)
    grid = net.patch_embed.grid_size
    rows = [tokens[:, 1 + i * grid[1] : 1 + (i + 1) * grid[1]] for i in range(grid[0])]
    return torch.stack(rows, dim=2).permute(0, 3, 2, 1)


def efficientnet_map(net: Net, x: Tensor) -> Tensor:
    x = net.bn1(net.conv_stem(x))
    for stage in net.blocks[:3]:
        x = stage(x)
    return x


CASES = [
    Case(
        "convnext_tiny",
        {"depths": (1, 1, 2, 1), "dims": (8, 12, 16, 20)},
        128,
        2,
        "stem.0",
        convnext_map,
    ),
    Case(
        "swin_tiny_patch4_window7_224",
        {"depths": (1, 1, 2, 1), "embed_dim": 12, "img_size": 96, "drop_path_rate": 0.0},
        96,
        2,
        "patch_embed.proj",
        swin_map,
    ),
    Case(
        "deit_small_patch16_224",
        {"embed_dim": 24, "num_heads": 3, "img_size": (48, 32)},
        0,
        5,
        "patch_embed.proj",
        vit_map,
    ),
    Case("test_efficientnet", {}, 64, 2, "conv_stem", efficientnet_map),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def small(request: pytest.FixtureRequest) -> tuple[Case, Net]:
    case: Case = request.param
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = timm.create_model(case.name, num_classes=7, **case.options)
        with torch.no_grad():  # layer scales, norms and classifiers that show
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return case, net


def images_of(case: Case, n: int = 2) -> Tensor:
    if case.size:
        return batch(case.size, n)
    return torch.randn(n, 3, 48, 32, generator=torch.Generator().manual_seed(4))


def tap_of(case: Case, net: Net, **options: Any) -> Tap:
    shape = images_of(case).shape
    return find_tap(net, (3, shape[2], shape[3]), **options)


def test_map_is_that_of_its_parts_and_pooled_is_what_the_classifier_sees(
    small: tuple[Case, Net],
) -> None:
    case, net = small
    tap = tap_of(case, net)
    assert tap.stage == case.stage
    images = images_of(case)
    with torch.no_grad():
        for mode in (False, True):
            net.train(mode)
            first = copy.deepcopy(net)(images)
            features = tap(copy.deepcopy(net), images)
            assert torch.equal(classifier_layer(net)(features.pooled), first)
            expected = case.by_hand(copy.deepcopy(net), images)
            torch.testing.assert_close(features.feat, expected, rtol=1e-5, atol=1e-6)
    assert features.feat.shape == (2, tap.channels, *tap.size)
    assert features.pooled.shape == (2, tap.num_features)


def test_one_pass_and_a_gradient_through_map_and_features(small: tuple[Case, Net]) -> None:
    case, net = small
    net.eval()
    tap = tap_of(case, net)
    images = images_of(case).requires_grad_()
    with counted(net.get_submodule(case.first)) as calls:
        features = tap(net, images)
    assert len(calls) == 1
    (through_map,) = torch.autograd.grad(features.feat.square().sum(), images, retain_graph=True)
    (through_all,) = torch.autograd.grad(features.pooled.square().sum(), images)
    again = images.detach().clone().requires_grad_()
    by_hand = case.by_hand(net, again).square().sum()
    (expected,) = torch.autograd.grad(by_hand, again)
    torch.testing.assert_close(through_map, expected, rtol=1e-3, atol=1e-4)
    assert bool(through_all.any())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_finding_a_tap_changes_nothing(small: tuple[Case, Net]) -> None:
    case, net = small
    net.train()
    frozen = next(net.children()).eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    stream = torch.get_rng_state()
    tap_of(case, net)
    assert net.training
    assert not frozen.training
    assert torch.equal(stream, torch.get_rng_state())
    after = net.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_tap_serves_copies(small: tuple[Case, Net]) -> None:
    case, net = small
    net.eval()
    tap = tap_of(case, net)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.9)
        for network in (net, other):
            features = tap(network, images_of(case))
            expected = network(images_of(case))
            assert torch.equal(classifier_layer(network)(features.pooled), expected)


def test_every_stage_can_be_chosen_and_no_other(small: tuple[Case, Net]) -> None:
    case, net = small
    with pytest.raises(UsageError, match="no stage 99") as caught:
        tap_of(case, net, stage=99)
    assert caught.value.code == "E-NO-TAP"
    listed = re.findall(r"(\d+) \((\d+)x(\d+)x(\d+)\)", caught.value.hint)
    assert [int(row[0]) for row in listed] == list(range(len(listed)))
    for stage, channels, height, width in (map(int, row) for row in listed):
        tap = tap_of(case, net, stage=stage)
        assert (tap.stage, tap.channels, tap.size) == (stage, channels, (height, width))
        with torch.no_grad():
            assert tap(net, images_of(case)).feat.shape == (2, channels, height, width)
    with pytest.raises(UsageError, match="no stage -2"):
        tap_of(case, net, stage=-2)


class Row(NamedTuple):
    """A row of the table of published taps."""

    arch: str
    size: int
    shape: tuple[int, int]
    factor: int


TABLE = [
    Row("resnet18", 32, (256, 8), 4),
    Row("resnext50_32x4d", 32, (1024, 8), 4),
    Row("resnet50", 224, (1024, 14), 16),
    Row("convnext_tiny", 32, (384, 8), 4),
    Row("resnet101", 64, (1024, 16), 4),
    Row("swin_tiny", 224, (768, 7), 32),
    Row("deit_small", 224, (384, 14), 16),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.arch}-{row.size}")
def test_published_maps(row: Row) -> None:
    net = build_model(row.arch, num_classes=5, input_size=(3, row.size, row.size))
    tap = find_tap(net, (3, row.size, row.size), arch=row.arch)
    assert (tap.channels, tap.size) == (row.shape[0], (row.shape[1], row.shape[1]))
    assert row.size == row.factor * tap.size[0]
    assert tap.num_features == classifier_layer(net).in_features
    assert find_tap(net, (3, row.size, row.size)) == tap  # without its name too


@pytest.mark.parametrize(
    ("net", "stage", "channels", "size"),
    [
        (WideResNet(7, depth=10, widen=2), 1, 64, (6, 10)),
        (ResNet(7, block="basic", depths=(1, 1, 1), stem="cifar", width=8), 1, 16, (6, 10)),
        (ResNet(7, block="bottleneck", depths=(1,) * 4, stem="cifar", width=4), 2, 64, (3, 5)),
        (ResNet(7, block="basic", depths=(1,) * 4, stem="imagenet", width=4), 2, 16, (1, 2)),
    ],
    ids=["wide", "three", "four", "imagenet"],
)
def test_built_in_networks_of_any_width(
    net: ResNet | WideResNet, stage: int, channels: int, size: tuple[int, int]
) -> None:
    tap = find_tap(net.train(), (3, 12, 20))
    assert (tap.stage, tap.channels, tap.size) == (stage, channels, size)
    images = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    with counted(net.conv1) as calls:
        features = tap(net, images)
    assert len(calls) == 1
    twin = copy.deepcopy(net)
    maps = twin.forward_features(images)
    assert torch.equal(features.feat, maps[stage])
    assert isinstance(features, Features)
    assert torch.equal(classifier_layer(net)(features.pooled), copy.deepcopy(net)(images))
    for chosen, expected in enumerate(maps):
        other = find_tap(net, (3, 12, 20), stage=chosen)
        assert (other.channels, *other.size) == expected.shape[1:]


def test_built_in_buffers_stay() -> None:
    net = build_model("resnet8", num_classes=3, input_size=(3, 16, 16))
    before = {key: value.clone() for key, value in net.state_dict().items()}
    find_tap(net, (3, 16, 16))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_names_agree_with_types() -> None:
    for name, info in ARCHS.rows().items():
        with torch.device("meta"):
            net = ARCHS[name](0, next(iter(info.stems), None), (64, 64), 0.0)
        if isinstance(net, ResNet | WideResNet):
            assert info.feature_stage == net.num_stages - 2, name


@pytest.mark.parametrize(
    ("name", "options", "size", "why"),
    [
        ("deit_tiny_distilled_patch16_224", {"depth": 1, "img_size": 32}, 32, "one linear layer"),
        ("resnet18", {"num_classes": 0}, 32, "one linear layer"),
        ("deit_tiny_patch16_224", {"depth": 1, "img_size": 32}, 48, "a pass over 3x48x48 images"),
        ("test_efficientnet", {}, 4, "no map is 4x4 or larger"),
    ],
)
def test_networks_that_cannot_be_tapped(
    name: str, options: dict[str, Any], size: int, why: str
) -> None:
    net = timm.create_model(name, **{"num_classes": 3, **options})
    with pytest.raises(UsageError, match=why) as caught:
        find_tap(net, (3, size, size))
    assert caught.value.code == "E-NO-TAP"
    assert "\n" not in str(caught.value)


class Capped(nn.Module):
    """Looks like a network of timm, but its logits are not those of its last layer."""

    def __init__(self, capped: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 2)
        self.capped = capped

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_intermediates(
        self, x: Tensor, indices: list[int] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        x = self.conv(x)
        return x, [x]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x.mean(dim=(2, 3))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.forward_head(self.conv(x))
        return 5 * logits.tanh() if self.capped else logits


def test_logits_that_are_more_than_the_last_layer_are_refused() -> None:
    assert find_tap(Capped(False), (3, 8, 8)).channels == 4
    with pytest.raises(UsageError, match="not one linear layer of its pooled features"):
        find_tap(Capped(True), (3, 8, 8))


def test_a_network_of_torchvision_is_refused_with_a_hint() -> None:
    net = build_model("torchvision:resnet18", num_classes=3, input_size=(3, 32, 32))
    with pytest.raises(UsageError) as caught:
        find_tap(net, (3, 32, 32), arch="torchvision:resnet18")
    assert caught.value.code == "E-NO-TAP"
    assert "timm" in caught.value.hint
    with pytest.raises(UsageError) as caught:
        find_tap(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), (3, 2, 2))
    assert caught.value.code == "E-NO-TAP"


def test_half_precision_networks_are_probed_in_their_own() -> None:
    net = Capped(False).to(torch.bfloat16)
    assert find_tap(net, (3, 8, 6)).size == (8, 6)


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        (lambda: build_model("resnet8", num_classes=3, input_size=(3, 16, 16)), None),
        (lambda: nn.Sequential(nn.Dropout(0.0), nn.Conv2d(3, 3, 1)), None),
        (lambda: nn.Sequential(nn.Dropout2d(0.25)), "dropout 0.25"),
        (lambda: nn.Sequential(nn.AlphaDropout(0.5), nn.Dropout(0.25)), "dropout 0.5"),
        (lambda: nn.MultiheadAttention(4, 2, dropout=0.125), "dropout 0.125"),
        (lambda: nn.RReLU(), "random leaky ReLU"),
        (lambda: timm.create_model("test_vit", drop_path_rate=0.1), "drop-path 0.1"),
        (lambda: timm.create_model("test_vit", attn_drop_rate=0.1), "dropout 0.1"),
        (lambda: timm.create_model("test_vit", patch_drop_rate=0.5), "dropout 0.5"),
        (lambda: timm.create_model("test_vit"), None),
        (lambda: timm.create_model("test_efficientnet", drop_rate=0.2), "dropout 0.2"),
        (lambda: timm.create_model("test_efficientnet"), None),
        (lambda: timm.create_model("test_convnext", drop_path_rate=0.3), "drop-path 0.3"),
    ],
)
def test_random_forward(net: Callable[[], nn.Module], expected: str | None) -> None:
    assert random_forward(net()) == expected
