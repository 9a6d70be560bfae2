"""Image classifiers in the format of Hugging Face's transformers: a folder of ``save_pretrained``.

The network is transformers' own, built from ``config.json``; its weights are read as those of any
stranger's file, and must fit to the last tensor. What the authors do to images stands in
``preprocessor_config.json``. Code that a folder brings along is not run.

Images are resized by Pillow here, by torchvision there: levels differ by at most one. Where the
borders beside a central crop cannot be equal, transformers has the wider one behind the crop, and
robustmix, as torchvision, the even one before it: the crops may then lie one pixel apart.
"""

import contextlib
import json
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError
from robustmix.models.archives import Archive, check_tensors
from robustmix.models.foreign import Foreign
from robustmix.models.layouts import find_places
from robustmix.models.names import NORM_PRESETS
from robustmix.models.outputs import logits_on_probe
from robustmix.models.recorded import (
    CONFIG,
    PREPROCESSOR,
    Recorded,
    checked_facts,
    read_json_file,
    transform_fields,
)
from robustmix.models.registry import library_noise_off
from robustmix.models.robust_model import ModelInfo
from robustmix.models.wanted import Missing, Wanted, asked_for, contradictions
from robustmix.text import plain

MOST_LAYERS = 1000
"""Of any kind in a configuration; building more would take without end."""

MOST_LARGER = 2
"""How many times as many numbers as its file a network may have: some weights are shared."""

_NOT_OURS = ("auto_map", "quantization_config", "attn_implementation", "_attn_implementation")
"""Keys that make the library run code of others, fetch it, or compute in another arithmetic."""

