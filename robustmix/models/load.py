"""Turn what a user calls a model (a file, a folder, a name, a module) into a ``RobustModel``.

Weights are loaded strictly: one missing tensor is an error, because a network with a random
classifier scores like a bad model rather than like a bug.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from robustmix.environment import choose_device
from robustmix.errors import IntakeError, UsageError
from robustmix.files import expanded
from robustmix.models.hub import HUB, hub_folder
from robustmix.models.load_file import from_file
from robustmix.models.load_module import from_module, from_own_code
from robustmix.models.names import OWN
from robustmix.models.own_code import register_own
from robustmix.models.pretrained import load_named
from robustmix.models.registry import Size, arch_options
from robustmix.models.robust_model import ModelInfo, RobustModel
from robustmix.models.wanted import Wanted, as_size
from robustmix.models.wrap import parameter_count, wrapped
from robustmix.text import plain

LIBRARIES = ("timm", "torchvision", "robustmix")
"""What stands before the colon of a model's name; ``module`` is a user's own code."""


def load_model(
    source: str | Path | nn.Module,
    *,
    arch: str | None = None,
    num_classes: int | None = None,
    input_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    norm_preset: str | None = None,
    class_map: str | Path | Sequence[int] | Tensor | None = None,
    class_names: Sequence[str] | None = None,
    head: str | None = None,
    weights: str | None = None,
    resize: int | tuple[int, int] | None = None,
    expect_sha256: str | None = None,
    trust_checkpoint: bool = False,
    override_checkpoint: bool = False,
    allow_download: bool = False,
    backbone: bool = False,
    device: str | torch.device = "cpu",
) -> RobustModel:
    """Load a model for evaluation.

    Args:
        source: a robustmix checkpoint; a foreign torch archive or safetensors file; a folder that
            timm's ``save_for_hf`` or transformers' ``save_pretrained`` wrote, or one of the Hugging
            Face hub, ``hf-hub:OWNER/NAME[@REVISION]``; a name ``robustmix:ARCH``, ``timm:NAME`` or
            ``torchvision:NAME`` (``@default`` or ``@TAG`` appended loads published weights, and so
            does ``timm:NAME.TAG``);
            ``module:FILE.py:FACTORY`` or ``module:PACKAGE:FACTORY``, which runs that code; or a
            module that takes normalised images, which is copied. It may return a tuple or a
            mapping with the logits in it (see ``logits_in``). A ``RobustModel`` is returned as it
            is, on ``device``.
        arch: architecture of a foreign file, as for ``build_model``; ``module:...`` runs that code.
        num_classes: number of the data set's labels; by default the model's outputs, which for a
            module one forward pass tells.
        input_size: (3, H, W) of the images; by default the file's, or the usual one of the stem.
        mean: normalisation, one number a channel in [0, 1] pixel units.
        std: likewise.
        norm_preset: name of a normalisation in ``NORM_PRESETS`` in place of ``mean`` and ``std``.
        class_map: label of each model output, or a CSV file of them (``read_class_map``).
        class_names: names of the data set's labels, in label order, for a class map with names.
        head: head of an OpenMixup file: ``one_k`` (default), ``mix_k``, ``one_q`` or ``mix_q``.
        weights: ``raw`` or ``ema`` for a file that has both.
        resize: resize the images inside the model to this size.
        expect_sha256: digest that the file must have.
        trust_checkpoint: let code in a foreign pickle run. Never for files of strangers.
        override_checkpoint: obey ``input_size``, ``mean``, ``std``, ``norm_preset`` and ``resize``
            also where they contradict what the file records; a note says so.
        allow_download: fetch published weights, and models of the hub, that are not in the local
            cache.
        backbone: take a network without a classifier too, for what needs none: its
            ``info.classifier`` is then False, and its outputs are no logits. Random weights of a
            library need no ``num_classes``.
        device: where the model goes.

    Raises:
        IntakeError: the file is missing, damaged, unsafe, or does not fit.
        UsageError: a name or an option is invalid.

    Example:
        >>> model = load_model("robustmix:resnet8", num_classes=10, norm_preset="cifar10")
        >>> tuple(model(torch.rand(2, 3, 32, 32)).shape)
        (2, 10)
    """
    if isinstance(source, RobustModel):
        return source.to(device)
    where = choose_device(str(device))
    wanted = Wanted(
        arch=arch if arch is None else register_own(arch),
        num_classes=num_classes,
        input_size=None if input_size is None else as_size(input_size),
        mean=mean,
        std=std,
        norm_preset=norm_preset,
        class_map=expanded(class_map) if isinstance(class_map, str | Path) else class_map,
        class_names=class_names,
        head=head,
        weights=weights,
        resize=resize,
        override=override_checkpoint,
        backbone=backbone,
    )
    if isinstance(source, nn.Module):
        model = from_module(source, wanted)
    elif isinstance(source, str) and source.startswith(HUB):
        found = hub_folder(source, allow_download=allow_download)
        model = from_file(found.folder, wanted, expect_sha256, trust_checkpoint)
        model.info = replace(model.info, source=found.name)
    elif isinstance(source, str) and source.startswith(OWN):
        _refuse_arch(source, wanted)
        model = from_own_code(source, wanted)
    elif isinstance(source, str) and source.partition(":")[0] in LIBRARIES and ":" in source:
        _refuse_arch(source, wanted)
        model = _from_name(source, wanted, allow_download)
    else:
        model = from_file(_as_path(source), wanted, expect_sha256, trust_checkpoint)
    return model.to(where)


def _as_path(source: object) -> Path:
    if isinstance(source, str) and re.match(r"[a-z]+://", source):
        raise IntakeError(
            f"{plain(source, 80)} is an address, and nothing is downloaded from addresses",
            "download the file and give its path",
            code="E-NO-FILE",
        )
    if isinstance(source, str | Path):
        return expanded(source)
    if isinstance(source, type) and issubclass(source, nn.Module):
        hint = f"give an instance: {source.__name__}(...)"
    elif isinstance(source, Mapping):
        hint = "a state dict is no network: load it into one, or save it and give its file and arch"
    else:
        hint = "give a torch.nn.Module, a checkpoint's path, or timm:NAME"
    raise UsageError(f"a {type(source).__name__} is no model", hint, code="E-MODEL")


def _from_name(source: str, wanted: Wanted, allow_download: bool) -> RobustModel:
    headless = wanted.backbone and wanted.num_classes is None and wanted.class_map is None
    if "@" not in source and source.startswith("timm:"):
        # As timm itself names weights. Who names them does not mean random ones.
        source = source.replace(".", "@", 1)
    random = "@" not in source
    named = load_named(
        source,
        # One output stands for none: not every network of a library can do without.
        num_classes=1
        if headless and random
        else (wanted.num_classes if wanted.class_map is None else None),
        input_size=wanted.input_size,
        allow_download=allow_download,
    )
    published = wanted.input_size in (None, named.input_size)
    info = ModelInfo(
        source=source,
        format=source.partition(":")[0],
        arch=named.arch,
        arch_options=arch_options(named.net),
        params=parameter_count(named.net),
        test_transform=named.test_transform if published else None,
        classifier=not (headless and random) and named.num_classes > 0,
        notes=named.notes,
    )
    return wrapped(named.net, info, wanted, named.input_size, named.norm, named.num_classes)


def _refuse_arch(source: str, wanted: Wanted) -> None:
    if wanted.arch not in (None, source):
        raise UsageError(
            f"{plain(source, 80)} is an architecture already", "leave --arch out", code="E-ARCH"
        )
