"""A disk that fills up, wherever it does: E-WRITE, exit 4, nothing half-written, the old kept.

The disk is the process's limit on the size of a file, which the system enforces in every write,
whatever language the writer is in. A write beyond it fails as on a full disk, with another number.
"""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix.cli.app import run
from robustmix.models.checkpoint import read_checkpoint, save_checkpoint
from tests.evaluation.test_calibration_checkpoint import digits_checkpoint
from tests.training.runs import small_train


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_train(tmp_path_factory.mktemp("run"), epochs=1).run_dir


@pytest.fixture(scope="module")
def report(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    command = ["eval", str(trained / "checkpoints" / "last.pth"), "--suite", "clean"]
    assert run([*command, "--limit", "64", "--out", str(out), "--force"]) == 0
    return out


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def full(command: list[str], size: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command without room, and see that it says so."""
    capsys.readouterr()
    with room_for(size):
        code = run(command)
    shown = capsys.readouterr()
    assert code == 4, shown.err
    assert "E-WRITE" in shown.err
    assert "File too large" in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


TRAIN = ["train", "digits-resnet8-mixup", "--limit-train", "40", "--set", "limit_val=8"]


@pytest.mark.parametrize("size", [100, 2000, 50_000, 400_000])
def test_train(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe, the log, and a checkpoint at its beginning and in its middle."""
    command = [*TRAIN, "--epochs", "1", "--out", str(tmp_path / "o"), "--progress", "none"]
    full(command, size, capsys)
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "o" / "checkpoints" / "last.pth").exists()
    assert run(command) == 0


def test_train_keeps_the_last_checkpoint(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "o"
    small_train(out, epochs=2, should_stop=iter([False, True, True]).__next__)
    before = (out / "checkpoints" / "last.pth").read_bytes()
    with room_for(50_000), pytest.raises(Exception, match=r"cannot write .*(last|best)\.pth"):
        small_train(out, epochs=2)
    assert (out / "checkpoints" / "last.pth").read_bytes() == before
    assert not list(out.rglob("*.tmp"))


def test_calibrate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = digits_checkpoint(tmp_path / "last.pth")
    out = tmp_path / "out" / "calibrated.pth"
    out.parent.mkdir()
    out.write_bytes(b"old")
    full(["calibrate", str(source), "--out", str(out), "--force"], 5000, capsys)
    assert contents(out.parent) == {"calibrated.pth": b"old"}


@pytest.mark.parametrize("size", [200, 3000])
def test_eval(size: int, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A unit of the work, and the report."""
    command = ["eval", str(trained / "checkpoints" / "last.pth"), "--suite", "clean"]
    command += ["--limit", "300", "--out", str(tmp_path / "o")]
    full(command, size, capsys)
    assert not list(tmp_path.rglob("*.tmp"))
    assert not (tmp_path / "o" / "report.json").exists()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["report", "html"], "page.html"),
        (["report", "csv"], "numbers.csv"),
        (["report", "md"], "numbers.md"),
    ],
)
def test_report(
    words: list[str], name: str, report: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(b"old")
    full([*words, str(report), "--out", str(tmp_path / name)], 100, capsys)
    assert contents(tmp_path) == {name: b"old"}


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_corrupt_preview(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / f"sheet.{suffix}"
    full(["corrupt", "preview", "--corruptions", "fog", "--out", str(out)], 2000, capsys)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("size", [100, 20_000])
def test_corrupt_generate(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its record, and an array: written through a mapping, that would end the process."""
    command = ["corrupt", "generate", "--dataset", "digits", "--limit", "6", "--corruptions", "fog"]
    command += ["--out", str(tmp_path / "set")]
    full(command, size, capsys)
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("*.npy"))
    assert run(command) == 0
    assert np.load(tmp_path / "set" / "fog.npy", allow_pickle=False).shape == (30, 32, 32, 3)


def test_equal_checkpoints_are_equal_files(trained: Path, tmp_path: Path) -> None:
    checkpoint = read_checkpoint(trained / "checkpoints" / "last.pth")
    save_checkpoint(tmp_path / "a.pth", checkpoint)
    save_checkpoint(tmp_path / "of_another_name.pth", checkpoint)
    assert len(set(contents(tmp_path).values())) == 1
    again = read_checkpoint(tmp_path / "a.pth").model
    assert all(torch.equal(again[key], value) for key, value in checkpoint.model.items())
