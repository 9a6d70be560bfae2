import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from robustmix.errors import IntakeError, UsageError
from robustmix.models.names import ARCHS, Stem, default_stem, split_stem, usual_size
from robustmix.models.registry import arch_options, build_model
from robustmix.models.resnet import ResNet
from robustmix.models.wide_resnet import WideBlock, WideResNet


class Published(NamedTuple):
    """One row of the table of backbones: size, million parameters, 1e9 MACs, generator's map."""

    arch: str
    size: int
    params: float
    macs: float
    feature: tuple[int, int] | None


PUBLISHED = [
    Published("resnet18", 32, 11.169, 0.555, (256, 8)),
    Published("resnext50_32x4d", 32, 22.972, 1.344, (1024, 8)),
    Published("wrn28_8", 32, 23.358, 3.360, (256, 16)),
    Published("resnet18", 224, 11.177, 1.814, (256, 14)),
    Published("resnet34", 224, 21.285, 3.663, (256, 14)),
    Published("resnet50", 224, 23.508, 4.087, (1024, 14)),
    Published("resnext50_32x4d", 224, 22.980, 4.228, (1024, 14)),
    Published("resnet18", 64, 11.169, 4 * 0.555, (256, 16)),
    Published("resnet101", 224, 42.500, 7.799, (1024, 14)),
    Published("resnext101_32x4d", 224, 42.129, 7.968, (1024, 14)),
    Published("convnext_tiny", 32, 27.818, 1.453, (384, 8)),
    Published("convnext_tiny", 224, 27.820, 4.455, (384, 14)),
    # OpenMixup counts the norm before the generator, 2 * 768, whose weights are never trained.
    Published("swin_tiny", 224, 27.521 - 0.001536, 4.350, (768, 7)),
    Published("deit_small", 224, 21.666, 4.241, (384, 14)),
    Published("mobilenetv2", 224, 2.224, 0.299, None),
    Published("efficientnet_b0", 224, 4.008, 0.385, None),
]


def on_meta(arch: str, size: int) -> nn.Module:
    """Build without the classifier and without memory."""
    with torch.device("meta"):
        return ARCHS[arch](0, default_stem(arch, (3, size, size)), (size, size), 0.0)


def count_macs(net: nn.Module, images: Tensor) -> int:
    """Count the products of convolutions and linear layers, not those of attention."""
    total = 0

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d | nn.Linear)
        total += output.numel() * module.weight[0].numel()

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(hook)
    net(images)
    return total


@pytest.mark.parametrize("row", PUBLISHED, ids=repr)
def test_size_and_cost_are_the_published_ones(row: Published) -> None:
    net = on_meta(row.arch, row.size)
    images = torch.empty(1, 3, row.size, row.size, device="meta")
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(row.params, abs=5e-4)
    assert count_macs(net, images) / 1e9 == pytest.approx(row.macs, abs=2e-3)
    if isinstance(net, ResNet | WideResNet):
        feature = net.forward_features(images)[-2]
        assert (feature.shape[1], feature.shape[3]) == row.feature


def test_every_listed_architecture_has_a_builder_and_the_facts_it_lists() -> None:
    for name, info in ARCHS.rows().items():
        net = on_meta(name, usual_size(name)[1])
        params = sum(p.numel() for p in net.parameters())
        assert params / 1e6 == pytest.approx(info.params_millions, abs=5e-4), name
        assert default_stem(name, (3, 32, 32)) == next(iter(info.stems), None)
        assert usual_size(name) == ((3, 32, 32) if info.stems else (3, 224, 224))
        if isinstance(net, ResNet | WideResNet):
            maps = net.forward_features(torch.empty(1, 3, 32, 32, device="meta"))
            assert tuple(m.shape[1] for m in maps) == info.stage_channels
            assert len(net.stages) == net.num_stages == len(maps)
        else:
            assert info.built_by == "timm"


def test_resnet8_is_small() -> None:
    net = build_model("resnet8", num_classes=10, input_size=(3, 32, 32))
    assert sum(p.numel() for p in net.parameters()) == 78042