_LEVELS = 255
_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers."""


def is_transformers(config: Mapping[str, object]) -> bool:
    """Tell whether a ``config.json`` is transformers'; timm's name an ``architecture``."""
    return isinstance(config.get("model_type"), str) and "architecture" not in config


def read_transformers(
    folder: Path, config: Mapping[str, object], archive: Archive, path: Path, wanted: Wanted
) -> Foreign:
    """Return the network of a folder with its weights.

    Args:
        folder: with ``config.json``.
        config: its content.
        archive: what the file of weights holds.
        path: of that file.
        wanted: what the caller says.

    Raises:
        IntakeError: transformers is not installed or does not have such a classifier, or weights
            and configuration do not belong together.
    """
    for option, given in (("--arch", wanted.arch), ("--head", wanted.head)):
        if given is not None:
            raise IntakeError(
                f"{folder.name}/{CONFIG} says what network it is",
                f"leave {option} out",
                code="E-ARCH",
            )
    state = check_tensors(
        path.name, find_places(archive.content, path.name)[0].state, path.stat().st_size
    )
    with _library(folder.name), library_noise_off():
        net = _built(folder, config, state, path)
        recorded = _recorded(folder, config)
    said = contradictions(wanted, recorded, folder.name)
    missing: list[Missing] = []
    size = wanted.input_size or recorded.input_size
    norm = wanted.norm or recorded.norm
    if size is None:
        missing.append(("E-INPUT-SIZE", "image size", "pass --img-size"))
    if norm is None:
        hint = "pass --norm-preset " + "|".join(NORM_PRESETS) + ", or --mean and --std"
        missing.append(("E-NO-NORM", "normalisation", hint))
    if missing or size is None or norm is None:
        raise asked_for(folder.name, missing)
    name = type(net).__name__
    info = ModelInfo(
        source=path.name,
        format="transformers",
        arch=f"transformers:{name}",
        params=sum(p.numel() for p in net.parameters()),
        class_names=recorded.class_names,
        test_transform=recorded.test_transform if size == recorded.input_size else None,
        notes=(*recorded.notes, *said),
    )
    outputs = logits_on_probe(net, size, name).shape[1]
    return Foreign(net=net, info=info, input_size=size, norm=norm, outputs=outputs)


@contextlib.contextmanager
def _library(name: str) -> Iterator[None]:
    """Keep transformers, if it is there, from talking and from drawing bars.

    Raises:
        IntakeError: it is not installed.
    """
    try:
        from transformers.utils import logging as their_logging
    except ImportError as error:
        raise IntakeError(
            f"{name} is a model of the package transformers, which is not installed",
            "pip install 'robustmix[transformers]'",
            code="E-EXTRA",
        ) from error
    verbosity, bars = their_logging.get_verbosity(), their_logging.is_progress_bar_enabled()
    their_logging.set_verbosity(logging.CRITICAL)
    their_logging.disable_progress_bar()
    try:
        yield
    finally:
        their_logging.set_verbosity(verbosity)
        if bars:
            their_logging.enable_progress_bar()


def _built(
    folder: Path, config: Mapping[str, object], state: Mapping[str, Tensor], path: Path
) -> nn.Module:
    what = f"{folder.name}/{CONFIG}: "
    kind, made = _class_of(config, what)
    try:
        with torch.device("meta"):  # what it claims, before anything is allocated
            claimed = sum(p.numel() for p in kind._from_config(made).parameters())
        held = sum(tensor.numel() for tensor in state.values())
        if claimed > MOST_LARGER * held:
            raise IntakeError(
                f"{what}a network of {claimed:,} numbers, {path.name} has {held:,}",
                "take weights and description of one model",
                code="E-STATE-DICT",
            )
        net, told = kind.from_pretrained(
            None,
            config=made,
            state_dict=dict(state),
            output_loading_info=True,
            attn_implementation="eager",
            dtype=torch.float32,
        )
    except IntakeError:
        raise
    except Exception as error:  # whatever it makes of a stranger's numbers
        raise IntakeError(
            f"{folder.name} cannot be built by transformers: "
            f"{plain(error, 200) or type(error).__name__}",
            "check that weights and configuration are of one model",
            code="E-STATE-DICT",
        ) from error
    faults = {
        word: sorted(map(str, told[f"{word}_keys"]))
        for word in ("missing", "unexpected", "mismatched")
    }
    if any(faults.values()):
        counts = ", ".join(f"{len(names)} {word}" for word, names in faults.items())
        first = next(names[0] for names in faults.values() if names)
        raise IntakeError(
            f"{path.name} does not fit {CONFIG}: {counts} (first: {plain(first, 120)})",
            "take weights and description of one model",
            code="E-STATE-DICT",
        )
    return cast(nn.Module, net.eval())


def _class_of(config: Mapping[str, object], what: str) -> tuple[Any, Any]:
    """Return the class of the network, and the configuration that it is made from."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

    kind = plain(config["model_type"], 80)
    if kind not in CONFIG_MAPPING:
        raise IntakeError(
            f"{what}transformers has no model type '{kind}'",
            "code that a folder brings along is not run; a newer transformers may have it",
            code="E-ARCH",
        )
    _check_layers(config, what)
    kept = {key: value for key, value in config.items() if key not in _NOT_OURS}
    try:
        made = CONFIG_MAPPING[kind].from_dict(kept)
    except Exception as error:  # whatever it makes of a stranger's values
        raise IntakeError(
            f"{what}transformers refuses it: {plain(error, 200)}", code="E-FORMAT"
        ) from error
    known = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING.get(type(made), ())
    classes = {one.__name__: one for one in (known if isinstance(known, tuple) else (known,))}
    said = config.get("architectures")
    names = [str(name) for name in said] if isinstance(said, list) else [*classes][:1]
    found = next((classes[name] for name in names if name in classes), None)
    if found is None:
        raise IntakeError(
            f"{what}{plain(', '.join(names) or kind, 80)} is no image classifier",
            "give a model whose name ends in ForImageClassification",
            code="E-ARCH",
        )
    return found, made


def _check_layers(config: Mapping[str, object], what: str) -> None:
    for key, value in config.items():
        if not re.search("layer|depth|block|stage", str(key)):
            continue
        numbers = value if isinstance(value, list) else [value]
        if any(isinstance(number, int) and number > MOST_LAYERS for number in numbers):
            raise IntakeError(
                f"{what}{plain(key, 40)} is {plain(value, 40)}, more than any network has",
                code="E-TOO-LARGE",
            )


def _recorded(folder: Path, config: Mapping[str, object]) -> Recorded:
    names = _names(config.get("id2label"))
    said: dict[str, object] = {
        "num_classes": None if names is None else len(names),
        "class_names": names,
    }
    side = config.get("image_size")
    if type(side) is int:
        said["input_size"] = [3, side, side]
    elif isinstance(side, list) and len(side) == 2:
        said["input_size"] = [3, *side]
    steps: dict[str, object] = {}
    if (folder / PREPROCESSOR).exists():
        processor = _processor(folder, config)
        steps = _steps(processor)
        said |= _norm(processor)
        if steps.get("crop"):
            said["input_size"] = [3, steps["crop"], steps["crop"]]
    found = checked_facts(said, f"{folder.name}: ", where=CONFIG)
    more: dict[str, Any] = transform_fields(steps) if found.input_size is not None else {}
    return Recorded(
        where=CONFIG,
        input_size=found.input_size,
        norm=found.norm,
        class_names=found.class_names,
        **more,
    )


