"""The checkpoint file: tensors and JSON-like values only, so it loads without running anything."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from robustmix.errors import IntakeError
from robustmix.files import atomic_file, expanded
from robustmix.models.archives import check_tensors, read_archive
from robustmix.models.infer import head_of
from robustmix.models.names import ARCHS, split_stem
from robustmix.models.registry import LARGEST_SIDE
from robustmix.text import plain

LONGEST_TEXT = 4096
"""Characters in a field that is a name or a line of text."""

FORMAT_VERSION = 2
"""Raised when an older reader could misread the file. Since 2 there may be a ``calibration``, which
a reader of version 1 would leave out of the logits."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model and, if ``resume`` is there, all that continuing its training needs."""

    arch: str
    arch_options: dict[str, str | int | float]
    """E.g. ``{"stem": "cifar"}``; ``resize`` gives the size the network sees."""

    method: str
    num_classes: int
    input_size: tuple[int, int, int]
    """(3, H, W) of the images."""

    mean: tuple[float, float, float]
    """Of the normalisation trained with, in [0, 1] pixel units."""

    std: tuple[float, float, float]
    class_names: tuple[str, ...]
    """In label order; empty if unknown."""

    dataset: str
    recipe: dict[str, Any]
    """Complete and JSON-like: reruns the training."""

    run_id: str
    epoch: int
    """Finished epochs."""

    metrics: dict[str, Any]
    """JSON-like; None for what is undefined, never NaN."""

    model: dict[str, Tensor]
    """State dict of what is deployed."""

    weights: Literal["raw", "ema"] = "raw"
    """Whether ``model`` holds averaged weights."""

    raw: dict[str, Tensor] | None = field(default=None, repr=False)
    """State dict of the same network as it was trained, where ``model`` is an average that was
    made beside it."""

    head: str | None = None
    """Which of the method's classifiers ``model`` holds, if it trains several."""

    resume: dict[str, Any] | None = field(default=None, repr=False)
    """Tensors and JSON-like values."""

    calibration: dict[str, Any] | None = field(default=None, repr=False)
    """JSON-like: ``T``, what the logits of ``model`` are to be divided by, and how it was fitted;
    ``sample_ids`` names the samples, which no calibration may be judged on. None: not calibrated.
    """

    plugins: tuple[Mapping[str, str], ...] = ()
    """Kind, name, module and version of the architecture, method and data set, as far as others
    registered them; see ``robustmix.tables.plugins``."""


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        ValueError: a field holds something other than tensors and JSON-like values, such as a
            numpy number; weights-only loading would refuse the file.
        IncompleteError: the file cannot be written.
    """
    content: dict[str, object] = {"format_version": FORMAT_VERSION}
    for f in fields(checkpoint):
        tensors = f.name in ("model", "raw", "resume")
        value = getattr(checkpoint, f.name)
        _check_plain(f.name, value, tensors=tensors, nan=f.name == "resume")
        content[f.name] = _owned(value)
    _validate(content)
    for name in ("plugins", "raw"):  # a file without any is the one that older versions write
        if not content[name]:
            del content[name]
    # Not to a path: torch would name a folder in the archive after the temporary file, and raise a
    # RuntimeError when the disk is full.
    with atomic_file(expanded(path)) as file:
        torch.save(content, file)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that ``save_checkpoint`` wrote, onto the CPU.

    Raises:
        IntakeError: the file is missing, damaged, newer than this reader, incomplete, or its
            weights are not finite or do not fit its own description.
    """
    path = expanded(path)
    content = read_archive(path).content
    if not is_checkpoint(content):
        raise IntakeError(
            f"{path.name} is not a robustmix checkpoint",
            "foreign files are evaluated with --arch NAME",
            code="E-FORMAT",
        )
    return checkpoint_from(content, path)


def is_checkpoint(content: object) -> bool:
    """Tell whether the content of an archive claims to be a checkpoint of ours."""
    return isinstance(content, Mapping) and "format_version" in content


