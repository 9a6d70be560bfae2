"""Attention of a ViT's class token in its last block: where a self-supervised network looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from robustmix.errors import UsageError
from robustmix.later import RobustModel, Tensor, nn, torch
from robustmix.saliency.from_file import enlarge
from robustmix.saliency.sources import Explained


def attention(explained: Explained) -> Tensor:
    """Return the attention of the class token to every patch, in the size of the images, (N, H, W).

    Patches become blocks of pixels where that is exact. The maps do not depend on the explained
    class.

    Raises:
        UsageError: see ``check_attention``.
    """
    return enlarge(class_attention(explained), explained.size)


def class_attention(explained: Explained) -> Tensor:
    """Return the attention of the class token in the last block, (N, rows, columns) of patches.

    That is the softmax over all tokens, without the shares of the class token itself and of other
    tokens that are no patches. No classifier is asked, so a backbone will do.

    Args:
        explained: ``attention_head`` is the head that is taken, from 0; None takes their mean.

    Raises:
        UsageError: see ``check_attention``.

    Reference:
        Caron et al. 2021, arXiv:2104.14294, section 4.2.2.
    """
    from robustmix.models.robust_model import padded  # suites are listed without torch

    robust, n = explained.robust, len(explained.images)
    block = check_attention(robust, explained.attention_head)
    vit = cast(Any, robust.net)
    with torch.no_grad(), attention_of([block]) as seen:
        padded(robust.outputs)(explained.images)
    shares = seen[0][:n, :, 0, int(vit.num_prefix_tokens) :]
    head = explained.attention_head
    row = shares.mean(dim=1) if head is None else shares[:, head]
    return row.float().reshape(n, *vit.patch_embed.grid_size)


def check_attention(robust: RobustModel, head: int | None = None) -> nn.Module:
    """Return the attention module of the last block.

    Raises:
        UsageError: the network is no ViT of timm with a class token, or has no such head.
    """
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import VisionTransformer

    network = robust.net
    if not isinstance(network, VisionTransformer):
        raise _no_attention(robust, "it is not a ViT of timm (vit_*, deit_*)")
    if network.cls_token is None:
        raise _no_attention(robust, "it has no class token")
    if cast(Any, network).patch_embed.grid_size is None:
        raise _no_attention(robust, "its patches are no fixed grid")
    last: nn.Module | None = getattr(cast(Any, network).blocks[-1], "attn", None)
    if not isinstance(last, Attention) or type(last) is not Attention:
        raise _no_attention(robust, "the attention of its last block is of another kind")
    if head is not None and not 0 <= head < last.num_heads:
        raise UsageError(
            f"{robust.info.arch} has heads 0 to {last.num_heads - 1}, not {head}",
            "choose one of these, or mean",
            code="E-SALIENCY",
        )
    return cast(nn.Module, last)


@contextmanager
def attention_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the attention (N, heads, T, T) of every layer; the fused kernel does not show it."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    fused = [cast(Any, module).fused_attn for module in modules]
    handles = [
        module.get_submodule("attn_drop").register_forward_pre_hook(keep) for module in modules
    ]
    try:
        for module in modules:
            cast(Any, module).fused_attn = False
        yield seen
    finally:
        for module, before in zip(modules, fused, strict=True):
            cast(Any, module).fused_attn = before
        for handle in handles:
            handle.remove()


def _no_attention(robust: RobustModel, why: str) -> UsageError:
    return UsageError(
        f"no attention of {robust.info.arch}: {why}",
        "choose another source of saliency (robustmix list saliency)",
        code="E-SALIENCY",
    )
