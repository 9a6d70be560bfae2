"""Read a file of weights without running anything in it.

A torch archive is a pickle, and an ordinary unpickler runs what the file tells it to. All reading
goes through torch's weights-only unpickler, after a look at how much it would make; the file's
first bytes, not its name, tell what it is.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import torch
from torch import Tensor

from robustmix.errors import IntakeError
from robustmix.models.pickle_scan import (
    RECORD,
    MalformedError,
    RefusedError,
    TooLargeError,
    scan_pickle,
)
from robustmix.models.registry import library_noise_off
from robustmix.text import plain

Kind = Literal["torch", "safetensors", "torchscript", "pt2", "onnx"]

_UNSUPPORTED = {
    "torchscript": ("a TorchScript program", "save its state_dict() and pass --arch"),
    "pt2": ("a torch.export program", "save the module's state_dict() and pass --arch"),
    "onnx": ("an ONNX graph", "give the torch weights it was made from and pass --arch"),
}

MOST_CLAIMED = 16
"""How many times its size a file's tensors may claim, for some share their numbers."""

MOST_TENSORS = 50_000
"""In a safetensors file."""

LEGACY_PICKLES = 5
"""A file of torch before 1.6: magic number, version, machine, content, names of the storages."""

_DANGEROUS = re.compile(
    r"^((builtins|__builtin__|posix|nt|os|subprocess|sys|shutil|runpy|pty|socket|importlib)\b"
    r"|(eval|exec|compile|open|__import__)$)"
)


class Record:
    """Names and values of an ``argparse.Namespace`` in a file; the class itself is not loaded."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        """Take what the file says, if it is names and values."""
        self.values = {}
        if isinstance(state, dict):
            self.values = {key: value for key, value in state.items() if isinstance(key, str)}


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
    try:
        if not path.is_file():  # before it is opened: a FIFO would never end
            raise _not_a_file(path)
        return _read(path, trust_checkpoint)
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> IntakeError:
    """Return the error for a file that the system does not let us read."""
    return IntakeError(
        f"cannot read {plain(path, 80)}: {error.strerror or error}",
        "check the path and its permissions",
        code="E-NO-FILE",
    )


def _read(path: Path, trust: bool) -> Archive:
    kind = _sniff(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if kind != "torch":
        what, hint = _UNSUPPORTED[kind]
        raise IntakeError(f"{path.name} is {what}, which is not supported", hint, code="E-FORMAT")
    return _read_torch(path, trust)


def _not_a_file(path: Path) -> IntakeError:
    if not path.exists():
        return IntakeError(
            f"no file {path}",
            "check the path; models of libraries are named timm:NAME",
            code="E-NO-FILE",
        )
    inside = [p for p in ("checkpoints/best.pth", "checkpoints/last.pth") if (path / p).is_file()]
    if inside:
        hint = f"give {path / inside[0]}"
    elif (path / "report.json").is_file():
        hint = "it holds a report, which `robustmix report show` reads; give a checkpoint file"
    else:
        hint = "give a checkpoint file"
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
    elif head.lstrip()[:1] == b"{":
        what, hint = "JSON, not weights", "give a checkpoint; `robustmix report show` reads reports"
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
            # torch does not compress; a small file that unpacks to a huge one is no checkpoint.
            if sum(entry.file_size for entry in entries) > 2 * size + 1024:
                raise IntakeError(f"{path.name} unpacks to far more than its size", code="E-FORMAT")
            _check_sums(archive)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise _damaged(path, str(error)) from error
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        return "torchscript"
    if "data.pkl" in names:
        _check_folder(path, [entry.filename for entry in entries])
        return "torch"
    if "archive_format" in names or "archive_version" in names:
        return "pt2"
    raise IntakeError(
        f"{path.name} is a zip file but no torch archive", "unpack it first", code="E-FORMAT"
    )


def _check_sums(archive: zipfile.ZipFile) -> None:
    """Read all entries, which compares them with their checksums: torch's own reader does not."""
    for entry in archive.infolist():
        if entry.CRC:  # torch can be told to write zeros instead
            with archive.open(entry) as file:
                while file.read(2**20):
                    pass


def _check_folder(path: Path, names: list[str]) -> None:
    """Raise unless there is one folder and nothing twice: of two, each reader might take another.

    Raises:
        IntakeError: there is more.
    """
    if len(set(names)) < len(names) or len({name.partition("/")[0] for name in names}) > 1:
        raise _damaged(path, "the archive holds an entry twice")


def _damaged(path: Path, why: str) -> IntakeError:
    return IntakeError(
        f"{path.name} is truncated or damaged ({plain(why, 120)})",
        "download or save it again",
        code="E-DAMAGED",
    )


