"""What a foreign file or folder says of its model beside the weights.

That are the header of a safetensors file, the arguments that the training scripts of timm and
torchvision save, and the ``config.json`` of timm's folders for the Hugging Face hub; for those of
transformers see ``robustmix.models.transformers_nets``.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from robustmix.data.preparation import CropMode, TestTransform
from robustmix.errors import IntakeError, UsageError
from robustmix.models.archives import Record, unreadable
from robustmix.models.layouts import Norm
from robustmix.models.names import NORM_PRESETS
from robustmix.models.registry import ArchOptions, Size, check_size
from robustmix.text import plain

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
"""What transformers does to images."""

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""What a folder for the hub calls its weights, the safer form first."""

MOST_TEXT = 2**20
"""Bytes of a configuration."""

USUAL_CROP = 0.875
"""Share of the resized image that timm keeps where nobody says."""

OPTIONS = ("global_pool", "class_token")
"""Arguments of timm's networks that change what they compute without changing their tensors."""

_NO_MATTER = ("num_classes", "in_chans", "img_size", "pretrained", "scriptable", "no_jit")
"""Arguments that are said elsewhere or that the strict comparison of tensors covers."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """Facts of a model; None for what is not said."""

    where: str = ""
    """What messages call the place, e.g. ``its header``."""

    arch: str | None = None
    options: ArchOptions = field(default_factory=dict)
    """For the architecture's builder, as far as they are among ``OPTIONS``."""

    num_classes: int | None = None
    input_size: Size | None = None
    norm: Norm | None = None
    resize: int | None = None
    """Side that the images are resized to inside the model."""

    usual_size: Size | None = None
    """What the training takes where nobody says."""

    usual_norm: Norm | None = None
    """Likewise."""

    class_names: tuple[str, ...] | None = None
    test_transform: str | None = None
    """In the form of ``robustmix.data.preparation.TestTransform.text``."""

    notes: tuple[str, ...] = ()


@contextmanager
def said_by(name: str) -> Iterator[None]:
    """Turn an error about what cannot be used into one about the file that says it.

    Raises:
        IntakeError: in place of a UsageError.
    """
    try:
        yield
    except UsageError as error:
        raise IntakeError(
            f"{name} describes a model that cannot be built: {error.message}",
            error.hint,
            code=error.code,
        ) from error


def from_header(metadata: Mapping[str, str], name: str) -> Recorded:
    """Read the header of a safetensors file, whose values are JSON or text.

    Raises:
        IntakeError: a value is of another form.
    """
    said = {key: _decoded(metadata.get(key)) for key in ("input_size", "mean", "std")}
    return checked_facts(
        {"arch": metadata.get("arch"), **said}, f"{name}: ", where="its header", needed="JSON list"
    )


def _decoded(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text[:1000])
    except (ValueError, RecursionError):
        return text