def checkpoint_from(content: object, path: Path) -> Checkpoint:
    """Return the checkpoint in the content of an archive, after checking every field.

    Raises:
        IntakeError: as ``read_checkpoint``.
    """
    assert isinstance(content, Mapping)
    version = content["format_version"]
    if type(version) is not int or version < 1:
        raise _broken(path, f"format_version should be 1 or more, got {type(version).__name__}")
    content = {"plugins": [], "raw": None, **content}
    if version == 1:
        content = {"calibration": None, **content}
    if version > FORMAT_VERSION:
        raise IntakeError(
            f"{path.name} has checkpoint format {version}, this robustmix reads {FORMAT_VERSION}",
            "upgrade robustmix",
            code="E-NEWER-FORMAT",
        )
    try:
        _validate(content)
        for name in ("recipe", "metrics", "calibration"):
            _check_plain(name, content[name], tensors=False, nan=False)
        _check_plain("resume", content["resume"], tensors=True, nan=True)
    except RecursionError:  # only where the caller trusted the pickle: else its levels are counted
        raise _broken(path, "its values lie too deep") from None
    except ValueError as error:
        raise _broken(path, str(error)) from None
    values = {f.name: content[f.name] for f in fields(Checkpoint)}
    for name in ("input_size", "mean", "std", "class_names", "plugins"):
        values[name] = tuple(values[name])
    for name in ("model", "raw"):
        if values[name] is not None:
            values[name] = check_tensors(path.name, values[name], path.stat().st_size)
    checkpoint = Checkpoint(**values)
    _check_head(checkpoint, path)
    return checkpoint


def _broken(path: Path, why: str) -> IntakeError:
    return IntakeError(
        f"{path.name} is not a valid checkpoint: {plain(why, 160)}",
        "use another one",
        code="E-CHECKPOINT",
    )


def _check_head(checkpoint: Checkpoint, path: Path) -> None:
    arch = split_stem(checkpoint.arch)[0]
    if arch not in ARCHS or ARCHS.origin(arch) is not None:
        return  # others may call their classifier what they like
    head = head_of(checkpoint.model)
    if head is None:
        raise _broken(
            path,
            f"none of its {len(checkpoint.model)} tensors is the matrix of a classifier, such as "
            "fc.weight",
        )
    if head[1] != checkpoint.num_classes:
        raise _broken(
            path, f"num_classes is {checkpoint.num_classes} but its classifier has {head[1]}"
        )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= 10**9


def _is_positive_count(value: object) -> bool:
    return type(value) is int and 0 < value <= 10**6


def _is_number(value: object) -> bool:
    return (type(value) is int or type(value) is float) and -1e6 < value < 1e6


def _is_positive_number(value: object) -> bool:
    # Smaller ones are 0 in float32.
    return (type(value) is int or type(value) is float) and 1e-6 <= value < 1e6


def _is_side(value: object) -> bool:
    return type(value) is int and 0 < value <= LARGEST_SIDE


def _is_arch_options(value: object) -> bool:
    if not _is_dict_of(_is_option)(value):
        return False
    assert isinstance(value, Mapping)
    return _is_side(value.get("resize", 1)) and _is_text(value.get("stem", ""))


def _is_option(value: object) -> bool:
    return _is_text(value) or (isinstance(value, int | float) and math.isfinite(value))


def _is_resume(value: object) -> bool:
    """Tell whether a state of training can be one, as far as its counts and its history say."""
    if value is None:
        return True
    if not _is_dict_of(_is_anything)(value):
        return False
    assert isinstance(value, Mapping)
    checks = {"epoch": _is_count, "step": _is_count, "means": _is_means, "history": _is_history}
    if not all(check(value[name]) for name, check in checks.items() if name in value):
        return False
    return "history" not in value or len(value["history"]) == value.get("epoch")


def _is_means(value: object) -> bool:
    """Tell whether these are sums over batches: of a name there is one only after a batch."""
    if not isinstance(value, Mapping) or value.keys() != {"counts", "sums"}:
        return False
    counts, sums = value["counts"], value["sums"]
    return (
        _is_dict_of(lambda n: _is_count(n) and n != 0)(counts)
        and _is_dict_of(lambda x: type(x) is float)(sums)
        and counts.keys() == sums.keys()
    )


def _is_history(value: object) -> bool:
    return _is_sequence_of(
        lambda record: isinstance(record, Mapping) and _is_number(record.get("top1"))
    )(value)


def _is_sequence_of(
    kind: Callable[[object], bool], length: int | None = None
) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        if not isinstance(value, list | tuple) or length not in (None, len(value)):
            return False
        return all(kind(item) for item in value)

    return check


def _is_dict_of(kind: Callable[[object], bool]) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        return isinstance(value, Mapping) and all(
            _is_text(key) and kind(item) for key, item in value.items()
        )

    return check


def _is_calibration(value: object) -> bool:
    if value is None:
        return True
    if not isinstance(value, Mapping) or not all(map(_is_text, value)):
        return False
    ids = _is_sequence_of(_is_text)(value.get("sample_ids"))
    return ids and _is_positive_number(value.get("T"))


