"""Turn what a user calls a model (a file, a name, a module) into a ``RobustModel``.

Weights are loaded strictly: one missing tensor is an error, because a network with a random
classifier scores like a bad model rather than like a bug.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.files import file_digest, hash_json
from robustmix.models.archives import Archive, check_tensors, decoded_metadata, read_archive
from robustmix.models.checkpoint import Checkpoint, checkpoint_from, is_checkpoint
from robustmix.models.class_map import read_class_map
from robustmix.models.infer import head_of, stem_of, suggest_arch
from robustmix.models.names import ARCHS, NORM_PRESETS, split_stem, usual_size
from robustmix.models.openmixup import check_head_name, is_openmixup, select_part
from robustmix.models.pretrained import load_named
from robustmix.models.registry import arch_options, build_model
from robustmix.models.robust_model import ModelInfo, RobustModel
from robustmix.models.strict import load_strictly
from robustmix.models.unwrap import Unwrapped, unwrap
from robustmix.tables import require_plugins

LIBRARIES = ("timm", "torchvision", "robustmix")

Size = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What the caller says of the model; None is left to the file."""

    arch: str | None
    num_classes: int | None
    input_size: Size | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    norm_preset: str | None
    class_map: Path | Sequence[int] | Tensor | None
    class_names: Sequence[str] | None
    head: str | None
    weights: str | None
    resize: int | tuple[int, int] | None


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
    allow_download: bool = False,
    device: str | torch.device = "cpu",
) -> RobustModel:
    """Load a model for evaluation.

    Args:
        source: a robustmix checkpoint; a foreign torch archive or safetensors file; a name
            ``robustmix:ARCH``, ``timm:NAME`` or ``torchvision:NAME`` (``@default`` or ``@TAG``
            appended loads published weights); or a module that takes normalised images, which is
            copied. A ``RobustModel`` is returned as it is, on ``device``.
        arch: architecture of a foreign file, as for ``build_model``.
        num_classes: number of the data set's labels; by default what the model has.
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
        allow_download: fetch published weights that are not in the local cache.
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
    wanted = _Wanted(
        arch=arch,
        num_classes=num_classes,
        input_size=input_size,
        mean=mean,
        std=std,
        norm_preset=norm_preset,
        class_map=Path(class_map) if isinstance(class_map, str) else class_map,
        class_names=class_names,
        head=head,
        weights=weights,
        resize=resize,
    )
    _check_wanted(wanted)
    if isinstance(source, nn.Module):
        model = _from_module(source, wanted)
    elif isinstance(source, str) and source.partition(":")[0] in LIBRARIES and ":" in source:
        model = _from_name(source, wanted, allow_download)
    else:
        model = _from_file(Path(source), wanted, expect_sha256, trust_checkpoint)
    return model.to(device)


def _check_wanted(wanted: _Wanted) -> None:
    if (wanted.mean is None) != (wanted.std is None):
        raise UsageError("--mean and --std go together", "give both", code="E-NORM")
    if wanted.norm_preset is not None:
        if wanted.mean is not None:
            raise UsageError(
                "--norm-preset excludes --mean and --std", "give one of them", code="E-NORM"
            )
        if wanted.norm_preset not in NORM_PRESETS:
            raise unknown_name("norm preset", wanted.norm_preset, NORM_PRESETS)
    if wanted.weights not in (None, "raw", "ema"):
        raise UsageError(
            f"unknown weights '{wanted.weights}'", "choose raw or ema", code="E-WEIGHTS"
        )
    if wanted.head is not None:
        check_head_name(wanted.head)


def _from_module(net: nn.Module, wanted: _Wanted) -> RobustModel:
    """Wrap a copy, so that the caller's module keeps its mode, its gradients and its precision."""
    name = type(net).__name__
    if isinstance(net, torch.jit.ScriptModule):
        raise IntakeError(
            f"{name} is a TorchScript program, which is not supported",
            "give the module it was made from",
            code="E-FORMAT",
        )
    head = head_of(net.state_dict())
    outputs = head[1] if head else wanted.num_classes
    if outputs is None:
        raise IntakeError(f"the classes of {name} are unknown", "pass num_classes")
    if wanted.input_size is None:
        raise IntakeError(
            f"the image size of {name} is unknown", "pass input_size=(3, H, W)", code="E-INPUT-SIZE"
        )
    info = ModelInfo(
        source=name,
        format="module",
        arch=wanted.arch or name,
        arch_options=arch_options(net),
        params=_count(net),
    )
    return _wrap(copy.deepcopy(net).float(), info, wanted, wanted.input_size, None, outputs)


def _from_name(source: str, wanted: _Wanted, allow_download: bool) -> RobustModel:
    if wanted.arch is not None and wanted.arch != source:
        raise UsageError(f"{source} is an architecture already", "leave --arch out", code="E-ARCH")
    named = load_named(
        source,
        num_classes=wanted.num_classes if wanted.class_map is None else None,
        input_size=wanted.input_size,
        allow_download=allow_download,
    )
    info = ModelInfo(
        source=source,
        format=source.partition(":")[0],
        arch=named.arch,
        arch_options=arch_options(named.net),
        params=_count(named.net),
        notes=named.notes,
    )
    return _wrap(named.net, info, wanted, named.input_size, named.norm, named.num_classes)