def randomised(net: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(0.2 + 0.3 * torch.rand(tensor.shape, generator=generator))
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return net


@pytest.mark.parametrize(("block", "groups"), [("basic", 1), ("bottleneck", 1), ("bottleneck", 4)])
def test_imagenet_form_equals_torchvision(
    block: Literal["basic", "bottleneck"], groups: int
) -> None:
    resnet = pytest.importorskip("torchvision.models.resnet")
    depths, width = (1, 2, 1, 1), 64 // groups
    ours = ResNet(
        5, block=block, depths=depths, stem="imagenet", groups=groups, width_per_group=width
    )
    randomised(ours, 0)
    kind = resnet.BasicBlock if block == "basic" else resnet.Bottleneck
    theirs = resnet.ResNet(kind, depths, num_classes=5, groups=groups, width_per_group=width)
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(2, 3, 64, 45, generator=torch.Generator().manual_seed(1))
    for mode in (False, True):
        a, b = images.clone().requires_grad_(), images.clone().requires_grad_()
        out, expected = ours.train(mode)(a), theirs.train(mode)(b)
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        out.square().mean().backward()
        expected.square().mean().backward()
        assert a.grad is not None
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("arch", ["resnet8", "wrn28_8"])
def test_stages_compose_to_the_whole(arch: str) -> None:
    net = build_model(arch, num_classes=3, input_size=(3, 16, 16)).eval()
    assert isinstance(net, ResNet | WideResNet)
    images = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        h = net.forward_stem(images)
        maps = net.forward_features(images)
        for i in range(net.num_stages):
            h = net.forward_stage(i, h)
            assert torch.equal(h, maps[i])  # no later stage has written into it
        assert torch.equal(net.forward_head(h), net(images))
        assert torch.equal(h, net.forward_features(images)[-1])
        pooled = h.flatten(2).mean(2)
        torch.testing.assert_close(net.fc(pooled), net(images))


def test_wide_resnet_feeds_the_first_shortcut_with_the_activated_input() -> None:
    net = WideResNet(0, depth=10, widen=2).eval()
    blocks = [net.get_submodule(f"block{i}.layer.0") for i in (1, 2)]
    for block, channels, first in zip(blocks, (16, 32), (True, False), strict=True):
        assert isinstance(block, WideBlock)
        assert block.convShortcut is not None
        x = torch.randn(2, channels, 6, 5, generator=torch.Generator().manual_seed(3))
        shortcut_input = nn.functional.leaky_relu(x / math.sqrt(1.001), 0.1) if first else x
        with torch.no_grad():
            for parameter in block.conv2.parameters():
                parameter.zero_()
            torch.testing.assert_close(block(x), block.convShortcut(shortcut_input))


@pytest.mark.parametrize("arch", ["resnet18", "wrn28_8"])
def test_openmixup_init(arch: str) -> None:
    net = build_model(arch, num_classes=100, input_size=(3, 32, 32))
    convs = {n: m for n, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    for name, conv in convs.items():
        fan_out = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1]
        spread = 6 / math.sqrt(2 * conv.weight.numel())  # of a sample deviation, relative
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=spread), name
        assert conv.bias is None or not conv.bias.any()
    zero = {
        n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d) and not m.weight.any()
    }
    if arch == "resnet18":
        assert zero == {f"layer{i}.{j}.bn2" for i in (1, 2, 3, 4) for j in (0, 1)}
    else:
        assert not zero
    assert isinstance(net.fc, nn.Linear)
    assert net.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not net.fc.bias.any()


def test_torch_init_has_the_moments_of_the_default_one() -> None:
    net = build_model("resnet18", num_classes=100, input_size=(3, 32, 32), init="torch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        default = ResNet(100, block="basic", depths=(2, 2, 2, 2), stem="cifar")
    for (name, ours), theirs in zip(net.named_parameters(), default.parameters(), strict=True):
        bound = theirs.abs().max().item()
        if ours.ndim == 1 and name != "fc.bias":
            assert torch.equal(ours, theirs), name
        else:
            assert ours.abs().max().item() == pytest.approx(bound, rel=0.1), name
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.2), name