def from_training(content: object, name: str) -> Recorded:
    """Read the arguments of timm's or torchvision's ``train.py`` in a checkpoint of theirs.

    Raises:
        IntakeError: they are of another form.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("args"), Record):
        return Recorded()
    args = content["args"].values
    if isinstance(content.get("arch"), str) and isinstance(args.get("model"), str):
        return _of_timm(str(content["arch"]), args, name)
    if isinstance(args.get("model"), str) and "val_crop_size" in args:
        return _of_torchvision(args, name)
    return Recorded()


def _of_timm(arch: str, args: Mapping[str, object], name: str) -> Recorded:
    import timm

    size = args.get("input_size") or args.get("img_size")
    known = timm.is_model(arch)
    said = {
        "arch": f"timm:{arch}" if known else None,
        "num_classes": args.get("num_classes"),
        "input_size": [3, size, size] if type(size) is int else size,
        "mean": _three(args.get("mean")),
        "std": _three(args.get("std")),
    }
    options = {**_mapping(args.get("model_kwargs")), "global_pool": args.get("gp")}
    found = checked_facts(said, f"{name}: ", where="its args", options=options)
    published = timm.get_pretrained_cfg(arch) if known else None
    if published is None:
        return found
    # As the script resolves what it is not told: by the network's own published weights.
    usual = checked_facts(published.to_dict(), f"{arch}: ", where="timm")
    asked = {key: value for key, value in args.items() if value}
    return replace(
        found,
        usual_size=usual.input_size,
        usual_norm=usual.norm,
        **_prepared(found.input_size or usual.input_size, {**published.to_dict(), **asked}),
    )


def _of_torchvision(args: Mapping[str, object], name: str) -> Recorded:
    side = args["val_crop_size"]
    said = {"arch": f"torchvision:{args['model']}", "input_size": [3, side, side]}
    steps = {"resize": args.get("val_resize_size"), "crop": side}
    return replace(
        checked_facts(said, f"{name}: ", where="its args"),
        usual_norm=NORM_PRESETS["imagenet"],
        **transform_fields({**steps, "interpolation": args.get("interpolation")}),
    )


def read_json_file(path: Path) -> dict[str, Any]:
    """Read a configuration: one JSON object of at most ``MOST_TEXT`` bytes.

    Raises:
        IntakeError: it is missing, too long, or of another form.
    """
    what = f"{path.parent.name}/{path.name}: "
    try:
        if not path.is_file() or path.stat().st_size > MOST_TEXT:
            raise IntakeError(f"{what}no configuration of a model", code="E-FORMAT")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise IntakeError(f"{what}it is no JSON ({plain(error, 80)})", code="E-FORMAT") from error
    if not isinstance(content, dict):
        raise IntakeError(f"{what}it is no JSON object", code="E-FORMAT")
    return content


def from_config(folder: Path) -> Recorded:
    """Read the ``config.json`` that timm's ``save_for_hf`` writes beside the weights.

    Raises:
        IntakeError: it is missing, too long, or not of that form.
    """
    what = f"{folder.name}/{CONFIG}: "
    config = read_json_file(folder / CONFIG)
    if not isinstance(config.get("architecture"), str):
        raise IntakeError(
            f"{what}it names no architecture of timm or transformers",
            "give a folder that timm's save_for_hf or transformers' save_pretrained wrote, or the "
            "file of weights with --arch",
            code="E-FORMAT",
        )
    published = _mapping(config.get("pretrained_cfg"))
    said = {
        "arch": _named_arch(config["architecture"]),
        "num_classes": config.get("num_classes"),
        **{key: published.get(key) for key in ("input_size", "mean", "std")},
        "class_names": config.get("label_names"),
    }
    built = _mapping(config.get("model_args"))
    side = built.get("img_size")
    if side is not None:  # what the network was built for, whatever its pretraining was
        said["input_size"] = [3, *side] if isinstance(side, list) else [3, side, side]
    options = {"global_pool": config.get("global_pool"), **built}
    found = checked_facts(said, what, where=CONFIG, options=options)
    return replace(found, **_prepared(found.input_size, published))


def _named_arch(name: str) -> str:
    """Return the architecture of a ``config.json``: timm's, but where it says whose it is."""
    return name if name.startswith(("robustmix:", "timm:", "torchvision:")) else f"timm:{name}"


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _three(value: object) -> object:
    """Return the numbers that timm's option stands for, which may be one for all channels."""
    return list(value) * 3 if isinstance(value, list | tuple) and len(value) == 1 else value


def checked_facts(
    said: Mapping[str, object],
    what: str,
    *,
    where: str,
    needed: str = "list",
    options: Mapping[str, object] | None = None,
) -> Recorded:
    """Return what a file says of a model, after checking that it can be meant.

    Args:
        said: ``arch``, ``num_classes``, ``input_size``, ``mean``, ``std``, ``class_names``.
        what: what messages begin with.
        where: see ``Recorded``.
        needed: what a list of numbers should be.
        options: further arguments of timm's builder.

    Raises:
        IntakeError: something cannot be meant.
    """
    arch, classes = said.get("arch"), said.get("num_classes")
    if arch is not None and (not isinstance(arch, str) or len(arch) > 200):
        raise IntakeError(f"{what}arch should be a name", code="E-FORMAT")
    if classes is not None and not (type(classes) is int and 0 < classes <= 10**6):
        raise IntakeError(f"{what}num_classes should be a positive integer", code="E-FORMAT")
    numbers = {}
    for key in ("input_size", "mean", "std"):
        if said.get(key) is not None:
            numbers[key] = _numbers(said[key], f"{what}{key} should be a {needed} of 3 numbers")
    size: Size | None = None
    if "input_size" in numbers:
        size = cast(Size, tuple(int(number) for number in numbers["input_size"]))
        with said_by(what.rstrip(": ")):
            check_size(size)
    norm = None
    if "mean" in numbers and "std" in numbers:
        norm = numbers["mean"], numbers["std"]
        if not all(-10 < m < 10 for m in norm[0]) or not all(0 < s < 10 for s in norm[1]):
            raise IntakeError(
                f"{what}mean and std should be in [0, 1] pixel units", code="E-FORMAT"
            )
    return Recorded(
        where=where,
        arch=arch,
        options=_options(options or {}, what),
        num_classes=classes,
        input_size=size,
        norm=norm,
        class_names=_names(said.get("class_names"), classes),
    )