def _is_plugin(value: object) -> bool:
    wanted = {"kind", "name", "module", "version"}
    return isinstance(value, Mapping) and wanted <= value.keys() and _is_dict_of(_is_text)(value)


def _is_anything(value: object) -> bool:
    return True


_FIELDS: dict[str, tuple[Callable[[object], bool], str]] = {
    "arch": (_is_text, "text"),
    "arch_options": (
        _is_arch_options,
        f"names and values, resize from 1 to {LARGEST_SIDE} pixels",
    ),
    "method": (_is_text, "text"),
    "num_classes": (_is_positive_count, "a positive integer"),
    "input_size": (_is_sequence_of(_is_side, 3), f"3 integers from 1 to {LARGEST_SIDE}"),
    "mean": (_is_sequence_of(_is_number, 3), "3 numbers"),
    "std": (_is_sequence_of(_is_positive_number, 3), "3 positive numbers"),
    "class_names": (_is_sequence_of(_is_text), "a list of names"),
    "dataset": (_is_text, "text"),
    "recipe": (_is_dict_of(_is_anything), "names and values"),
    "run_id": (_is_text, "text"),
    "epoch": (_is_count, "an integer from 0"),
    "metrics": (_is_dict_of(_is_anything), "names and values"),
    "model": (_is_dict_of(lambda v: isinstance(v, Tensor)), "named tensors"),
    "raw": (
        lambda v: v is None or (bool(v) and _is_dict_of(lambda t: isinstance(t, Tensor))(v)),
        "named tensors or None",
    ),
    "weights": (lambda v: _is_text(v) and v in ("raw", "ema"), "raw or ema"),
    "head": (lambda v: v is None or _is_text(v), "text or None"),
    "resume": (_is_resume, "a state of training, its counts from 0, or None"),
    "calibration": (_is_calibration, "T > 0 with its sample_ids, or None"),
    "plugins": (_is_sequence_of(_is_plugin), "a list of kind, name, module and version"),
}


def _validate(content: Mapping[str, object]) -> None:
    """Raise ValueError for a field that is missing or of the wrong type."""
    for name, (check, expected) in _FIELDS.items():
        if name not in content:
            raise ValueError(f"{name} is missing")
        value = content[name]
        if not check(value):
            raise ValueError(f"{name} should be {expected}, got {_shown(value)}")
    names, classes = content["class_names"], content["num_classes"]
    assert isinstance(names, list | tuple)
    if names and len(names) != classes:
        raise ValueError(f"class_names has {len(names)} entries for {classes} classes")
    if not content["model"]:
        raise ValueError("model holds no tensors")


def _shown(value: object) -> str:
    """Return a short value as it is, of others the kind."""
    shown = repr(value) if type(value) in (bool, int, float, str) else ""
    return plain(shown) if 0 < len(shown) < 60 else type(value).__name__


def _check_plain(where: str, value: object, *, tensors: bool, nan: bool) -> None:
    """Raise ValueError, naming it, for what weights-only loading would refuse or JSON has not."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if type(key) is not str and type(key) is not int:
                raise ValueError(f"a key of {where} is {type(key).__name__}, expected str or int")
            _check_plain(f"{where}.{plain(key, 40)}", item, tensors=tensors, nan=nan)
    elif type(value) is list or type(value) is tuple:
        for i, item in enumerate(value):
            _check_plain(f"{where}[{i}]", item, tensors=tensors, nan=nan)
    elif not _is_plain(value, tensors=tensors, nan=nan):
        kind = f"{type(value).__module__}.{type(value).__name__}"
        got = repr(value) if type(value) is float else kind
        allowed = "tensors and JSON-like values" if tensors else "JSON-like values"
        raise ValueError(f"a checkpoint holds {allowed} only, but {where} is {got}")


def _is_plain(value: object, *, tensors: bool, nan: bool) -> bool:
    if isinstance(value, Tensor):
        return tensors
    if type(value) is float:
        return nan or math.isfinite(value)
    return value is None or type(value) in (bool, int, str)


def _owned(value: object) -> object:
    """Return a copy of a plain value whose tensors are on the CPU and hold what they need alone."""
    if isinstance(value, Mapping):
        return {key: _owned(item) for key, item in value.items()}
    if type(value) is list:
        return [_owned(item) for item in value]
    if type(value) is tuple:
        return tuple(_owned(item) for item in value)
    return _own_storage(value) if isinstance(value, Tensor) else value


def _own_storage(tensor: Tensor) -> Tensor:
    """Return the tensor on the CPU, without the rest of a larger storage that it is a view of."""
    tensor = tensor.detach().cpu()
    whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if whole else tensor.clone()
