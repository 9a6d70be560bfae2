"""Models by name: built-in architectures, and those of timm and torchvision with their weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.models.layouts import Norm
from robustmix.models.names import ARCHS, NORM_PRESETS, split_stem, usual_size
from robustmix.models.recorded import timm_steps, transform_fields, transform_text
from robustmix.models.registry import (
    Size,
    build_model,
    check_library_name,
    global_stream_from,
    library_noise_off,
)


@dataclass(frozen=True, kw_only=True)
class Named:
    """A network built from its name."""

    net: nn.Module
    arch: str
    num_classes: int
    input_size: Size
    norm: Norm | None
    """Mean and standard deviation that its weights were trained with; None without weights."""

    test_transform: str | None = None
    """How the images that the weights were tested on were prepared; None without weights."""

    notes: tuple[str, ...] = ()


def load_named(
    source: str,
    *,
    num_classes: int | None,
    input_size: Size | None,
    allow_download: bool,
) -> Named:
    """Build ``robustmix:ARCH``, ``timm:NAME[@TAG]`` or ``torchvision:NAME[@TAG]``.

    Without ``@TAG`` the weights are random (seed 0). The tag ``default`` means the library's own
    choice.

    Raises:
        UsageError: the name, the tag or the number of classes is invalid.
        IntakeError: the weights are not in the local cache and must not be fetched, or could not.
    """
    arch, _, tag = source.removeprefix("robustmix:").partition("@")
    if not tag:
        return _untrained(source, arch, num_classes, input_size)
    library, _, name = arch.partition(":")
    if not name:
        raise UsageError(
            f"robustmix publishes no weights for {arch}", "leave @... out", code="E-WEIGHTS"
        )
    with library_noise_off(), global_stream_from(torch.Generator()):
        check_library_name(library, name)
        if library == "timm":
            named = _timm(name, tag, allow_download)
        else:
            named = _torchvision(name, tag, allow_download)
    if num_classes not in (None, named.num_classes):
        raise IntakeError(
            f"{source} has {named.num_classes} classes, expected {num_classes}",
            "choose the data set it was trained on, or pass --class-map",
            code="E-CLASSES",
        )
    return named


def _untrained(source: str, arch: str, num_classes: int | None, input_size: Size | None) -> Named:
    if num_classes is None:
        raise UsageError(f"{source} needs --num-classes", "pass it", code="E-CLASSES")
    if input_size is None:
        name, stem = split_stem(arch)
        input_size = usual_size(name, stem) if name in ARCHS else (3, 224, 224)
    net = build_model(arch, num_classes=num_classes, input_size=input_size)
    return Named(
        net=net,
        arch=split_stem(arch)[0],
        num_classes=num_classes,
        input_size=input_size,
        norm=NORM_PRESETS["imagenet"],
        notes=(f"W-RANDOM-INIT: {source} has random weights",),
    )


def _no_download(source: str) -> IntakeError:
    return IntakeError(
        f"the weights of {source} are not in the local cache",
        "pass --allow-download to fetch them",
        code="E-NO-WEIGHTS",
    )


def _torchvision(name: str, tag: str, allow_download: bool) -> Named:
    import torchvision

    choices = torchvision.models.get_model_weights(name)
    known = {"default": choices.DEFAULT, **{w.name: w for w in choices}}
    if tag not in known:
        raise unknown_name("weights", tag, known)
    chosen = known[tag]
    file = Path(torch.hub.get_dir(), "checkpoints", Path(chosen.url).name)
    if not file.is_file() and not allow_download:
        raise _no_download(f"torchvision:{name}@{tag}")
    try:
        state = chosen.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise _not_fetched(f"torchvision:{name}@{tag}", error) from error
    net = torchvision.models.get_model(name, weights=None, num_classes=_classes(chosen.meta))
    net.load_state_dict(state, strict=True)
    preset = chosen.transforms()
    size = int(preset.crop_size[0])
    steps = {
        "resize": int(preset.resize_size[0]),
        "interpolation": preset.interpolation.value,
        "crop": size,
    }
    return Named(
        net=cast(nn.Module, net),
        arch=f"torchvision:{name}",
        num_classes=_classes(chosen.meta),
        input_size=(3, size, size),
        norm=(tuple(preset.mean), tuple(preset.std)),
        test_transform=transform_text(steps),
        notes=(f"I-WEIGHTS: torchvision weights {chosen.name}",),
    )


def _classes(meta: Mapping[str, Any]) -> int:
    return len(meta["categories"])


def _timm(name: str, tag: str, allow_download: bool) -> Named:
    import timm
    from huggingface_hub import try_to_load_from_cache

    full = name if tag == "default" else f"{name.partition('.')[0]}.{tag}"
    known = {"default", *(n.partition(".")[2] for n in timm.list_pretrained(f"{name}.*"))}
    if tag not in known:
        raise unknown_name("weights", tag, known)
    cfg = timm.get_pretrained_cfg(full)
    paths = [
        try_to_load_from_cache(cfg.hf_hub_id, file)
        for file in ("model.safetensors", "pytorch_model.bin")
        if cfg.hf_hub_id
    ]
    cached = [path for path in paths if isinstance(path, str)]
    if not cached and not allow_download:
        raise _no_download(f"timm:{name}@{tag}")
    overlay = {"file": cached[0]} if cached else None
    try:
        net = timm.create_model(full, pretrained=True, pretrained_cfg_overlay=overlay)
    except (OSError, RuntimeError) as error:
        raise _not_fetched(f"timm:{name}@{tag}", error) from error
    size: Size = tuple(cfg.input_size)
    prepared = transform_fields(timm_steps(size, cfg.to_dict()))
    return Named(
        net=cast(nn.Module, net),
        arch=f"timm:{full}",
        num_classes=int(cfg.num_classes),
        input_size=size,
        test_transform=prepared.get("test_transform"),
        norm=(tuple(cfg.mean), tuple(cfg.std)),
        notes=(f"I-WEIGHTS: timm weights {full}", *prepared.get("notes", ())),
    )


def _not_fetched(source: str, error: Exception) -> IntakeError:
    why = " ".join(str(error).split())[:120] or type(error).__name__
    return IntakeError(
        f"the weights of {source} could not be fetched ({why})",
        "check the network and try again",
        code="E-NO-WEIGHTS",
    )