def _names(id2label: object) -> tuple[str, ...] | None:
    """Return the names of the classes; None where there are only numbers."""
    if not isinstance(id2label, Mapping):
        return None
    names = [id2label.get(str(index)) for index in range(len(id2label))]
    if not names or not all(isinstance(name, str) for name in names):
        return None
    if all(name == f"LABEL_{index}" for index, name in enumerate(names)):
        return None
    return _imagenet(tuple(map(str, names)))


def _imagenet(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the WordNet ids where the names are those of ImageNet's classes in their order."""
    wnids = imagenet_wnids()
    if len(names) != len(wnids):
        return names
    from timm.data.imagenet_info import ImageNetInfo

    known = ImageNetInfo("imagenet-1k")
    alike = sum(
        _first_word(name) == _first_word(known.index_to_description(index))
        for index, name in enumerate(names)
    )
    return wnids if alike > 0.9 * len(wnids) else names


def _first_word(name: str) -> str:
    return re.sub(r"[\W_]+", " ", name.partition(",")[0]).strip().casefold()


def _processor(folder: Path, config: Mapping[str, object]) -> Any:
    """Return transformers' image processor, whose class knows what the file leaves out."""
    from transformers import AutoImageProcessor

    said = {key: value for key, value in config.items() if key not in _NOT_OURS}
    told = read_json_file(folder / PREPROCESSOR)
    told = {key: value for key, value in told.items() if key not in _NOT_OURS}
    with tempfile.TemporaryDirectory(prefix="robustmix-") as copy:
        for name, content in ((CONFIG, said), (PREPROCESSOR, told)):
            (Path(copy) / name).write_text(json.dumps(content), encoding="utf-8")
        try:
            return AutoImageProcessor.from_pretrained(
                copy, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # whatever it makes of a stranger's values
            raise IntakeError(
                f"{folder.name}/{PREPROCESSOR}: transformers refuses it: {plain(error, 200)}",
                code="E-FORMAT",
            ) from error


def _steps(processor: Any) -> dict[str, object]:
    """Return what is done to test images, as the steps of a test transform."""
    size = getattr(processor, "size", None)
    if not getattr(processor, "do_resize", False) or size is None:
        return {"resize": None, "crop": None}
    steps: dict[str, object] = {
        "interpolation": _INTERPOLATIONS.get(int(processor.resample or 0), "?")
    }
    share, short = getattr(processor, "crop_pct", None), _side(size, "shortest_edge")
    square = _side(size, "height") if _side(size, "height") == _side(size, "width") else None
    if share is not None and short is not None and not getattr(processor, "do_center_crop", None):
        # ConvNeXt's: small images are resized to more and cropped, others are made square.
        if short >= 384:
            return steps | {"resize": short, "crop": short, "crop_mode": "squash"}
        return steps | {"resize": int(short / share), "crop": short}
    crop = getattr(processor, "crop_size", None) if _crops(processor) else None
    side = None if crop is None else _side(crop, "height")
    if crop is not None and side != _side(crop, "width"):
        return {"resize": None, "crop": None}
    if square is not None:
        return steps | {"resize": square, "crop": side or square, "crop_mode": "squash"}
    return steps | {"resize": short, "crop": side} if side else {"resize": None, "crop": None}


def _crops(processor: Any) -> bool:
    return bool(getattr(processor, "do_center_crop", False))


def _side(size: Any, name: str) -> int | None:
    """Return one number of a size, which is a mapping or an object by the library's version."""
    value = size.get(name) if isinstance(size, Mapping) else getattr(size, name, None)
    return value if type(value) is int else None


def _norm(processor: Any) -> dict[str, object]:
    """Return mean and standard deviation in [0, 1] pixel units; nothing where it does more."""
    if getattr(processor, "rescale_offset", False) or getattr(processor, "include_top", False):
        return {}
    mean, std = [0.0] * 3, [1.0] * 3
    if getattr(processor, "do_normalize", False):
        mean, std = (
            list(value) if isinstance(value, list | tuple) else [value] * 3
            for value in (processor.image_mean, processor.image_std)
        )
    factor = processor.rescale_factor if getattr(processor, "do_rescale", False) else 1
    scale = factor * _LEVELS
    if abs(scale - 1) > 1e-9:
        mean, std = [m / scale for m in mean], [s / scale for s in std]
    return {"mean": mean, "std": std}
