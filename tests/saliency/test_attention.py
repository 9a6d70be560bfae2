"""Attention of the class token: against q and k by hand, and on a network where it is known."""

from pathlib import Path
from typing import Any, cast

import pytest
import timm
import torch
from torch import Tensor, nn

from robustmix.errors import IntakeError, UsageError
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel, padded
from robustmix.saliency.attention import check_attention, class_attention
from robustmix.saliency.registry import SALIENCY
from robustmix.saliency.sources import Explained, saliency_maps
from tests.evaluation.tiny import MEAN, STD, tiny_model
from tests.saliency.test_saliency import vit

SIZE = (32, 16)


def explained(robust: RobustModel, x: Tensor, head: int | None = None) -> Explained:
    return Explained(
        robust=robust, model=padded(robust), images=x, labels=None, seed=0, attention_head=head,
        sample_ids=tuple(map(str, range(len(x)))),
    )  # fmt: skip


def images(n: int = 5, height: int = 32, width: int = 16) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def by_hand(net: Any, x: Tensor, heads: int, prefix: int) -> Tensor:
    """Return softmax(q k / sqrt(d)) of the class token in the last block, (N, heads, patches)."""
    with torch.no_grad():
        state = net._pos_embed(net.patch_embed(x))
        for block in net.blocks[:-1]:
            state = block(state)
        last = net.blocks[-1]
        given = last.norm1(state)
        width = given.shape[2]
        weight, bias = last.attn.qkv.weight, last.attn.qkv.bias
        q = given[:, 0] @ weight[:width].T + bias[:width]
        k = given @ weight[width : 2 * width].T + bias[width : 2 * width]
        rows = []
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            scores = (k[:, :, part] * q[:, None, part]).sum(dim=2) / (width // heads) ** 0.5
            rows.append(scores.softmax(dim=1)[:, prefix:])
        return torch.stack(rows, dim=1)


@pytest.mark.parametrize("options", [{}, {"global_pool": "avg"}])
def test_it_is_the_softmax_of_queries_and_keys(options: dict[str, Any]) -> None:
    robust, x = vit(**options), images()
    net: Any = robust.net
    assert all(block.attn.fused_attn for block in net.blocks)
    want = by_hand(net, (x - robust.mean) / robust.std, heads=3, prefix=1)
    for head in range(3):
        found = class_attention(explained(robust, x, head))
        assert found.shape == (5, 4, 2)
        torch.testing.assert_close(found.flatten(1), want[:, head], rtol=1e-4, atol=1e-6)
    mean = class_attention(explained(robust, x))
    torch.testing.assert_close(mean.flatten(1), want.mean(dim=1), rtol=1e-4, atol=1e-6)
    assert float((want[:, 0] - want[:, 1]).abs().max()) > 0.01  # heads differ
    assert all(block.attn.fused_attn for block in net.blocks)
    alone = class_attention(explained(robust, x[3:4], 1))
    torch.testing.assert_close(alone[0].flatten(), want[3, 1], rtol=1e-4, atol=1e-6)


def test_tokens_that_are_no_patches_are_left_out() -> None:
    """A distilled DeiT has two of them before the patches."""
    net = timm.create_model(
        "deit_tiny_distilled_patch16_224", img_size=SIZE, patch_size=8, depth=2, embed_dim=24,
        num_heads=3, num_classes=5,
    )  # fmt: skip
    robust = RobustModel(net, mean=MEAN, std=STD, num_classes=5, input_size=(3, *SIZE))
    want = by_hand(net, (images() - robust.mean) / robust.std, heads=3, prefix=2)
    found = class_attention(explained(robust, images(), 2))
    torch.testing.assert_close(found.flatten(1), want[:, 2], rtol=1e-4, atol=1e-6)


def planted(gains: tuple[float, float] = (-2.0, 3.0), classes: int = 0) -> nn.Module:
    """Build a ViT of one block whose heads score a patch by its mean: gain x mean, the class 0."""
    net: Any = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=1, embed_dim=8, num_heads=2,
        num_classes=classes,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.patch_embed.proj.weight[0] = 1 / (3 * 8 * 8)  # the mean goes into channel 0
        net.blocks[0].norm1 = nn.Identity()
        qkv = net.blocks[0].attn.qkv
        for head, gain in enumerate(gains):
            qkv.bias[4 * head] = 2.0  # every query; its length over sqrt(4) is 1
            qkv.weight[8 + 4 * head, 0] = gain  # the keys
    return cast(nn.Module, net.eval())


def known(x: Tensor, gain: float) -> Tensor:
    """Return what the planted head gives normalised images (N, 3, 32, 32), (N, 4, 4)."""
    weights = torch.exp(gain * x.mean(dim=1).unfold(1, 8, 8).unfold(2, 8, 8).mean(dim=(3, 4)))
    return weights / (1 + weights.sum(dim=(1, 2), keepdim=True))  # exp(0) of the class token


def test_a_planted_networks_attention_is_found_without_a_classifier() -> None:
    net = planted()
    robust = RobustModel(net, mean=MEAN, std=STD, num_classes=0, input_size=(3, 32, 32))
    x = images(6, 32, 32)
    for head, gain in enumerate((-2.0, 3.0)):
        want = known((x - robust.mean) / robust.std, gain)
        torch.testing.assert_close(class_attention(explained(robust, x, head)), want)
    # In the size of the images a patch is a block of its value.
    blocks = saliency_maps(SALIENCY["attention"], explained(robust, x, 1))
    assert torch.equal(blocks[:, ::8, ::8], class_attention(explained(robust, x, 1)))
    assert torch.equal(blocks[:, 7::8, 7::8], blocks[:, ::8, ::8])


@pytest.mark.parametrize(
    ("robust", "head", "text"),
    [
        (lambda: tiny_model(), None, "it is not a ViT of timm"),
        (lambda: vit(class_token=False, global_pool="avg"), None, "it has no class token"),
        (lambda: vit(), 3, "has heads 0 to 2, not 3"),
        (lambda: vit(), -1, "has heads 0 to 2, not -1"),
    ],
)
def test_networks_without_such_attention_say_so(robust: Any, head: int | None, text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        check_attention(robust(), head)
    assert caught.value.code == "E-SALIENCY"


def dino_file(path: Path, **options: Any) -> nn.Module:
    """Write a state dict without a classifier, as self-supervised training leaves it."""
    net = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32, **options)
    torch.save(net.state_dict(), path)
    return cast(nn.Module, net.eval())


def test_a_file_without_a_classifier_is_taken_where_none_is_needed(tmp_path: Path) -> None:
    net = dino_file(tmp_path / "dino.pth")
    said: dict[str, Any] = {
        "arch": "timm:vit_tiny_patch16_224", "input_size": (3, 32, 32), "norm_preset": "imagenet",
    }  # fmt: skip
    with pytest.raises(IntakeError, match="without a classifier"):
        load_model(tmp_path / "dino.pth", **said)
    robust = load_model(tmp_path / "dino.pth", backbone=True, **said)
    assert not robust.info.classifier
    x = images(3, 32, 32)
    want = by_hand(net, (x - robust.mean) / robust.std, heads=3, prefix=1)
    found = class_attention(explained(robust, x, 1))
    torch.testing.assert_close(found.flatten(1), want[:, 1], rtol=1e-4, atol=1e-6)


def test_names_of_a_library_mean_trained_weights_by_their_tag() -> None:
    with pytest.raises(IntakeError, match=r"timm:vit_small_patch16_224@dino are not in the local"):
        load_model("timm:vit_small_patch16_224.dino", backbone=True)
    random = load_model("timm:test_vit", backbone=True, input_size=(3, 32, 32))
    assert not random.info.classifier
    assert "random weights" in random.info.notes[0]
    assert load_model("timm:test_vit", num_classes=7, input_size=(3, 32, 32)).info.classifier
