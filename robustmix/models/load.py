"""Turn what a user calls a model (a file, a folder, a name, a module) into a ``RobustModel``.

Weights are loaded strictly: one missing tensor is an error, because a network with a random
classifier scores like a bad model rather than like a bug.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from robustmix.data.location import expanded
from robustmix.environment import choose_device
from robustmix.errors import IntakeError, UsageError
from robustmix.files import file_digest, hash_json
from robustmix.models.archives import read_archive, unreadable
from robustmix.models.checkpoint import Checkpoint, checkpoint_from, is_checkpoint
from robustmix.models.class_map import MOST_CLASSES, read_class_map
from robustmix.models.foreign import Foreign, read_foreign
from robustmix.models.hub import HUB, hub_folder
from robustmix.models.layouts import Norm
from robustmix.models.names import ARCHS, NORM_PRESETS, OWN, split_stem
from robustmix.models.outputs import config_of, logits_on_probe
from robustmix.models.own_code import own_network, place_of, register_own
from robustmix.models.pretrained import load_named
from robustmix.models.recorded import (
    CONFIG,
    OPTIONS,
    WEIGHTS,
    Recorded,
    from_config,
    from_header,
    from_training,
    read_json_file,
    said_by,
)
from robustmix.models.registry import (
    Size,
    arch_options,
    blueprint,
    build_model,
    global_stream_from,
)
from robustmix.models.robust_model import ModelInfo, RobustModel
from robustmix.models.strict import check_state, load_strictly
from robustmix.models.transformers_nets import is_transformers, read_transformers
from robustmix.models.wanted import Missing, Wanted, asked_for, check_recorded, contradictions
from robustmix.tables import require_plugins
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
        input_size=None if input_size is None else _as_size(input_size),
        mean=mean,
        std=std,
        norm_preset=norm_preset,
        class_map=Path(class_map) if isinstance(class_map, str) else class_map,
        class_names=class_names,
        head=head,
        weights=weights,
        resize=resize,
        override=override_checkpoint,
        backbone=backbone,
    )
    if isinstance(source, nn.Module):
        model = _from_module(source, wanted)
    elif isinstance(source, str) and source.startswith(HUB):
        found = hub_folder(source, allow_download=allow_download)
        model = _from_path(found.folder, wanted, expect_sha256, trust_checkpoint)
        model.info = replace(model.info, source=found.name)
    elif isinstance(source, str) and source.startswith(OWN):
        model = _from_own_code(source, wanted)
    elif isinstance(source, str) and source.partition(":")[0] in LIBRARIES and ":" in source:
        model = _from_name(source, wanted, allow_download)
    else:
        model = _from_path(_as_path(source), wanted, expect_sha256, trust_checkpoint)
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


def _as_size(given: Sequence[int]) -> Size:
    size = tuple(given)
    if len(size) != 3 or not all(type(side) is int for side in size):
        raise UsageError("expected an input size (3, H, W) of integers", code="E-INPUT-SIZE")
    return size[0], size[1], size[2]


def _from_own_code(source: str, wanted: Wanted) -> RobustModel:
    """Make a user's network and wrap it; what timm wrote on it says what nobody else does."""
    _refuse_arch(source, wanted)
    name = register_own(source)
    own = own_network(name)
    with global_stream_from(torch.Generator().manual_seed(0)):
        net = own.make(wanted.num_classes)
    said = config_of(net)
    if wanted.input_size is None and "input_size" in said:
        wanted = replace(wanted, input_size=_as_size(said["input_size"]))
    if wanted.norm is None and "mean" in said and "std" in said:
        wanted = replace(wanted, mean=said["mean"], std=said["std"])
    try:
        model = _from_module(net, wanted, name)
    except IntakeError as error:
        place = "" if error.__cause__ is None else place_of(error.__cause__, own.file)
        if not place:
            raise
        raise IntakeError(f"{place}: {error.message}", error.hint, code=error.code) from error
    model.info = replace(model.info, arch=name, sha256=own.sha256)
    return model


def _from_module(net: nn.Module, wanted: Wanted, called: str = "") -> RobustModel:
    """Wrap a copy, so that the caller's module keeps its mode, its gradients and its precision."""
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
        params=_count(net),
    )
    return _wrap(copied, info, wanted, wanted.input_size, wanted.norm, outputs)


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


