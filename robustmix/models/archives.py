"""Read a file of weights without running anything in it.

A torch archive is a pickle, and an ordinary unpickler runs what the file tells it to. All reading
goes through torch's weights-only unpickler; the file's first bytes, not its name, tell what it is.
"""

import contextlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from robustmix.errors import IntakeError
from robustmix.models.registry import library_noise_off

Kind = Literal["torch", "safetensors", "torchscript", "pt2", "onnx"]

_UNSUPPORTED = {
    "torchscript": ("a TorchScript program", "save its state_dict() and pass --arch"),
    "pt2": ("a torch.export program", "save the module's state_dict() and pass --arch"),
    "onnx": ("an ONNX graph", "give the torch weights it was made from and pass --arch"),
}

_DANGEROUS = re.compile(
    r"^((builtins|__builtin__|posix|nt|os|subprocess|sys|shutil|runpy|pty|socket|importlib)\b"
    r"|(eval|exec|compile|open|__import__)$)"
)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What a file holds, unpickled into tensors and plain values."""

    kind: Kind
    content: object
    trusted_pickle: bool = False
    """Whether the weights-only unpickler refused it and the caller trusted it."""

    metadata: Mapping[str, str] | None = None
    """Header of a safetensors file."""


def read_archive(path: Path, *, trust_checkpoint: bool = False) -> Archive:
    """Read a torch archive or a safetensors file onto the CPU.

    Args:
        path: the file.
        trust_checkpoint: unpickle without restriction what the weights-only unpickler refuses:
            code in the file then runs.

    Raises:
        IntakeError: the file is missing, damaged, of another kind, or holds more than tensors and
            plain values.
    """
    if not path.is_file():
        raise _not_a_file(path)
    kind = _sniff(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind != "torch":
        what, hint = _UNSUPPORTED[kind]
        raise IntakeError(f"{path.name} is {what}, which is not supported", hint, code="E-FORMAT")
    return _read_torch(path, trust_checkpoint)


def _not_a_file(path: Path) -> IntakeError:
    if not path.exists():
        return IntakeError(
            f"no file {path}", "check --model; names look like timm:NAME", code="E-NO-FILE"
        )
    inside = [p for p in ("checkpoints/best.pth", "checkpoints/last.pth") if (path / p).is_file()]
    hint = f"give {path / inside[0]}" if inside else "give a checkpoint file"
    return IntakeError(f"{path} is not a file", hint, code="E-NO-FILE")


def _sniff(path: Path) -> Kind:
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(64)
    if head[:2] == b"PK":
        return _sniff_zip(path, size)
    header = int.from_bytes(head[:8], "little")
    if len(head) > 8 and head[8:9] == b"{" and 0 < header < 2**40:
        return "safetensors"  # checked first: its length may begin like any of the others
    if head[:1] == b"\x80":
        return "torch"
    if head[:1] == b"\x08" and size > 16:
        return "onnx"
    if head.startswith(b"version https://git-lfs"):
        what, hint = "a Git LFS pointer, not the weights", "fetch the file itself: git lfs pull"
    elif head.lstrip()[:1] == b"<":
        what, hint = "a web page, not weights", "download the file again"
    elif not size:
        what, hint = "empty", "download or save it again"
    elif _is_tar(path):
        return "torch"
    else:
        what, hint = "no file of weights", "give a torch archive or a safetensors file"
    raise IntakeError(f"{path.name} is {what}", hint, code="E-FORMAT")


def _is_tar(path: Path) -> bool:
    """Tell whether this is the tar form that torch wrote before version 0.1.10."""
    with open(path, "rb") as file:
        return file.read(263)[257:262] == b"ustar"


def _sniff_zip(path: Path, size: int) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(path, str(error)) from error
    # torch stores without compression; a small file that unpacks to a huge one is no checkpoint.
    if sum(entry.file_size for entry in entries) > 2 * size + 1024:
        raise IntakeError(f"{path.name} unpacks to far more than its size", code="E-FORMAT")
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        return "torchscript"
    if "data.pkl" in names:
        return "torch"
    if "archive_format" in names or "archive_version" in names:
        return "pt2"
    raise IntakeError(
        f"{path.name} is a zip file but no torch archive", "unpack it first", code="E-FORMAT"
    )


def _damaged(path: Path, why: str) -> IntakeError:
    why = " ".join(why.split())[:120]
    return IntakeError(
        f"{path.name} is truncated or damaged ({why})",
        "download or save it again",
        code="E-DAMAGED",
    )


def _read_safetensors(path: Path) -> Archive:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except Exception as error:  # a hostile header may fail anywhere
        raise _damaged(path, str(error)) from error
    return Archive(kind="safetensors", content=content, metadata=metadata)


def _read_torch(path: Path, trust: bool) -> Archive:
    try:
        return Archive(kind="torch", content=_unpickle(path, weights_only=True))
    except Exception as error:  # a hostile pickle may fail anywhere
        refused = _refused_type(str(error))
        if refused is None:
            raise _damaged(path, str(error) or type(error).__name__) from error
        if not trust:
            raise _refused(path, refused) from error
    try:
        content = _unpickle(path, weights_only=False)
    except Exception as error:  # whatever the file's own code raises
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    return Archive(kind="torch", content=content, trusted_pickle=True)


def _unpickle(path: Path, *, weights_only: bool) -> object:
    # An open file rather than its path: torch.load reads some paths by their extension.
    with library_noise_off(), open(path, "rb") as file:
        return torch.load(file, map_location="cpu", weights_only=weights_only)


def _refused_type(text: str) -> str | None:
    """Return what the weights-only unpickler refused, None if that was not the trouble."""
    named = re.search(r"GLOBAL ([\w.]+)|[Uu]nsupported class ([\w.]+)", text)
    if named:
        return named.group(1) or named.group(2)
    instruction = re.search(r"Unsupported operand (\d+)", text)
    if instruction:
        return f"pickle instruction {instruction.group(1)}"
    return "other objects" if "WeightsUnpickler error" in text else None


def _refused(path: Path, refused: str) -> IntakeError:
    if _DANGEROUS.match(refused):
        return IntakeError(
            f"{path.name} tries to run {refused} when loaded; nothing was run",
            "do not use this file",
            code="E-UNSAFE-PICKLE",
        )
    return IntakeError(
        f"{path.name} holds {refused}, more than tensors and plain values",
        "save only its state_dict(), or pass --trust-checkpoint if you trust its author with "
        "running code on this machine",
        code="E-UNSAFE-PICKLE",
    )


def check_tensors(name: str, tensors: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Return weights as float32 or integers, after checking that they can be weights at all.

    Args:
        name: the file's name, for messages.
        tensors: by name.
        size: bytes of the file; no tensor can hold more.

    Raises:
        IntakeError: a tensor is empty, sparse, complex, quantised, larger than its file, or not
            finite.
    """
    return {key: _checked_tensor(name, key, tensor, size) for key, tensor in tensors.items()}


