import json
from pathlib import Path

import pytest
import torch

from robustmix.cli.app import run
from robustmix.cli.options import parse_bins
from robustmix.errors import UsageError
from robustmix.models.checkpoint import read_checkpoint
from robustmix.report.report import Report
from tests.evaluation.test_calibration_checkpoint import digits_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return digits_checkpoint(tmp_path / "last.pth")


def test_calibrate_prints_the_checkpoint(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["calibrate", str(checkpoint)]) == 0
    captured = capsys.readouterr()
    out = checkpoint.with_name("last-calibrated.pth")
    assert captured.out.splitlines() == [str(out)]
    assert read_checkpoint(out).calibration is not None
    assert "validation split of the training: 0.1 of digits/train, seed 7" in captured.err
    assert max(map(len, captured.err.splitlines())) <= 100

    assert run(["calibrate", str(checkpoint)]) == 2
    assert capsys.readouterr().err.startswith("error[E-EXISTS]: ")
    assert run(["calibrate", str(checkpoint), "--force", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["kind"] == "robustmix.calibration"
    beside = checkpoint.with_name("last-calibrated.calibration.json")
    assert report == json.loads(beside.read_text())
    assert str(checkpoint.parent) not in beside.read_text()

    assert run(["calibrate", str(out), "--out", str(checkpoint.with_name("x.pth"))]) == 2
    assert capsys.readouterr().err.startswith("error[E-CALIBRATED]: last-calibrated.pth is")


def test_eval_takes_the_calibrated_checkpoint(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["calibrate", str(checkpoint), "--out", str(tmp_path / "c.pth")]) == 0
    for source in ("last.pth", "c.pth"):
        command = ["eval", str(tmp_path / source), "--limit", "40", "--ece-bins", "20"]
        assert run([*command, "--out", str(tmp_path / f"r-{source}")]) == 0
        assert run(["report", "validate", str(tmp_path / f"r-{source}")]) == 0
    capsys.readouterr()
    plain, scaled = (Report.load(tmp_path / f"r-{name}") for name in ("last.pth", "c.pth"))
    temperature = float(read_checkpoint(tmp_path / "c.pth").calibration["T"])  # type: ignore[index]
    parts = [report.content.suites["calibration"] for report in (plain, scaled)]
    for part, carried in zip(parts, (None, temperature), strict=True):
        assert part.params["carried"] == carried
        assert part.details["temperature"]["split"] == "held-out"
        assert set(part.details["bins"]) == {"20"}
    # What the calibrated model says is what scaling the plain one promised.
    promised = parts[0].details["temperature"]["nll_after"]["value"]
    assert scaled.metric("clean.nll").value == pytest.approx(promised, rel=1e-5)
    assert parts[1].details["temperature"]["T"] == pytest.approx(1, abs=1e-4)


def test_trap_12_eval_refuses_to_fit_on_what_it_evaluates(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["eval", str(checkpoint), "--limit", "10", "--calib-data", "digits"]
    assert run([*command, "--out", str(tmp_path / "r")]) in (2, 4)
    assert "error[E-CALIB-OVERLAP]: " in capsys.readouterr().err


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_diagram_is_drawn(
    checkpoint: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / f"diagram.{suffix}"
    assert run(["calibrate", str(checkpoint), "--figure", str(figure)]) == 0
    start = figure.read_bytes()[:5]
    assert start == (b"\x89PNG\r" if suffix == "png" else b"<?xml")
    assert str(figure) in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize(
    ("options", "code", "line"),
    [
        (["--figure", "a.txt"], 2, "error[E-USAGE]: expected a .png or .svg file"),
        (["--calib-split", "half"], 2, "error[E-UNKNOWN-CALIBRATION-SPLIT]: unknown"),
        (["--calib-split", "two-fold"], 2, "error[E-CALIB-SPLIT]: there are no held-out images"),
        (["--calib-data", "digitz"], 2, "error[E-UNKNOWN-DATASET]: unknown dataset 'digitz'"),
        (["--out", "a.onnx"], 2, "error[E-USAGE]: expected a .pth or .pt file for --out"),
    ],
)
def test_bad_options_are_one_line_and_leave_nothing(
    checkpoint: Path,
    options: list[str],
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["calibrate", str(checkpoint), *options]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (error,) = captured.err.splitlines()
    assert error.startswith(line)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.pth"]


def test_a_missing_checkpoint_is_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["calibrate", "nowhere.pth"]) == 3
    assert capsys.readouterr().err.startswith("error[")


def test_bin_counts() -> None:
    assert parse_bins("10,15, 20") == (10, 15, 20)
    for text in ("", "10;15", "-3", "1.5"):
        with pytest.raises(UsageError, match="bin counts"):
            parse_bins(text)


def test_training_cannot_go_on_from_a_calibrated_checkpoint(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["calibrate", str(checkpoint), "--out", str(tmp_path / "c.pth")]) == 0
    content = torch.load(tmp_path / "c.pth", weights_only=True)
    assert content["resume"] is None
    command = ["train", "--resume", str(tmp_path / "c.pth"), "--out", str(tmp_path / "run")]
    assert run(command) != 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("error[")