def _from_name(source: str, wanted: Wanted, allow_download: bool) -> RobustModel:
    _refuse_arch(source, wanted)
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
        params=_count(named.net),
        test_transform=named.test_transform if published else None,
        classifier=not (headless and random) and named.num_classes > 0,
        notes=named.notes,
    )
    return _wrap(named.net, info, wanted, named.input_size, named.norm, named.num_classes)


def _refuse_arch(source: str, wanted: Wanted) -> None:
    if wanted.arch not in (None, source):
        raise UsageError(
            f"{plain(source, 80)} is an architecture already", "leave --arch out", code="E-ARCH"
        )


def _from_path(path: Path, wanted: Wanted, expect_sha256: str | None, trust: bool) -> RobustModel:
    recorded, config, folder = None, None, path
    try:
        if (path / CONFIG).exists():
            config = read_json_file(path / CONFIG)
            if not is_transformers(config):
                recorded = from_config(path)
            found = [path / name for name in WEIGHTS if (path / name).is_file()]
            if not found:
                raise IntakeError(
                    f"{plain(path, 80)} holds {CONFIG} but no weights",
                    "expected " + " or ".join(WEIGHTS),
                    code="E-NO-FILE",
                )
            path = found[0]
        digest = _verified_digest(path, expect_sha256) if path.is_file() else None
    except OSError as error:
        raise unreadable(path, error) from error
    archive = read_archive(path, trust_checkpoint=trust)
    if config is not None and recorded is None:
        model = _wrapped(read_transformers(folder, config, archive, path, wanted), wanted)
    elif is_checkpoint(archive.content):
        model = _from_checkpoint(checkpoint_from(archive.content, path), path, wanted)
    else:
        if recorded is None and archive.metadata is not None:
            recorded = from_header(archive.metadata, path.name)
        recorded = recorded or from_training(archive.content, path.name)
        model = _wrapped(read_foreign(archive, path, wanted, recorded), wanted)
    notes = model.info.notes
    if archive.trusted_pickle:
        notes += (f"W-TRUSTED-PICKLE: code in {path.name} was allowed to run",)
    model.info = replace(
        model.info, sha256=digest, trusted_pickle=archive.trusted_pickle, notes=notes
    )
    return model


def _verified_digest(path: Path, expected: str | None) -> str:
    digest = file_digest(path)
    if expected is not None:
        expected = expected.strip().lower()
        if not re.fullmatch("[0-9a-f]{64}", expected):
            raise UsageError(
                "--expect-sha256 wants 64 hexadecimal digits",
                f"got {len(expected)} characters",
                code="E-CHECKSUM",
            )
        if digest != expected:
            raise IntakeError(
                f"{path.name} has SHA-256 {digest}, expected {expected}",
                "download it again, or correct --expect-sha256",
                code="E-CHECKSUM",
            )
    # torch.hub's names end in the first digits of the digest; all-decimal ones may be a date.
    suffix = re.search(r"-([0-9a-f]{8})\.pth?$", path.name)
    if suffix and not suffix[1].isdecimal() and not digest.startswith(suffix[1]):
        raise IntakeError(
            f"{path.name} is named after a SHA-256 that it does not have ({digest[:8]}…)",
            "download it again, or rename it if the ending is no checksum",
            code="E-CHECKSUM",
        )
    return digest


def _from_checkpoint(checkpoint: Checkpoint, path: Path, wanted: Wanted) -> RobustModel:
    if wanted.weights == "raw" and checkpoint.raw is not None:
        checkpoint = _unaveraged(checkpoint, checkpoint.raw)
    check_recorded(path.name, "--weights", wanted.weights, checkpoint.weights)
    check_recorded(path.name, "--head", wanted.head, checkpoint.head)
    if wanted.arch is not None:
        check_recorded(path.name, "--arch", split_stem(wanted.arch)[0], checkpoint.arch)
    options = checkpoint.arch_options
    resize = options.get("resize")
    norm = checkpoint.mean, checkpoint.std
    recorded = Recorded(
        input_size=checkpoint.input_size,
        norm=norm,
        resize=None if resize is None else int(resize),
    )
    notes = [
        *require_plugins(checkpoint.plugins, [ARCHS]),
        *contradictions(wanted, recorded, path.name),
    ]
    net = _built(checkpoint, path)
    info = ModelInfo(
        source=path.name,
        format="robustmix",
        arch=checkpoint.arch,
        arch_options=options,
        head=checkpoint.head,
        weights=checkpoint.weights,
        dataset=checkpoint.dataset,
        method=checkpoint.method,
        run_id=checkpoint.run_id,
        recipe=checkpoint.recipe,
        class_names=checkpoint.class_names or None,
        params=_count(net),
        epoch=checkpoint.epoch,
        metrics=checkpoint.metrics,
        calibration=checkpoint.calibration,
        plugins=checkpoint.plugins,
        notes=tuple(notes),
    )
    if wanted.resize is None:
        wanted = replace(wanted, resize=recorded.resize)
    return _wrap(net, info, wanted, checkpoint.input_size, norm, checkpoint.num_classes)


