"""Attention rollout: which patches a ViT's class token is made of, through all layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from robustmix.errors import UsageError
from robustmix.later import F, RobustModel, Tensor, nn, torch
from robustmix.saliency.attention import attention_of
from robustmix.saliency.sources import Explained


def rollout(explained: Explained) -> Tensor:
    """Return the share of every patch in the class token, enlarged bilinearly, (N, H, W).

    A network that pools its patch tokens instead is asked for their mean. The maps do not depend
    on the explained class.

    Raises:
        UsageError: the network is not a plain ViT of timm.

    Reference:
        Abnar and Zuidema 2020, arXiv:2005.00928, section 3.
    """
    network = explained.robust.net
    attentions = check_rollout(explained.robust)
    with torch.no_grad(), attention_of(attentions) as seen:
        explained.model(explained.images)
    n = len(explained.images)
    shares = attention_rollout([a[:n] for a in seen])
    vit = cast(Any, network)
    prefix = int(vit.num_prefix_tokens)
    row = shares[:, 0] if vit.global_pool == "token" else shares[:, prefix:].mean(dim=1)
    rows, columns = vit.patch_embed.grid_size
    maps = row[:, prefix:].view(n, 1, rows, columns)
    return F.interpolate(maps, explained.size, mode="bilinear", align_corners=False).squeeze(1)


def attention_rollout(attentions: Sequence[Tensor]) -> Tensor:
    """Return how much of each token's last state comes from each token's first, (N, T, T).

    A layer hands on half of a token and half of what it attends to: A = (mean over heads + I) / 2,
    and layers multiply.

    Args:
        attentions: of each layer in their order, (N, heads, T, T), rows summing to 1.

    Example:
        >>> even = torch.full((1, 1, 2, 2), 0.5)
        >>> attention_rollout([even, even])[0, 0].tolist()
        [0.625, 0.375]
    """
    total: Tensor | None = None
    for attention in attentions:
        mean = attention.mean(dim=1)
        layer = (mean + torch.eye(mean.shape[1], dtype=mean.dtype, device=mean.device)) / 2
        total = layer if total is None else layer @ total
    assert total is not None, "a ViT has layers"
    return total


def check_rollout(robust: RobustModel) -> list[nn.Module]:
    """Return the attention modules of the network's layers.

    Raises:
        UsageError: the network is not a plain ViT of timm.
    """
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import VisionTransformer

    network = robust.net
    if type(network) is not VisionTransformer:
        raise _no_rollout(robust, "it is not a ViT of timm (vit_*, deit_*)", "gradxinput")
    attentions = [getattr(block, "attn", None) for block in cast(Any, network).blocks]
    if not all(type(attention) is Attention for attention in attentions):
        raise _no_rollout(robust, "its attention is of another kind", "gradxinput")
    if network.global_pool not in ("token", "avg"):
        what = f"its '{network.global_pool}' pooling has weights of its own"
        raise _no_rollout(robust, what, "gradxinput")
    return cast(list[nn.Module], attentions)


def _no_rollout(robust: RobustModel, why: str, instead: str) -> UsageError:
    return UsageError(
        f"no attention rollout of {robust.info.arch}: {why}",
        f"choose --saliency {instead}",
        code="E-SALIENCY",
    )