def _numbers(value: object, message: str) -> tuple[float, ...]:
    if isinstance(value, list | tuple) and len(value) == 3:
        numbers = [x for x in value if type(x) in (int, float) and abs(x) < 1e9]
        if len(numbers) == 3:
            return tuple(numbers)
    raise IntakeError(f"{message}, in the header or the configuration", code="E-FORMAT")


def _names(value: object, classes: int | None) -> tuple[str, ...] | None:
    if isinstance(value, Mapping):  # by index, as JSON has it
        value = [value.get(str(index)) for index in range(len(value))]
    if not isinstance(value, list | tuple) or len(value) != classes:
        return None
    return tuple(value) if all(isinstance(name, str) for name in value) else None


def _options(given: Mapping[str, object], what: str) -> ArchOptions:
    """Return what the builder must be told; refuse what it cannot be told.

    Raises:
        IntakeError: there is such an argument.
    """
    found: ArchOptions = {}
    for key, value in given.items():
        if value is None or key in _NO_MATTER or "drop" in key:
            continue
        if key not in OPTIONS or not isinstance(value, str | bool) or len(str(value)) > 20:
            raise IntakeError(
                f"{what}the network was built with {plain(key, 30)}={plain(value, 30)}, which is "
                "not supported",
                "build it with timm and hand the module to robustmix.load_model",
                code="E-ARCH",
            )
        found[key] = value
    return found


def _prepared(size: Size | None, config: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields on how timm prepares test images."""
    return {} if size is None else transform_fields(timm_steps(size, config))


def timm_steps(size: Size, config: Mapping[str, object]) -> dict[str, object]:
    """Return the steps that timm takes for a configuration of its own, as a test transform's."""
    share = config.get("crop_pct")
    share = share if isinstance(share, int | float) and share > 0 else USUAL_CROP
    mode = config.get("crop_mode") or "center"
    if mode not in get_args(CropMode) or size[1] != size[2] or share > 1:
        return {"resize": None, "crop": None, "mode": str(mode), "crop_pct": share}
    steps: dict[str, object] = {
        "resize": math.floor(size[1] / share),
        "interpolation": config.get("interpolation"),
        "crop": size[1],
    }
    if mode != "center":
        steps["crop_mode"] = mode
    if mode == "border":
        steps["fill"] = _levels(_three(config.get("mean")))
    return steps


def _levels(mean: object) -> tuple[int, ...]:
    """Return the colour of timm's border: the mean of the normalisation, ImageNet's by default."""
    channels: Sequence[float] = NORM_PRESETS["imagenet"][0]
    if isinstance(mean, list | tuple) and len(mean) == 3:
        channels = mean if all(isinstance(level, int | float) for level in mean) else channels
    return tuple(round(255 * level) for level in channels)


def transform_fields(steps: Mapping[str, object]) -> dict[str, Any]:
    """Return the fields of ``Recorded`` on how test images are prepared by these steps."""
    text = transform_text(steps)
    if text is not None:
        return {"test_transform": text}
    told = ", ".join(f"{key} {plain(value, 20)}" for key, value in steps.items() if value)
    return {"notes": (f"W-TRANSFORM: images are not prepared as in the training ({told})",)}


def transform_text(steps: Mapping[str, object]) -> str | None:
    """Return a test transform in words, None for one that cannot be done here."""
    if not steps.get("resize"):
        return None
    try:
        return TestTransform.of_record(
            {**steps, "interpolation": steps.get("interpolation") or "bilinear"}
        ).text()
    except ValueError:
        return None