def standard_deviation(name: str, arch: str, weight: Tensor) -> float:
    """Return what OpenMixup's configurations make of one weight."""
    if name.endswith(("head.fc.weight", "classifier.weight")) or name == "head.weight":
        return 0.01
    if weight.ndim < 4 or arch == "deit_small":
        return 0.02
    if arch == "convnext_tiny":
        return 1 / math.sqrt(weight[0].numel()) / 0.8796
    if arch == "swin_tiny":
        return 1 / math.sqrt(3 * weight[0].numel())  # uniform up to 1 / sqrt(fan-in)
    return math.sqrt(2 / (len(weight) * weight.shape[2] * weight.shape[3]))


@pytest.mark.parametrize(
    ("arch", "norms"),
    [
        ("convnext_tiny", nn.LayerNorm),
        ("swin_tiny", nn.LayerNorm),
        ("deit_small", nn.LayerNorm),
        ("mobilenetv2", nn.BatchNorm2d),
        ("efficientnet_b0", nn.BatchNorm2d),
    ],
)
def test_openmixup_init_of_networks_of_timm(arch: str, norms: type[nn.Module]) -> None:
    net = build_model(arch, num_classes=100, input_size=(3, 64, 64))
    checked = set()
    for name, weight in net.named_parameters():
        if weight.numel() < 50 or name.endswith("bias"):
            continue
        if weight.ndim > 1:
            expected = standard_deviation(name, arch, weight)
            spread = 6 / math.sqrt(2 * weight.numel())
            assert weight.std().item() == pytest.approx(expected, rel=spread), name
            assert abs(weight.mean().item()) < 6 * expected / math.sqrt(weight.numel()), name
        elif name.endswith("gamma"):
            assert bool((weight == 1e-6).all()), name
        checked.add(name)
    plain = [m for m in net.modules() if isinstance(m, norms)]
    assert len(plain) > 10
    assert all(bool((m.get_parameter("weight") == 1).all()) for m in plain)
    for name, bias in net.named_parameters():
        if name.endswith("bias") and name != "patch_embed.proj.bias":
            assert not bias.any(), name
    assert len(checked) > 40
    expected_options = {"stem": "cifar"} if arch == "convnext_tiny" else {}
    assert arch_options(net) == expected_options


def test_drop_path_grows_with_depth_and_is_recorded() -> None:
    timm = pytest.importorskip("timm")
    net = build_model("deit_small", num_classes=3, input_size=(3, 32, 32), drop_path=0.1)
    rates = [m.drop_prob for m in net.modules() if isinstance(m, timm.layers.DropPath)]
    assert rates == pytest.approx([0.1 * i / 11 for i in range(1, 12) for _ in range(2)])
    assert arch_options(net) == {"drop_path": 0.1}
    for arch in ("swin_tiny", "convnext_tiny", "mobilenetv2"):  # timm's own default for Swin is 0.1
        net = build_model(arch, num_classes=3, input_size=(3, 64, 64))
        assert not any(isinstance(m, timm.layers.DropPath) for m in net.modules())
    net = build_model("timm:test_vit", num_classes=3, input_size=(3, 64, 64), drop_path=0.2)
    assert arch_options(net) == {"drop_path": 0.2}
    assert any(isinstance(m, timm.layers.DropPath) for m in net.modules())


def test_first_layers_of_convnext() -> None:
    pytest.importorskip("timm")
    for size, kernel in ((32, 3), (224, 4)):
        net = build_model("convnext_tiny", num_classes=2, input_size=(3, size, size)).eval()
        stem = net.get_submodule("stem.0")
        assert isinstance(stem, nn.Conv2d)
        assert stem.kernel_size == (kernel, kernel)
        images = torch.zeros(1, 3, 32, 32)
        assert stem(images).shape == (1, 96, *((32, 32) if kernel == 3 else (8, 8)))
        assert net(images).shape == (1, 2)


