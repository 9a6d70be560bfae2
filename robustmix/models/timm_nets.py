"""Architectures with a short name whose layers are timm's, and how OpenMixup draws their weights.

Parameters and buffers bear the names that timm gives them, so its published files load unchanged.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn

from robustmix.errors import UsageError
from robustmix.models.names import Stem

HEAD_STD = 0.01
"""Standard deviation of a classifier's initial weights."""

CUT = 0.87962566103423978
"""Standard deviation of a normal variable cut off at -2 and 2; LeCun's rule is divided by it."""


def build_timm_net(
    num_classes: int, stem: Stem | None, size: tuple[int, int], drop_path: float, *, name: str
) -> nn.Module:
    """Build a network of ``ARCHS`` whose layers are timm's, with timm's own initial weights.

    Args:
        num_classes: outputs of the classifier; 0 leaves it out.
        stem: of ConvNeXt; ``cifar`` is a 3x3 convolution with stride 1 in place of 4x4 patches.
        size: height and width of the images; fixes the grid of a transformer.
        drop_path: probability of dropping the last residual branch, linearly less before it.
        name: what timm calls it.
    """
    options: dict[str, Any] = {"drop_path_rate": drop_path}
    if name.startswith(("swin", "deit")):
        options["img_size"] = size
    if stem == "cifar":
        options["patch_size"] = 1
    net = create_timm_model(name, num_classes, options)
    if stem == "cifar":
        first = net.get_submodule("stem.0")
        assert isinstance(first, nn.Conv2d)
        net.get_submodule("stem").add_module("0", nn.Conv2d(3, first.out_channels, 3, padding=1))
    return net


def create_timm_model(name: str, num_classes: int, options: dict[str, Any]) -> nn.Module:
    """Call timm's factory, without trained weights.

    Raises:
        UsageError: the network has no drop-path and is asked for it.
    """
    import timm

    try:
        net = timm.create_model(name, pretrained=False, num_classes=num_classes, **options)
    except TypeError as error:
        if "drop_path_rate" in options and "drop_path_rate" in str(error):
            raise UsageError(
                f"timm:{name} has no drop-path", "leave it out", code="E-DROP-PATH"
            ) from error
        raise
    return cast(nn.Module, net)


def initialise_as_openmixup(net: nn.Module, generator: torch.Generator) -> None:
    """Draw the parameters of a network of ``build_timm_net`` anew, in the order of its modules.

    Norms start at 1 and 0, classifiers at Normal(0, 0.01). Linear layers start at Normal(0, 0.02),
    and so do tokens and tables of positions; convolutions as LeCun's rule has it in ConvNeXt, like
    linear layers in DeiT, like torch's default in Swin, and kaiming-normal over the fan-out
    in mobile networks. What is called truncated normal there is cut off at -2 and 2, not at two
    standard deviations, so nothing is ever cut.
    """
    family = type(net).__name__
    classifier = cast(Any, net).get_classifier()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            _draw_convolution(module, family, generator)
        elif isinstance(module, nn.Linear):
            std = HEAD_STD if module is classifier else 0.02
            _draw(module.weight, std, generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        for name, parameter in module.named_parameters(recurse=False):
            if name in ("cls_token", "pos_embed", "relative_position_bias_table"):
                _draw(parameter, 0.02, generator)
            elif name == "gamma":
                nn.init.constant_(parameter, 1e-6)


def _draw_convolution(module: nn.Conv2d, family: str, generator: torch.Generator) -> None:
    weight = module.weight
    fan_in = weight[0].numel()
    if family == "SwinTransformer":
        nn.init.kaiming_uniform_(weight, a=5**0.5, generator=generator)
        assert module.bias is not None
        nn.init.uniform_(module.bias, -(fan_in**-0.5), fan_in**-0.5, generator=generator)
        return
    if family == "ConvNeXt":
        _draw(weight, fan_in**-0.5 / CUT, generator)
    elif family == "VisionTransformer":
        _draw(weight, 0.02, generator)
    else:
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _draw(weight: Tensor, std: float, generator: torch.Generator) -> None:
    nn.init.normal_(weight, std=std, generator=generator)
