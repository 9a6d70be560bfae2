"""ManifoldMix, TransMix and SnapMix: what happens inside the network, by another way."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustmix.data.loader import Batch
from robustmix.errors import UsageError
from robustmix.methods import Setup, cutmix, draw_cutmix, draw_mixup, mixup
from robustmix.methods.cutmix import CutMixDraws, cut_box
from robustmix.methods.losses import BinaryLoss
from robustmix.methods.manifoldmix import (
    ManifoldMixDraws,
    draw_manifoldmix,
    manifold_places,
    manifold_stages,
    manifoldmix_logits,
)
from robustmix.methods.mixing import blend_cross_entropy, blend_pairs, soft_targets
from robustmix.methods.registry import build_method
from robustmix.methods.snapmix import (
    SnapMixDraws,
    class_activation,
    draw_snapmix,
    same_class_doubled,
    snapmix,
)
from robustmix.methods.transmix import ClassAttention, transmix_lam
from robustmix.models.registry import build_model

SIZE = (3, 32, 32)


def net(arch: str) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    return build_model(arch, num_classes=5, input_size=SIZE, generator=generator)


def images(n: int = 4) -> Tensor:
    return torch.randn(n, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_manifoldmix_of_a_residual_network_stage_by_stage(layer: int) -> None:
    network: Any = net("resnet8")
    x, perm, lam = images(), torch.tensor([1, 2, 3, 0]), 0.3
    got = manifoldmix_logits(
        network, manifold_places(network), x, ManifoldMixDraws(layer, lam, perm)
    )
    if layer == 0:
        x = lam * x + (1 - lam) * x[perm]
    h = network.forward_stem(x)
    for i in range(3):
        h = network.forward_stage(i, h)
        if i + 1 == layer:
            h = lam * h + (1 - lam) * h[perm]
    torch.testing.assert_close(got, network.forward_head(h))


ARCHS = [
    "resnet8",
    "timm:test_vit",
    "timm:resnet10t",
    "timm:test_convnext",
    "timm:test_efficientnet",
]


@pytest.mark.parametrize("arch", ARCHS)
def test_networks_that_can_be_mixed_inside(arch: str) -> None:
    network = net(arch).eval()
    assert len(manifold_stages(network, arch)) == 2
    places = manifold_places(network, arch)
    x, perm = images(), torch.tensor([1, 2, 3, 0])
    with torch.no_grad():
        plain = network(x)
        for layer in (1, 2):
            whole = manifoldmix_logits(network, places, x, ManifoldMixDraws(layer, 1.0, perm))
            torch.testing.assert_close(whole, plain)
            other = manifoldmix_logits(network, places, x, ManifoldMixDraws(layer, 0.0, perm))
            torch.testing.assert_close(other, plain[perm], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(x), plain)  # nothing stays behind


def test_a_network_of_unknown_stages_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be mixed inside: its stages are not known"):
        build_method(
            "manifoldmix", net("torchvision:mobilenet_v2"), {}, Setup(rng=np.random.default_rng(0))
        )


def test_manifoldmix_has_the_authors_loss_too() -> None:
    x, labels = images(), torch.tensor([0, 3, 3, 4])
    batch = Batch(x, labels, torch.arange(4))

    def method(options: dict[str, object], **setup: Any) -> Any:
        given = Setup(rng=np.random.default_rng(1), label_smoothing=0.1, **setup)
        return build_method("manifoldmix", net("resnet8"), options, given)

    draws = ManifoldMixDraws(0, 0.25, torch.tensor([1, 2, 3, 0]))
    p = method({}).network(0.25 * x + 0.75 * x[draws.perm]).softmax(dim=1)
    targets = 0.25 * F.one_hot(labels, 5) + 0.75 * F.one_hot(labels[draws.perm], 5)
    targets = 0.9 * targets + 0.1 / 5
    by_class = -(targets * p.log() + (1 - targets) * (1 - p).log())
    authors = method({"loss": "softmax-bce"}).compute(batch, draws).loss
    torch.testing.assert_close(authors, by_class.mean())
    default = method({}).compute(batch, draws).loss
    torch.testing.assert_close(default, -(targets * p.log()).sum(dim=1).mean())
    with pytest.raises(ValueError, match="loss: one of ce, softmax-bce"):
        build_method(
            "manifoldmix", net("resnet8"), {"loss": "bce"}, Setup(rng=np.random.default_rng())
        )
    with pytest.raises(UsageError, match=r"method\.loss=softmax-bce and loss=bce exclude"):
        method({"loss": "softmax-bce"}, bce=BinaryLoss())


def test_places_and_weights_of_manifoldmix() -> None:
    rng = np.random.default_rng(0)
    draws = [draw_manifoldmix(3, 2.0, rng) for _ in range(900)]
    counts = np.bincount([draw.layer for draw in draws])
    assert len(counts) == 3
    assert abs(counts - 300).max() < 5 * (900 * 2 / 9) ** 0.5
    lam = np.array([draw.lam for draw in draws])
    assert abs(((lam - 0.5) ** 2).mean() - 1 / 20) < 0.01  # 1 / (4 (2 * 2 + 1))


def test_the_attention_is_what_the_block_computes() -> None:
    network: Any = net("timm:test_vit")
    layer = network.blocks[-1].attn
    layer.fused_attn = False
    seen: list[Tensor] = []
    layer.attn_drop.register_forward_hook(lambda m, i, o: seen.append(o))
    logits, attention = ClassAttention(network).logits(network, images())
    (weights,) = seen  # (N, heads, tokens, tokens)
    want = weights.detach().mean(dim=1)[:, 0, 1:].view(4, 2, 2)
    torch.testing.assert_close(attention, want)
    assert not attention.requires_grad
    torch.testing.assert_close(logits, network(images()))


@pytest.mark.parametrize("arch", ["resnet8", "timm:test_convnext", "torchvision:vit_b_16"])
def test_networks_without_a_class_token_are_refused(arch: str) -> None:
    network: nn.Module
    if arch.startswith("torchvision"):
        network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
    else:
        network = net(arch)
    with pytest.raises(UsageError, match="no attention of a class token"):
        build_method("transmix", network, {}, Setup(rng=np.random.default_rng(0), arch=arch))


def test_transmix_weights_by_hand() -> None:
    # 4 x 6 pixels, 2 x 3 patches. Box: sides int(4 * 0.5) = 2 and int(6 * 0.5) = 3, reaching 1 from
    # the centre (2, 2): rows 1 and 2, columns 1 and 2. Of the patches' upper left pixels, (2, 2).
    draws = CutMixDraws(lam=0.75, row=2, col=2, perm=torch.tensor([1, 0]))
    attention = torch.tensor([[[1.0, 2, 3], [4, 5, 6]], [[0, 0, 0], [0, 1, 3]]])
    got = transmix_lam(draws, (4, 6), attention)
    area = 1 - 4 / 24
    want = [area / 2 + (16 / 21) / 2, area / 2 + (3 / 4) / 2]
    assert got.tolist() == pytest.approx(want)


def test_transmix_is_cutmix_or_mixup_with_its_own_labels() -> None:
    network = net("timm:test_vit")
    labels = torch.tensor([0, 1, 2, 3])
    batch = Batch(images(), labels, torch.arange(4))
    for prob in (0.0, 1.0):
        setup = Setup(rng=np.random.default_rng(2), input_size=SIZE, arch="timm:test_vit")
        method: Any = build_method("transmix", network, {"cutmix_prob": prob}, setup)
        got = float(method.training_step(batch).loss.detach())
        rng = np.random.default_rng(2)
        rng.uniform()
        if prob:
            draws = draw_cutmix(4, (32, 32), 1.0, rng)
            mixed = cutmix(batch.images, draws).images
            logits, attention = ClassAttention(network).logits(network, mixed)
            own, perm = transmix_lam(draws, (32, 32), attention), draws.perm
        else:
            plain = draw_mixup(4, 0.8, rng)
            mixed, lam = mixup(batch.images, plain)
            logits, own, perm = network(mixed), torch.full((4,), lam), plain.perm
        eye = torch.eye(5)
        target = own[:, None] * eye[labels] + (1 - own[:, None]) * eye[labels[perm]]
        want = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
        assert got == pytest.approx(float(want.detach()), rel=1e-5)


def test_snapmix_by_hand() -> None:
    # One channel, 4 x 4. Own box: side int(4 * 0.5) = 2 around (1, 1): rows and columns 0 and 1.
    # Partner's: the same size around (3, 2): rows 2 and 3, columns 1 and 2.
    x = torch.arange(32, dtype=torch.float32).view(2, 1, 4, 4)
    draws = SnapMixDraws(0.75, 1, 1, 0.75, 3, 2, torch.tensor([1, 0]))
    activation = torch.ones(2, 4, 4)
    activation[0, 0, 0], activation[1, 3, 2] = 5.0, 9.0
    got = snapmix(x, draws, activation)
    want = x.clone()
    want[:, :, 0:2, 0:2] = x.flip(0)[:, :, 2:4, 1:3]
    torch.testing.assert_close(got.images, want)
    assert got.own.tolist() == pytest.approx([1 - 8 / 20, 1 - 4 / 24])
    assert got.partner.tolist() == pytest.approx([12 / 24, 4 / 20])


def test_a_pasted_box_is_resized_between_its_corners() -> None:
    x = torch.randn(2, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    draws = SnapMixDraws(0.5, 8, 9, 0.8, 10, 12, torch.tensor([1, 0]))
    got = snapmix(x, draws, torch.ones(2, 20, 24)).images
    own, other = cut_box(0.5, 8, 9, (20, 24)), cut_box(0.8, 10, 12, (20, 24))
    h, w = own.bottom - own.top, own.right - own.left
    part = x[1, :, other.top : other.bottom, other.left : other.right]
    for i, j in ((0, 0), (h - 1, w - 1), (3, 5)):
        y, z = i * (part.shape[1] - 1) / (h - 1), j * (part.shape[2] - 1) / (w - 1)
        top, left = min(int(y), part.shape[1] - 2), min(int(z), part.shape[2] - 2)
        a, b = y - top, z - left
        corners = part[:, top : top + 2, left : left + 2]
        rows = (1 - a) * corners[:, 0] + a * corners[:, 1]
        want = (1 - b) * rows[:, 0] + b * rows[:, 1]
        torch.testing.assert_close(got[0, :, own.top + i, own.left + j], want, atol=1e-5, rtol=0)


def test_an_empty_box_pastes_nothing() -> None:
    x = images(2)
    got = snapmix(
        x, SnapMixDraws(0.5, 8, 8, 1.0, 3, 3, torch.tensor([1, 0])), torch.ones(2, 32, 32)
    )
    assert torch.equal(got.images, x)
    assert (got.own.tolist(), got.partner.tolist()) == ([1, 1], [0, 0])


def test_activation_maps_sum_to_one_and_follow_the_class() -> None:
    features = torch.zeros(2, 3, 4, 4)
    features[0, 1, 0, 0], features[0, 2, 3, 3] = 2.0, 7.0
    weight = torch.tensor([[0.0, 1.0, -1.0], [1.0, 1.0, 1.0]])
    maps = class_activation(features, weight, (8, 12))
    assert maps.shape == (2, 8, 12)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(2))
    assert int(maps[0].argmax()) == 0  # the class has weight 1 there and -1 in the other corner
    assert float(maps[0, -1, -1]) == 0
    torch.testing.assert_close(maps[1], torch.full((8, 12), 1 / 96))  # nothing to tell apart
    by_conv = F.conv2d(features, weight[:1, :, None, None])[0, 0]
    up = F.interpolate(by_conv[None, None], size=(8, 12), mode="bilinear")[0, 0]
    torch.testing.assert_close(maps[0], (up - up.min()) / (up - up.min()).sum())


def test_the_quirks_of_snapmix() -> None:
    own, partner = torch.tensor([0.6, 0.2]), torch.tensor([0.3, 0.5])
    labels, others = torch.tensor([1, 2]), torch.tensor([1, 3])
    doubled = same_class_doubled(own, partner, labels, others)
    assert [w.tolist() for w in doubled] == [pytest.approx([0.9, 0.2]), pytest.approx([0.9, 0.5])]
    setup = Setup(rng=np.random.default_rng(0), input_size=SIZE)
    batch = Batch(images(), torch.tensor([1, 1, 1, 1]), torch.arange(4))
    perm = torch.tensor([1, 2, 3, 0])
    plain: Any = build_method("snapmix", net("resnet8"), {}, setup)
    released: Any = build_method("snapmix", net("resnet8"), {"double_same_class": True}, setup)
    for method, factor in ((plain, 1), (released, 2)):
        method.rng = np.random.default_rng(5)
        sums = soft_targets(method.mix(batch, perm=perm), batch.labels, 5).sum(dim=1)
        if factor == 1:
            once = sums
        torch.testing.assert_close(sums, factor * once)


def test_one_lambda_makes_both_boxes_one_size() -> None:
    rng = np.random.default_rng(3)
    draws = draw_snapmix(4, (32, 32), 1.0, rng)
    assert draws.lam != draws.partner_lam
    setup = Setup(rng=np.random.default_rng(3), input_size=SIZE)
    method: Any = build_method("snapmix", net("resnet8"), {"one_lambda": True}, setup)
    batch = Batch(images(), torch.tensor([0, 1, 2, 3]), torch.arange(4))
    got = method.mix(batch)
    same = draws._replace(partner_lam=draws.lam)
    want = snapmix(batch.images, same, method.activation(batch))
    torch.testing.assert_close(got.images, want.images)
    torch.testing.assert_close(got.weights, torch.stack([want.own, want.partner]))


@pytest.mark.parametrize("arch", ["timm:test_vit", "torchvision:mobilenet_v2"])
def test_snapmix_wants_a_map_at_the_end(arch: str) -> None:
    with pytest.raises(UsageError, match="does not end in a map"):
        build_method("snapmix", net(arch), {}, Setup(rng=np.random.default_rng(0), input_size=SIZE))


def test_the_loss_is_that_of_the_soft_target_and_its_quirk_that_of_mean_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, generator=generator)
    labels, perm = torch.tensor([0, 3, 1]), torch.tensor([2, 0, 1])
    own, other = torch.tensor([0.9, 0.5, 0.2]), torch.tensor([0.3, 0.5, 0.8])
    blend = blend_pairs(images(3), perm, own, other)
    for smoothing in (0.0, 0.1):
        eye = (1 - smoothing) * torch.eye(4) + smoothing / 4
        each = own[:, None] * eye[labels] + other[:, None] * eye[labels[perm]]
        means = own.mean() * eye[labels] + other.mean() * eye[labels[perm]]
        for quirk, target in ((False, each), (True, means)):
            want = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
            got = blend_cross_entropy(
                logits, labels, blend, smoothing=smoothing, batch_mean_lambda=quirk
            )
            torch.testing.assert_close(got, want)
    assert blend_cross_entropy(logits.bfloat16(), labels, blend).dtype == torch.float32
    repeated = blend._replace(sources=blend.sources[[0, 0]])
    sums = soft_targets(repeated, labels, 4).gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(sums, own + other)


@pytest.mark.parametrize(("name", "alpha"), [("deit", 0.8), ("rsb", 0.1)])
def test_policies_are_mixup_or_cutmix(name: str, alpha: float) -> None:
    batch = Batch(images(), torch.tensor([0, 1, 2, 3]), torch.arange(4))
    chosen = []
    for seed in range(40):
        setup = Setup(rng=np.random.default_rng(seed), input_size=SIZE)
        method: Any = build_method(name, net("resnet8"), {}, setup)
        got = method.mix(batch)
        rng = np.random.default_rng(seed)
        cut = rng.uniform() < 0.5
        if cut:
            draws = draw_cutmix(4, (32, 32), 1.0, rng)
            want, perm = cutmix(batch.images, draws), draws.perm
        else:
            plain = draw_mixup(4, alpha, rng)
            want, perm = mixup(batch.images, plain), plain.perm
        assert torch.equal(got.images, want.images)
        assert torch.equal(got.sources[1], perm)
        assert got.weights[0].tolist() == pytest.approx([want.lam] * 4)
        chosen.append(cut)
    assert 8 <= sum(chosen) <= 32


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rsb_asks_for_every_class_by_itself(smoothing: float) -> None:
    labels = torch.tensor([0, 1, 2, 3])
    batch = Batch(images(), labels, torch.arange(4))
    network = net("resnet8")
    losses = {}
    for loss in ("bce", "ce"):
        setup = Setup(rng=np.random.default_rng(1), label_smoothing=smoothing, input_size=SIZE)
        method: Any = build_method("rsb", network, {"loss": loss}, setup)
        losses[loss] = float(method.training_step(batch).loss.detach())
    blend = cast(Any, build_method("rsb", network, {}, Setup(rng=np.random.default_rng(1)))).mix(
        batch
    )
    p = network(blend.images).sigmoid().double()
    target = (1 - smoothing) * soft_targets(blend, labels, 5) + smoothing / 5
    want = -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    assert losses["bce"] == pytest.approx(float(want.detach()), rel=1e-4)
    ce = blend_cross_entropy(network(blend.images), labels, blend, smoothing=smoothing)
    assert losses["ce"] == pytest.approx(float(ce.detach()), rel=1e-5)