@pytest.mark.parametrize("arch", ["resnet8", "mobilenetv2"])
@pytest.mark.parametrize("init", ["openmixup", "torch"])
def test_weights_depend_on_the_generator_only(init: str, arch: str) -> None:
    def build(seed: int) -> dict[str, Tensor]:
        return build_model(
            arch,
            num_classes=7,
            input_size=(3, 32, 32),
            init=init,  # type: ignore[arg-type]
            generator=torch.Generator().manual_seed(seed),
        ).state_dict()

    before = torch.get_rng_state()
    first = build(5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    second, other = build(5), build(6)
    assert all(torch.equal(first[k], second[k]) for k in first)
    drawn = [key for key, value in first.items() if value.ndim > 1]
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


@pytest.mark.parametrize(
    ("arch", "size", "stem", "expected"),
    [
        ("resnet18", 32, None, "cifar"),
        ("resnet18", 64, None, "cifar"),
        ("resnet18", 128, None, "imagenet"),
        ("resnet18", 224, None, "imagenet"),
        ("resnet18-cifar", 224, None, "cifar"),
        ("resnet18", 32, "imagenet", "imagenet"),
        ("resnet8", 224, None, "cifar"),
    ],
)
def test_stem(arch: str, size: int, stem: Stem | None, expected: Stem) -> None:
    net = build_model(arch, num_classes=2, input_size=(3, size, size), stem=stem)
    assert arch_options(net) == {"stem": expected}
    kernel = net.get_parameter("conv1.weight").shape[2:]
    assert kernel == ((3, 3) if expected == "cifar" else (7, 7))


@pytest.mark.parametrize(
    ("options", "code", "hint"),
    [
        ({"arch": "resnet-18"}, "E-UNKNOWN-ARCH", "did you mean 'resnet18'?"),
        ({"arch": "resnet18-cifar", "stem": "imagenet"}, "E-STEM", ""),
        ({"arch": "wrn28_8", "stem": "imagenet"}, "E-STEM", "choose from cifar"),
        ({"arch": "resnet8", "stem": "patch"}, "E-STEM", "choose from cifar"),
        ({"arch": "swin_tiny-cifar"}, "E-STEM", "leave it out"),
        ({"arch": "swin_tiny", "input_size": (3, 30, 32)}, "E-INPUT-SIZE", "--img-size"),
        ({"arch": "deit_small", "input_size": (3, 32, 40)}, "E-INPUT-SIZE", "--img-size"),
        ({"arch": "resnet8", "drop_path": 0.1}, "E-DROP-PATH", "leave it out"),
        ({"arch": "deit_small", "drop_path": 1.0}, "E-DROP-PATH", ""),
        ({"arch": "deit_small", "drop_path": -0.1}, "E-DROP-PATH", ""),
        ({"arch": "timm:vgg11", "drop_path": 0.1}, "E-DROP-PATH", "leave it out"),
        ({"arch": "torchvision:resnet18", "drop_path": 0.1}, "E-DROP-PATH", "leave it out"),
        ({"arch": "resnet8", "num_classes": -1}, "E-CLASSES", ""),
        ({"arch": "resnet8", "input_size": (1, 32, 32)}, "E-INPUT-SIZE", ""),
        ({"arch": "resnet8", "init": "xavier"}, "E-UNKNOWN-INIT", "choose from"),
        ({"arch": "keras:resnet18"}, "E-UNKNOWN-ARCH", ""),
        ({"arch": "timm:resnet188"}, "E-UNKNOWN-ARCH", "timm:resnet18"),
        ({"arch": "torchvision:resnet188"}, "E-UNKNOWN-ARCH", "torchvision:resnet18"),
        ({"arch": "torchvision:qqqqqqq"}, "E-UNKNOWN-ARCH", "see the classification models"),
        ({"arch": "torchvision:resnet18", "stem": "cifar"}, "E-STEM", ""),
    ],
    ids=lambda value: value.get("arch") if isinstance(value, dict) else None,
)
def test_what_cannot_be_meant_is_one_line(options: dict[str, object], code: str, hint: str) -> None:
    given: dict[str, object] = {"num_classes": 10, "input_size": (3, 32, 32), **options}
    with pytest.raises(UsageError) as caught:
        build_model(**given)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert hint in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("arch", ["timm:test_vit", "torchvision:resnet18"])
def test_library_architectures_are_seeded_and_leave_the_global_stream(arch: str) -> None:
    def build(seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        return build_model(arch, num_classes=7, input_size=(3, 64, 64), generator=generator).eval()

    before = torch.get_rng_state()
    first = build(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    again = build(1).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.state_dict().items())
    assert not all(torch.equal(v, again[k]) for k, v in build(2).state_dict().items())
    assert first(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert arch_options(first) == {}


# architectures of others


def plain(num_classes: int) -> nn.Module:
    """One linear layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 12 * 20, num_classes))


class Told(nn.Module):
    """Remember what it was built with."""

    def __init__(
        self, classes: int, drop_path: float, size: tuple[int, int], wide: int = 1
    ) -> None:
        super().__init__()
        self.told = (classes, drop_path, size, wide)
        self.top = nn.Linear(2, classes)


def by_keyword(**options: object) -> nn.Module:
    return Told(options["num_classes"], 0.0, (0, 0))  # type: ignore[arg-type]


@pytest.fixture
def archs() -> Iterator[None]:
    with ARCHS.temporary():
        yield


def built(name: str, **options: Any) -> nn.Module:
    return build_model(name, num_classes=7, input_size=(3, 12, 20), **options)


@pytest.mark.usefixtures("archs")
def test_a_function_of_the_classes_is_an_architecture() -> None:
    ARCHS.register("mine", plain)
    assert ARCHS.row("mine").help == "One linear layer."
    seeds = [torch.Generator().manual_seed(seed) for seed in (3, 3, 4)]
    before = torch.get_rng_state()
    one, same, other = (built("mine", generator=seed)[1].weight for seed in seeds)  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before)
    assert one.shape == (7, 720)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    # The builder's own first weights: a layer that is drawn as openmixup does has a std of 0.01.
    assert float(one.detach().std()) == pytest.approx((3 * 720) ** -0.5, rel=0.05)
    assert arch_options(built("mine")) == {}


@pytest.mark.usefixtures("archs")
def test_a_builder_is_given_what_it_has_parameters_for() -> None:
    ARCHS.register("narrow", Told)
    ARCHS.register("wide", Told, options={"wide": 4}, stems=("cifar",), multiple=4)
    ARCHS.register("keyword", by_keyword)
    told = [built(name).told for name in ("narrow", "wide", "keyword")]
    assert told == [(7, 0.0, (12, 20), 1), (7, 0.0, (12, 20), 4), (7, 0.0, (0, 0), 1)]
    assert built("wide", drop_path=0.1).told == (7, 0.1, (12, 20), 4)
    assert arch_options(built("wide")) == {"stem": "cifar"}
    with pytest.raises(UsageError, match="keyword has no drop-path"):
        built("keyword", drop_path=0.1)
    with pytest.raises(UsageError, match="wide takes images whose sides are multiples of 4"):
        build_model("wide", num_classes=7, input_size=(3, 10, 12))
    with pytest.raises(UsageError, match="narrow has no cifar stem; leave it out"):
        built("narrow", stem="cifar")


@pytest.mark.usefixtures("archs")
def test_a_name_that_ends_like_a_stem_stays_whole() -> None:
    ARCHS.register("mine-cifar", plain)
    assert isinstance(built("mine-cifar"), nn.Sequential)
    assert split_stem("mine-cifar") == ("mine-cifar", None)


@pytest.mark.usefixtures("archs")
def test_a_builder_that_fails_is_named() -> None:
    ARCHS.register("raises", lambda num_classes: 1 // 0, "raises")
    ARCHS.register("nothing", lambda num_classes: None, "nothing")
    ARCHS.register("number", 3, "a number")
    where = r"from tests\.models\.test_architectures sha256:\w+, "
    for name, what in (("raises", "raised ZeroDivision"), ("nothing", "returned NoneType, not a")):
        with pytest.raises(IntakeError, match=f"the builder of arch '{name}', {where}{what}") as e:
            built(name)
        assert e.value.code == "E-PLUGIN"
    with pytest.raises(UsageError, match="arch 'number' is a int; give a function or class"):
        built("number")
    with pytest.raises(UsageError, match="arch 'resnet18' exists already, from robustmix itself"):
        ARCHS.register("resnet18", plain)
