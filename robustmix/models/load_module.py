"""Load a network that is code: a module of the caller's, or what ``module:`` names."""

import copy
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from robustmix.errors import IntakeError
from robustmix.models.names import NORM_PRESETS
from robustmix.models.outputs import config_of, logits_on_probe
from robustmix.models.own_code import own_network, place_of, register_own
from robustmix.models.registry import arch_options, global_stream_from
from robustmix.models.robust_model import ModelInfo, RobustModel
from robustmix.models.wanted import Missing, Wanted, as_size, asked_for
from robustmix.models.wrap import parameter_count, wrapped
from robustmix.text import plain


def from_own_code(source: str, wanted: Wanted) -> RobustModel:
    """Make a user's network and wrap it; what timm wrote on it says what nobody else does.

    Args:
        source: ``module:FILE.py:FACTORY`` or ``module:PACKAGE:FACTORY``, as it was typed.
        wanted: what the caller says of the network.

    Raises:
        UsageError: there is no such factory, or it needs other arguments.
        IntakeError: the code raises, in which case file and line are named, or its network does
            not fit.
    """
    name = register_own(source)
    own = own_network(name)
    with global_stream_from(torch.Generator().manual_seed(0)):
        net = own.make(wanted.num_classes)
    said = config_of(net)
    if wanted.input_size is None and "input_size" in said:
        wanted = replace(wanted, input_size=as_size(said["input_size"]))
    if wanted.norm is None and "mean" in said and "std" in said:
        wanted = replace(wanted, mean=said["mean"], std=said["std"])
    try:
        model = from_module(net, wanted, name)
    except IntakeError as error:
        place = "" if error.__cause__ is None else place_of(error.__cause__, own.file)
        if not place:
            raise
        raise IntakeError(f"{place}: {error.message}", error.hint, code=error.code) from error
    model.info = replace(model.info, arch=name, sha256=own.sha256)
    return model


def from_module(net: nn.Module, wanted: Wanted, called: str = "") -> RobustModel:
    """Wrap a copy, so that the caller's module keeps its mode, its gradients and its precision.

    Args:
        net: it takes normalised images.
        wanted: what the caller says of it.
        called: the name of a module that was typed on a command line; by default its class's.

    Raises:
        IntakeError: it is no module with weights of its own, cannot be copied, or image size or
            normalisation is not known.
    """
    name = called or type(net).__name__
    if isinstance(net, torch.jit.ScriptModule):
        raise IntakeError(
            f"{name} is a TorchScript program, which is not supported",
            "give the module it was made from",
            code="E-FORMAT",
        )
    if any(is_lazy(tensor) for tensor in (*net.parameters(), *net.buffers())):
        raise IntakeError(
            f"{name} has lazy layers, whose weights are not made yet",
            "call it once on images, then load its weights into it",
            code="E-MODEL",
        )
    if any(tensor.is_meta for tensor in (*net.parameters(), *net.buffers())):
        raise IntakeError(
            f"{name} is on the meta device, where there are no weights",
            "make it on a real device and load its weights",
            code="E-MODEL",
        )
    missing: list[Missing] = []
    if wanted.input_size is None:
        hint = "pass --img-size" if called else "pass input_size=(3, H, W)"
        missing.append(("E-INPUT-SIZE", "image size", hint))
    if wanted.norm is None:
        hint = f"pass norm_preset ({', '.join(NORM_PRESETS)}) or mean and std"
        if called:
            hint = "pass --norm-preset " + "|".join(NORM_PRESETS) + ", or --mean and --std"
        missing.append(("E-NO-NORM", "normalisation", hint))
    if missing or wanted.input_size is None:
        raise asked_for(name, missing)
    copied = _copied(net, name).float().eval()
    outputs = logits_on_probe(copied, wanted.input_size, name).shape[1]
    info = ModelInfo(
        source=name,
        format="module",
        arch=wanted.arch or name,
        arch_options=arch_options(net),
        params=parameter_count(net),
    )
    return wrapped(copied, info, wanted, wanted.input_size, wanted.norm, outputs)


def _copied(net: nn.Module, name: str) -> nn.Module:
    # What a hook such as weight_norm has computed belongs to the last pass and is computed anew;
    # with its gradient it could not be copied.
    memo: dict[int, object] = {
        id(value): value.detach().clone()
        for module in net.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        return copy.deepcopy(net, memo)
    except Exception as error:  # whatever its parts raise
        raise IntakeError(
            f"{name} cannot be copied: {plain(error, 120) or type(error).__name__}",
            "take out what cannot, such as files, locks and stored results of a pass",
            code="E-MODEL",
        ) from error
