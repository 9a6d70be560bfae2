import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from robustmix.errors import IntakeError
from robustmix.models.archives import check_tensors, read_archive
from tests.models.builders import (
    CreatesFile,
    Evaluates,
    RunsCommand,
    plain_pickle,
    torch_file,
    zip_file,
)


def refused(path: Path, *, trust: bool = False) -> IntakeError:
    with pytest.raises(IntakeError) as caught:
        read_archive(path, trust_checkpoint=trust)
    assert "\n" not in caught.value.line()
    assert len(caught.value.line()) < 300
    return caught.value


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", ["pth", "safetensors", "onnx"])
def test_the_content_decides_not_the_name(tmp_path: Path, legacy: bool, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    path.write_bytes(torch_file({"a": torch.arange(3)}, legacy=legacy))
    archive = read_archive(path)
    assert archive.kind == "torch"
    assert not archive.trusted_pickle
    assert isinstance(archive.content, dict)
    assert torch.equal(archive.content["a"], torch.arange(3))


def test_safetensors_with_its_header(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    save_file({"a": torch.arange(3.0)}, path, metadata={"arch": "resnet8"})
    archive = read_archive(path)
    assert archive.kind == "safetensors"
    assert archive.metadata == {"arch": "resnet8"}
    path.write_bytes(path.read_bytes()[:-3])
    assert refused(path).code == "E-DAMAGED"


HOSTILE: dict[str, Callable[[CreatesFile], bytes]] = {
    "zip": lambda bomb: torch_file({"state_dict": {"a": torch.zeros(2), "b": bomb}}),
    "legacy": lambda bomb: torch_file({"b": bomb}, legacy=True),
    "pickle-2": lambda bomb: plain_pickle({"b": bomb}, 2),
    "pickle-4": lambda bomb: plain_pickle({"b": bomb}, 4),
    "pickle-0": lambda bomb: plain_pickle({"b": bomb}, 0),
    "zip-pickle-4": lambda bomb: zip_file(
        {"x/data.pkl": plain_pickle(bomb, 4), "x/version": b"3", "x/byteorder": b"little"}
    ),
}


@pytest.mark.parametrize("bomb", [CreatesFile, RunsCommand, Evaluates])
@pytest.mark.parametrize("form", HOSTILE)
def test_a_hostile_pickle_never_runs(tmp_path: Path, form: str, bomb: type[CreatesFile]) -> None:
    trace, path = tmp_path / "trace", tmp_path / "bad.pth"
    path.write_bytes(HOSTILE[form](bomb(trace)))
    refused(path)
    assert not trace.exists()


def test_a_command_is_named_and_trusting_it_is_not_suggested(tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(torch_file(RunsCommand(tmp_path / "trace")))
    error = refused(path)
    assert "tries to run posix.system" in error.message
    assert "nothing was run" in error.message
    assert "trust" not in error.hint


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.float64(1), "numpy"),
        (np.zeros(2), "numpy"),
        (Path("x"), "pathlib"),
        (torch.nn.Linear(2, 3), "torch.nn.modules.linear.Linear"),
    ],
    ids=["numpy-number", "numpy-array", "path", "module"],
)
def test_refused_types_are_named_and_can_be_trusted(
    tmp_path: Path, value: object, named: str
) -> None:
    path = tmp_path / "foreign.pth"
    path.write_bytes(torch_file({"state_dict": {"a": torch.zeros(2)}, "extra": value}))
    error = refused(path)
    assert error.code == "E-UNSAFE-PICKLE"
    assert named in error.message
    assert "--trust-checkpoint" in error.hint
    archive = read_archive(path, trust_checkpoint=True)
    assert archive.trusted_pickle
    assert isinstance(archive.content, dict)
    assert isinstance(archive.content["extra"], type(value))


def test_trust_is_not_recorded_where_it_was_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "plain.pth"
    path.write_bytes(torch_file({"a": torch.zeros(2)}))
    assert not read_archive(path, trust_checkpoint=True).trusted_pickle


def test_trusted_code_that_fails_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.pth"
    path.write_bytes(torch_file(Evaluates(tmp_path / "no" / "such" / "folder" / "x")))
    assert refused(path, trust=True).code == "E-DAMAGED"


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        (b"", "E-FORMAT", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "E-FORMAT", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "E-FORMAT", "web page"),
        (b"hello, world", "E-FORMAT", "no file of weights"),
        (b"PK\x03\x04" + bytes(40), "E-DAMAGED", "damaged"),
        (b"\x80\x02", "E-DAMAGED", "damaged"),
        (b"\x08\x07\x12\x07pytorch" + bytes(20), "E-FORMAT", "ONNX"),
        (struct.pack("<Q", 2**39) + b"{" + bytes(9), "E-DAMAGED", "damaged"),
        (zip_file({"a/b.txt": b"x"}), "E-FORMAT", "no torch archive"),
        (zip_file({"a/data.pkl": b"", "a/constants.pkl": b""}), "E-FORMAT", "TorchScript"),
        (zip_file({"a/archive_format": b"pt2"}), "E-FORMAT", "torch.export"),
        (
            zip_file({"a/data.pkl": bytes(10**6)}, zipfile.ZIP_DEFLATED),
            "E-FORMAT",
            "far more than its size",
        ),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, data: bytes, code: str, text: str) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(data)
    error = refused(path)
    assert error.code == code
    assert text in error.line()


def test_a_real_torchscript_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pth"
    path.write_bytes(zip_file({"s/constants.pkl": b"", "s/data.pkl": b"", "s/code/x.py": b""}))
    assert "state_dict()" in refused(path).hint


def checked(tensor: Tensor, size: int = 10**6) -> Tensor:
    return check_tensors("f.pth", {"w": tensor}, size)["w"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_weights_become_float32(dtype: torch.dtype) -> None:
    values = torch.tensor([0.5, -3.0, 2.0**-10], dtype=dtype)
    assert checked(values).dtype == torch.float32
    assert torch.equal(checked(values), values.float())


def test_counters_stay_integers() -> None:
    assert checked(torch.tensor(5)).dtype == torch.int64


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (torch.zeros(0), "empty"),
        (torch.zeros(1).expand(10**9), "larger than its file"),
        (torch.zeros(2, dtype=torch.complex64), "no plain tensor"),
        (torch.zeros(2, 2).to_sparse(), "no plain tensor"),
        (torch.zeros(2, device="meta"), "no plain tensor"),
        (torch.tensor([1.0, torch.inf]), "NaN or infinity"),
        (torch.tensor([1e39], dtype=torch.float64), "NaN or infinity"),
    ],
)
def test_tensors_that_cannot_be_weights(tensor: Tensor, text: str) -> None:
    with pytest.raises(IntakeError, match=text):
        checked(tensor)