def _read_safetensors(path: Path) -> Archive:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if len(names) > MOST_TENSORS:
                raise IntakeError(
                    f"{path.name} holds more than {MOST_TENSORS} tensors", code="E-TOO-LARGE"
                )
            content = {name: file.get_tensor(name) for name in names}
            metadata = dict(file.metadata() or {})
    except IntakeError:
        raise
    except Exception as error:  # a hostile header may fail anywhere
        raise _damaged(path, str(error)) from error
    return Archive(kind="safetensors", content=content, metadata=metadata)


def _read_torch(path: Path, trust: bool) -> Archive:
    try:
        _scan(path)
        content = _unpickle(path, weights_only=True)
        return Archive(kind="torch", content=_Inert(path).copy(content))
    except IntakeError:
        raise
    except Exception as error:  # a hostile pickle may fail anywhere
        refused = str(error) if isinstance(error, RefusedError) else _refused_type(str(error))
        if refused is None:
            raise _damaged(path, str(error) or type(error).__name__) from error
        if not trust:
            raise _refused(path, refused) from error
    try:
        content = _unpickle(path, weights_only=False)
    except Exception as error:  # whatever the file's own code raises
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    return Archive(kind="torch", content=content, trusted_pickle=True)


def _scan(path: Path) -> None:
    """Raise for a pickle whose content would take too much, before anything is made of it."""
    with open(path, "rb") as file:
        try:
            for pickle in _pickles(file):
                scan_pickle(pickle)
        except TooLargeError as error:
            raise IntakeError(
                f"{path.name} holds {error}",
                "no checkpoint does; do not use it",
                code="E-TOO-LARGE",
            ) from error
        except MalformedError as error:
            raise _damaged(path, str(error)) from error


def _pickles(file: BinaryIO) -> Iterator[BinaryIO]:
    zipped = file.read(2) == b"PK"
    file.seek(0)
    if zipped:
        # By torch's own reader, so that this is the pickle which is then loaded.
        yield io.BytesIO(torch._C.PyTorchFileReader(file).get_record("data.pkl"))
        return
    for _ in range(LEGACY_PICKLES):
        yield file


def _unpickle(path: Path, *, weights_only: bool) -> object:
    # An open file rather than its path: torch.load reads some paths by their extension.
    known = torch.serialization.safe_globals([(Record, RECORD)] if weights_only else [])
    with library_noise_off(), open(path, "rb") as file, known:
        return torch.load(file, map_location="cpu", weights_only=weights_only)


class _Inert:
    """Copies content into plain containers, tensors and values, and adds up what they claim.

    A pickle may put attributes on what it makes, such as a number in place of a method ``items``.
    """

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._left = MOST_CLAIMED * path.stat().st_size
        self._copies: dict[int, object] = {}

    def copy(self, value: object) -> object:
        """Return the copy; what is shared stays shared, and is counted once.

        Raises:
            IntakeError: the tensors claim far more than the file holds: views with a stride of 0,
                or many views of the same.
        """
        known = self._copies.get(id(value))
        if known is None:
            known = self._copies[id(value)] = self._copied(value)
        return known

    def _copied(self, value: object) -> object:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, dict):
            return {key: self.copy(item) for key, item in dict.items(value)}
        if isinstance(value, list | tuple):
            items = [self.copy(item) for item in value]
            return tuple(items) if isinstance(value, tuple) else items
        if isinstance(value, Record):
            value.values = {key: self.copy(item) for key, item in value.values.items()}
        return value

    def _tensor(self, value: Tensor) -> Tensor:
        plain = torch.Tensor.detach(value)
        if plain.layout == torch.strided:
            self._left -= plain.numel() * plain.element_size()
        if self._left < 0:
            raise IntakeError(
                f"{self._name}: its tensors claim to be larger than the file", code="E-TENSOR"
            )
        return plain


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
    refused = plain(refused, 80)
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


_DTYPES = (
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
"""Of weights and counters; others cannot be copied into those of a network."""


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
    for key, tensor in tensors.items():
        _check_form(f"{name}: {plain(key, 80)}", tensor, size)
    return {key: _finite(f"{name}: {plain(key, 80)}", tensor) for key, tensor in tensors.items()}


def _check_form(what: str, tensor: Tensor, size: int) -> None:
    dense = tensor.layout == torch.strided and tensor.dtype in _DTYPES
    if not dense or tensor.device.type != "cpu":
        raise IntakeError(f"{what} is no plain tensor of numbers", code="E-TENSOR")
    # A stride of 0 lets a tiny file claim a tensor that fills the memory.
    if tensor.numel() * tensor.element_size() > size:
        raise IntakeError(f"{what} claims to be larger than its file", code="E-TENSOR")
    if not tensor.numel():
        raise IntakeError(f"{what} is empty", "save the weights again", code="E-TENSOR")


def _finite(what: str, tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if not tensor.is_floating_point():
        return tensor.contiguous()
    tensor = tensor.to(torch.float32).contiguous()
    if not bool(tensor.isfinite().all()):
        raise IntakeError(
            f"{what} holds NaN or infinity",
            "the training diverged; use an earlier checkpoint",
            code="E-NONFINITE-WEIGHTS",
        )
    return tensor