def _checked_tensor(name: str, key: str, tensor: Tensor, size: int) -> Tensor:
    tensor = tensor.detach()
    plain = tensor.layout == torch.strided and not tensor.is_complex() and not tensor.is_quantized
    if not plain or tensor.device.type != "cpu":
        raise IntakeError(f"{name}: {key} is no plain tensor of numbers", code="E-TENSOR")
    # A stride of 0 lets a tiny file claim a tensor that fills the memory.
    if tensor.numel() * tensor.element_size() > size:
        raise IntakeError(f"{name}: {key} claims to be larger than its file", code="E-TENSOR")
    if not tensor.numel():
        raise IntakeError(f"{name}: {key} is empty", "save the weights again", code="E-TENSOR")
    if not tensor.is_floating_point():
        return tensor.contiguous()
    tensor = tensor.to(torch.float32).contiguous()
    if not bool(tensor.isfinite().all()):
        raise IntakeError(
            f"{name}: {key} holds NaN or infinity",
            "the training diverged; use an earlier checkpoint",
            code="E-NONFINITE-WEIGHTS",
        )
    return tensor


def decoded_metadata(metadata: Mapping[str, str]) -> dict[str, object]:
    """Return the header of a safetensors file, its JSON values decoded, others as text."""
    decoded: dict[str, object] = {}
    for key, text in metadata.items():
        decoded[key] = text
        with contextlib.suppress(ValueError):
            decoded[key] = json.loads(text)
    return decoded