def _unaveraged(checkpoint: Checkpoint, raw: dict[str, Tensor]) -> Checkpoint:
    """Return the checkpoint of the weights that were trained, without what is the average's."""
    known = checkpoint.metrics
    own = {name: known[f"raw_{name}"] for name in ("loss", "top1") if f"raw_{name}" in known}
    metrics = {k: v for k, v in known.items() if k not in ("loss", "top1", "summary")} | own
    return replace(checkpoint, model=raw, weights="raw", metrics=metrics, calibration=None)


def _built(checkpoint: Checkpoint, path: Path) -> nn.Module:
    """Return the network of a checkpoint, once it is known that its weights fit."""
    stem = checkpoint.arch_options.get("stem")
    chosen = {
        key: checkpoint.arch_options[key] for key in OPTIONS if key in checkpoint.arch_options
    }
    build: dict[str, Any] = {
        "num_classes": checkpoint.num_classes,
        "input_size": checkpoint.input_size,
        "stem": str(stem) if stem is not None else None,
        "options": chosen,
    }
    with said_by(path.name):
        check_state(blueprint(checkpoint.arch, **build), checkpoint.model, path.name)
        net = build_model(checkpoint.arch, **build)  # without drop-path, which only training has
    load_strictly(net, checkpoint.model, path.name)
    return net


def _wrapped(foreign: Foreign, wanted: Wanted) -> RobustModel:
    return _wrap(
        foreign.net, foreign.info, wanted, foreign.input_size, foreign.norm, foreign.outputs
    )


def _wrap(
    net: nn.Module,
    info: ModelInfo,
    wanted: Wanted,
    input_size: Size,
    norm: Norm | None,
    outputs: int,
) -> RobustModel:
    """Return the wrapped network; what the caller says overrides what the source says."""
    mean_std = wanted.norm or norm
    if mean_std is None:
        raise IntakeError(
            f"the normalisation of {info.source} is unknown",
            "pass --norm-preset " + "|".join(NORM_PRESETS) + ", or --mean and --std",
            code="E-NO-NORM",
        )
    labels, num_classes = _class_map(wanted, outputs)
    if labels is None and wanted.num_classes not in (None, outputs):
        raise IntakeError(
            f"{info.source} has {outputs} classes, expected {wanted.num_classes}",
            "choose the data set it was trained on, or pass --class-map",
            code="E-CLASSES",
        )
    if labels is not None:
        info = replace(info, class_map_sha256=hash_json(labels))
    try:
        return RobustModel(
            net,
            mean=mean_std[0],
            std=mean_std[1],
            num_classes=num_classes,
            input_size=wanted.input_size or input_size,
            class_map=labels,
            resize=wanted.resize,
            info=info,
            temperature=None if info.calibration is None else info.calibration["T"],
        )
    except ValueError as error:
        raise IntakeError(f"{info.source}: {error}", code="E-MODEL") from error


def _class_map(wanted: Wanted, outputs: int) -> tuple[list[int] | None, int]:
    """Return the label of each output and the number of labels."""
    if wanted.class_map is None:
        return None, outputs
    if isinstance(wanted.class_map, Path):
        labels = list(read_class_map(wanted.class_map, wanted.class_names))
    else:
        labels = [int(label) for label in wanted.class_map]
    if any(label >= MOST_CLASSES for label in labels):
        raise IntakeError("the class map has a label above a million", code="E-CLASS-MAP")
    if len(labels) > outputs:
        raise IntakeError(
            f"the class map has {len(labels)} entries for {outputs} model outputs",
            "use the map that belongs to this model",
            code="E-CLASS-MAP",
        )
    labels += [-1] * (outputs - len(labels))
    return labels, wanted.num_classes or max(labels) + 1


def _count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())
