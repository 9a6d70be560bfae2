"""An evaluation that is killed outright and continued gives the report of one that was not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import robustmix
from robustmix.evaluation.recompute import recompute
from robustmix.report.report import Report
from tests.evaluation.test_engine import comparable

SUITES = ["--suite", "all", "--corruptions", "gaussian_noise,saturate", "--trials", "2"]


def command(checkpoint: Path, out: Path, *more: str) -> list[str]:
    start = [sys.executable, "-m", "robustmix", "eval", str(checkpoint), *SUITES]
    return [*start, "--limit", "150", "--device", "cpu", "--out", str(out), *more]


def environment() -> dict[str, str]:
    root = str(Path(robustmix.__file__).parent.parent)
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.parametrize(("units", "how"), [(1, signal.SIGKILL), (9, signal.SIGKILL), (5, 2)])
def test_a_killed_evaluation_continues(tmp_path: Path, units: int, how: int) -> None:
    result = robustmix.train(
        "digits-resnet8-vanilla", out=tmp_path, epochs=1, limit_train=200, progress="none"
    )
    subprocess.run(
        command(result.last, tmp_path / "whole"), check=True, env=environment(), capture_output=True
    )
    out = tmp_path / "killed"
    process = subprocess.Popen(
        command(result.last, out), env=environment(), stderr=subprocess.DEVNULL
    )
    while len(list(out.glob("units/*/*.npz"))) < units and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    code = process.wait()
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert (out / "report.json").exists() == (how != signal.SIGKILL)
    subprocess.run(
        command(result.last, out, "--resume", "--batch-size", "7"),
        check=True,
        env=environment(),
        capture_output=True,
    )
    whole, resumed = Report.load(tmp_path / "whole"), Report.load(out)
    assert resumed.content.run.resumed_units >= units
    assert comparable(resumed) == comparable(whole)
    assert recompute(resumed) == []
