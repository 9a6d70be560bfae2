"""``robustmix eval --suite corruption`` with what users get wrong: one line, and an exit code."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix.cli.app import run
from robustmix.data.images import ImageSet
from robustmix.evaluation import model_images
from robustmix.models.registry import build_model
from robustmix.report import Report
from tests.evaluation.cifar_like import cifar_c, cifar_like


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "net.pth"
    torch.save(build_model("resnet8", num_classes=100, input_size=(3, 32, 32)).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return cifar_like()


@pytest.fixture(scope="module")
def whole(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cifar_c(tmp_path_factory.mktemp("whole"), images, severities=(1, 2))


@pytest.fixture
def command(
    network: Path, images: ImageSet, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """An evaluation of eight images that reads ``tmp_path/CIFAR-100-C``."""
    folder = tmp_path / "CIFAR-100-C"
    folder.mkdir()
    for name in ("brightness.npy", "labels.npy"):
        os.link(whole / name, folder / name)  # damages replace files, they change none
    monkeypatch.setattr(model_images, "load_dataset", lambda *args, **kwargs: images)
    return [
        "eval", str(network), "--arch", "resnet8", "--num-classes", "100", "--dataset", "cifar100",
        "--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2",
        "--suite", "corruption", "--corruptions", "brightness", "--severity", "2", "--limit", "8",
        "--data-dir", str(tmp_path), "--out", str(tmp_path / "out"), "--progress", "none",
    ]  # fmt: skip


def test_official_files_are_evaluated(command: list[str], tmp_path: Path) -> None:
    assert run(command) == 0
    assert Report.load(tmp_path / "out").metric("corruption.mce").value is None


def replace(path: Path, content: bytes) -> None:
    path.unlink()
    path.write_bytes(content)


def replace_labels(path: Path, labels: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> None:
    path.with_name("labels.npy").unlink()
    np.save(path.with_name("labels.npy"), np.tile(labels, 5))


def cut_short(path: Path) -> None:
    replace(path, path.read_bytes()[:-1])


def web_page(path: Path) -> None:
    replace(path, b"<html>404</html>")


def floats(path: Path) -> None:
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    path.unlink()
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=rows.shape)


def of_cifar10(path: Path) -> None:
    replace_labels(path, (np.arange(10_000) % 10).astype(np.uint8))


def in_classes(path: Path) -> None:
    labels = np.load(path.with_name("labels.npy"), allow_pickle=False)[:10_000]
    replace_labels(path, np.sort(labels))


def other_pixels(path: Path) -> None:
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    path.unlink()
    other = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=rows.shape)
    other[1:10_000] = rows[:9_999]
    other.flush()


def no_labels(path: Path) -> None:
    path.with_name("labels.npy").unlink()


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (cut_short, "cannot read"),
    (web_page, "cannot read"),
    (floats, "expected uint8 (50000, 32, 32, 3), got float32"),
    (of_cifar10, "differs from the clean labels of cifar100"),
    (in_classes, "differs from the clean labels of cifar100"),
    (other_pixels, "does not show the clean images of cifar100"),
    (no_labels, "no file"),
]


@pytest.mark.parametrize(
    ("damage", "said"), DAMAGES, ids=lambda value: getattr(value, "__name__", "")
)
def test_damaged_and_foreign_sets_are_one_line_and_exit_3(
    damage: Callable[[Path], None],
    said: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(tmp_path / "CIFAR-100-C" / "brightness.npy")
    assert run(command) == 3
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("error[E-INTAKE]: ")
    assert said in line
    assert shown.out == ""
    assert not (tmp_path / "out").exists()


def test_keep_going_leaves_the_other_suites_unharmed(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = [*command[: command.index("--out")], "--out", str(tmp_path / "plain")]
    plain[plain.index("corruption")] = "clean,occlusion"
    for flag in ("--corruptions", "--severity"):  # of a suite that is not run, they are refused
        at = plain.index(flag)
        del plain[at : at + 2]
    assert run([*plain, "--progress", "none"]) == 0
    cut_short(tmp_path / "CIFAR-100-C" / "brightness.npy")
    capsys.readouterr()
    both = list(command)
    both[both.index("corruption")] = "corruption,occlusion"
    assert run([*both, "--keep-going"]) == 4
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'out' / 'report.json'}\n"
    (line,) = (line for line in shown.err.splitlines() if line.startswith("error["))
    assert "cannot read" in line
    assert "brightness.npy" in line
    report, other = Report.load(tmp_path / "out"), Report.load(tmp_path / "plain")
    assert report.content.run.status == "failed"
    for suite in ("clean", "occlusion"):
        left = report.content.suites[suite].model_dump(exclude={"timing"})
        assert left == other.content.suites[suite].model_dump(exclude={"timing"})
    assert report.content.suites["corruption"].status == "failed"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--severity", "0"], 2, "error[E-SEVERITY]"),
        (["--severity", "6"], 2, "error[E-SEVERITY]"),
        (["--corruptions", "fogg"], 2, "error[E-UNKNOWN-CORRUPTION]"),
        (["--corruptions", "fog"], 3, "error[E-INTAKE]"),
        (["--corruption-source", "other"], 2, "error[E-CHOICE]"),
        (["--corruption-source", "generate", "--profile", "huge"], 2, "error[E-UNKNOWN-PROFILE]"),
        (["--mce-reference", "alexnet"], 2, "error[E-MCE-REFERENCE]"),
        (["--mce-reference", "nowhere.json"], 3, "error[E-INTAKE]"),
        (
            ["--corruption-source", "generate", "--corruptions", "frost", "--frost-dir", "nowhere"],
            3,
            "error[E-FROST]",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_that_cannot_be_meant(
    arguments: list[str],
    code: int,
    said: str,
    command: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = set(arguments[::2])
    pairs = list(zip(command[2::2], command[3::2], strict=True))
    kept = [word for flag, value in pairs if flag not in given for word in (flag, value)]
    assert run([*command[:2], *kept, *arguments]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said), line
    assert not (tmp_path / "out").exists()


def test_generated_files_are_no_official_ones(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from robustmix.corruptions.writer import SIDECAR

    params = {"n": 300, "height": 32, "width": 32, "dataset": "cifar100"}
    record = json.dumps({"params": params, "files": {}})
    (tmp_path / "CIFAR-100-C" / SIDECAR).write_text(record)
    assert run([*command, "--corruption-source", "official"]) == 2
    assert "generated, not the released ones" in capsys.readouterr().err
    assert run(command) == 0
    part = Report.load(tmp_path / "out").content.suites["corruption"]
    assert part.params["source"] == "generated"