def _from_file(path: Path, wanted: _Wanted, expect_sha256: str | None, trust: bool) -> RobustModel:
    digest = _verified_digest(path, expect_sha256) if path.is_file() else None
    archive = read_archive(path, trust_checkpoint=trust)
    if is_checkpoint(archive.content):
        model = _from_checkpoint(checkpoint_from(archive.content, path), path, wanted)
    else:
        model = _from_foreign(archive, path, wanted)
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


def _from_checkpoint(checkpoint: Checkpoint, path: Path, wanted: _Wanted) -> RobustModel:
    _check_recorded(path, "--weights", wanted.weights, checkpoint.weights)
    _check_recorded(path, "--head", wanted.head, checkpoint.head)
    if wanted.arch is not None:
        _check_recorded(path, "--arch", split_stem(wanted.arch)[0], checkpoint.arch)
    notes = require_plugins(checkpoint.plugins, [ARCHS])
    if wanted.input_size not in (None, checkpoint.input_size):
        notes.append(
            f"W-INPUT-SIZE: trained on images {checkpoint.input_size}, given {wanted.input_size}"
        )
    norm = checkpoint.mean, checkpoint.std
    given = _given_norm(wanted)
    if given is not None and given != norm:
        notes.append(f"W-NORM: trained with mean and std {norm}, given {given}")
    stem = checkpoint.arch_options.get("stem")
    net = build_model(  # without drop-path, which only training has
        checkpoint.arch,
        num_classes=checkpoint.num_classes,
        input_size=checkpoint.input_size,
        stem=str(stem) if stem is not None else None,
    )
    load_strictly(net, checkpoint.model, path.name)
    info = ModelInfo(
        source=path.name,
        format="robustmix",
        arch=checkpoint.arch,
        arch_options=checkpoint.arch_options,
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
    resize = checkpoint.arch_options.get("resize")
    if wanted.resize is None and resize is not None:
        wanted = replace(wanted, resize=int(resize))
    return _wrap(net, info, wanted, checkpoint.input_size, norm, checkpoint.num_classes)


def _check_recorded(path: Path, option: str, given: str | None, recorded: str | None) -> None:
    if given is not None and given != recorded:
        raise IntakeError(
            f"{path.name} records {recorded}, not {given}", f"leave {option} out", code="E-MODEL"
        )


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """Tensors named as in the plain network, and what the file's layout says about them."""

    state: dict[str, Tensor]
    head: dict[str, Tensor] | None
    """Classifier kept apart because its name depends on the architecture."""

    info: dict[str, Any]
    openmixup: bool = False
    backbone_only: bool = False


def _from_foreign(archive: Archive, path: Path, wanted: _Wanted) -> RobustModel:
    header = decoded_metadata(archive.metadata or {})
    content = archive.content
    if isinstance(content, nn.Module):
        content = content.state_dict()
    unwrapped = unwrap(content, path.name, wanted.weights)
    weights = _read_layout(archive.kind, unwrapped, path, wanted)
    wanted = _fill_from_header(wanted, header, path)
    head = head_of(weights.state) if weights.head is None else ("", len(weights.head["weight"]))
    outputs = head[1] if head is not None else wanted.num_classes
    arch = _chosen_arch(weights, path, wanted, outputs)
    if weights.backbone_only or outputs is None:
        raise IntakeError(
            f"{path.name} holds a backbone without a classifier",
            "give the file with the classifier head, or pass --num-classes",
            code="E-NO-HEAD",
        )
    input_size, stem, size_note = _chosen_size(arch, weights.state, wanted)
    net = build_model(arch, num_classes=outputs, input_size=input_size, stem=stem)
    state = weights.state
    if weights.head is not None:
        linear = _classifier_name(net)
        state = {**state, **{f"{linear}.{key}": value for key, value in weights.head.items()}}
    load_strictly(net, state, path.name)
    norm, norm_note = None, ""
    if weights.openmixup and _given_norm(wanted) is None:
        preset = "openmixup-cifar" if max(input_size[1:]) == 32 else "imagenet"
        norm = NORM_PRESETS[preset]
        norm_note = f"I-NORM: normalisation {preset}, as OpenMixup trains at this image size"
    notes = [note for note in (size_note, norm_note) if note]
    info = ModelInfo(
        source=path.name,
        arch=split_stem(arch)[0],
        arch_options=arch_options(net),
        params=_count(net),
        **{**weights.info, "notes": (*weights.info["notes"], *notes)},
    )
    return _wrap(net, info, wanted, input_size, norm, outputs)


def _read_layout(kind: str, unwrapped: Unwrapped, path: Path, wanted: _Wanted) -> _Weights:
    size = path.stat().st_size
    notes: tuple[str, ...] = ()
    if unwrapped.path:
        notes = (f"I-LAYOUT: weights found under {unwrapped.path}",)
    info: dict[str, Any] = {"format": kind, "weights": unwrapped.weights, "notes": notes}
    if not is_openmixup(unwrapped.state):
        if wanted.head is not None:
            raise IntakeError(
                f"{path.name} has a single head, not {wanted.head}",
                "leave --head out",
                code="E-HEAD",
            )
        return _Weights(
            state=check_tensors(path.name, unwrapped.state, size),
            head=None,
            info=info,
            backbone_only=unwrapped.backbone_only,
        )
    part = select_part(unwrapped.state, path.name, wanted.head)
    info["format"] = "openmixup"
    info["head"] = part.head_name
    info["notes"] = (*notes, f"I-LAYOUT: {part.found}")
    return _Weights(
        state=check_tensors(path.name, part.backbone, size),
        head=check_tensors(path.name, part.head, size),
        info=info,
        openmixup=True,
    )


def _fill_from_header(wanted: _Wanted, header: Mapping[str, object], path: Path) -> _Wanted:
    """Take from a safetensors header what the caller does not say."""
    arch = header.get("arch")
    if wanted.arch is None and isinstance(arch, str):
        wanted = replace(wanted, arch=arch)
    size = header.get("input_size")
    if wanted.input_size is None and size is not None:
        numbers = _numbers(size, "input_size", path)
        wanted = replace(wanted, input_size=(int(numbers[0]), int(numbers[1]), int(numbers[2])))
    if _given_norm(wanted) is None and "mean" in header and "std" in header:
        wanted = replace(
            wanted,
            mean=_numbers(header["mean"], "mean", path),
            std=_numbers(header["std"], "std", path),
        )
    return wanted


def _numbers(value: object, name: str, path: Path) -> list[float]:
    if isinstance(value, list) and len(value) == 3:
        numbers = [x for x in value if type(x) in (int, float)]
        if len(numbers) == 3:
            return numbers
    raise IntakeError(f"{path.name}: {name} in the header should be a JSON list of 3 numbers")


def _chosen_arch(weights: _Weights, path: Path, wanted: _Wanted, outputs: int | None) -> str:
    if wanted.arch is not None:
        return wanted.arch.removeprefix("robustmix:")
    guess = suggest_arch(weights.state)
    classes = f" and {outputs} classes" if outputs else ""
    hint = "choose from " + ", ".join(ARCHS) + ", timm:NAME, torchvision:NAME"
    if guess is not None:
        hint = f"its tensors look like --arch {guess}{classes}"
    raise IntakeError(
        f"{path.name} does not say its architecture; pass --arch", hint, code="E-NO-ARCH"
    )


def _chosen_size(
    arch: str, state: Mapping[str, Tensor], wanted: _Wanted
) -> tuple[Size, str | None, str]:
    """Return the image size, the stem to build and a note, asking the file only for what is open.

    The stem is fixed by the name, else by the image size; the file decides if neither is given.
    """
    name, stem = split_stem(arch)
    if name not in ARCHS:
        if ":" not in arch:
            raise unknown_name("arch", arch, [*ARCHS, "timm:NAME", "torchvision:NAME"])
        if wanted.input_size is None:
            raise IntakeError(
                f"the image size of {arch} is unknown", "pass --img-size", code="E-INPUT-SIZE"
            )
        return wanted.input_size, None, ""
    if wanted.input_size is not None:
        return wanted.input_size, stem, ""
    stems = ARCHS.row(name).stems
    if stem is None and stems:
        found = stem_of(state)
        stem = found if found in stems else stems[0]
    size = usual_size(name, stem)
    whose = f"the {stem} stem" if stem else name
    return size, stem, f"W-INPUT-SIZE: {size[1]} pixels assumed for {whose}"


def _classifier_name(net: nn.Module) -> str:
    head = head_of(net.state_dict())
    if head is None:
        raise IntakeError(f"{type(net).__name__} has no linear classifier", code="E-NO-HEAD")
    return head[0]


def _given_norm(wanted: _Wanted) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    if wanted.norm_preset is not None:
        return NORM_PRESETS[wanted.norm_preset]
    if wanted.mean is None or wanted.std is None:
        return None
    return tuple(wanted.mean), tuple(wanted.std)


def _wrap(
    net: nn.Module,
    info: ModelInfo,
    wanted: _Wanted,
    input_size: Size,
    norm: tuple[tuple[float, ...], tuple[float, ...]] | None,
    outputs: int,
) -> RobustModel:
    """Return the wrapped network; what the caller says overrides what the source says."""
    mean_std = _given_norm(wanted) or norm
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


def _class_map(wanted: _Wanted, outputs: int) -> tuple[list[int] | None, int]:
    """Return the label of each output and the number of labels."""
    if wanted.class_map is None:
        return None, outputs
    if isinstance(wanted.class_map, Path):
        labels = list(read_class_map(wanted.class_map, wanted.class_names))
    else:
        labels = [int(label) for label in wanted.class_map]
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
