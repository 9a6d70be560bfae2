"""``robustmix eval`` with attack suites: options reach the record, mistakes end it early."""

from fractions import Fraction
from pathlib import Path

import pytest

import robustmix
from robustmix.cli.app import run


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained for one epoch on 200 digits."""
    out = tmp_path_factory.mktemp("run")
    result = robustmix.train(
        "digits-resnet8-vanilla", out=out, epochs=1, limit_train=200, limit_val=20, progress="none"
    )
    return result.last


def evaluated(checkpoint: Path, out: Path, *options: str) -> robustmix.Report:
    command = ["eval", str(checkpoint), "--limit", "16", "--out", str(out), "--progress", "none"]
    assert run([*command, *options]) == 0
    return robustmix.Report.load(out)


def test_every_option_reaches_the_record(checkpoint: Path, tmp_path: Path) -> None:
    report = evaluated(
        checkpoint, tmp_path, "--suite", "fgsm,pgd,transfer", "--norm", "l2", "--eps", "0.5,0.25",
        "--steps", "2", "--step-size", "0.1", "--restarts", "2", "--loss", "cw", "--targeted",
        "--masking-samples", "40", "--surrogate", str(checkpoint),
    )  # fmt: skip
    params = report.content.protocol.params
    assert (params["fgsm"]["norm"], params["fgsm"]["eps"]) == ("l2", "0.5")
    assert list(map(Fraction, params["fgsm"]["sweep"])) == [0, Fraction(1, 4), Fraction(1, 2)]
    pgd = report.content.suites["pgd"]
    assert {name: pgd.details[name] for name in ("norm", "eps", "steps", "step_size")} == {
        "norm": "l2", "eps": 0.5, "steps": 2, "step_size": 0.1,
    }  # fmt: skip
    assert {
        name: pgd.details[name] for name in ("restarts", "loss", "targeted", "random_start")
    } == {"restarts": 2, "loss": "margin", "targeted": True, "random_start": True}
    assert pgd.curve("sweep").x == [0, 0.25, 0.5]
    masking = report.content.suites["masking"]
    assert (masking.details["norm"], masking.details["eps"]) == ("l2", 0.5)
    assert masking.params["samples"] == 40
    assert len(masking.params["surrogate_sha256"]) == 64
    assert pgd.verdicts == masking.verdicts != []
    transfer = report.content.suites["transfer"]
    assert transfer.params["surrogate_sha256"] == masking.params["surrogate_sha256"]
    assert transfer.params["options"] == {"source_attack": "pgd", "steps": 2}


def test_the_check_and_the_random_start_can_be_switched_off(
    checkpoint: Path, tmp_path: Path
) -> None:
    report = evaluated(
        checkpoint, tmp_path, "--suite", "pgd", "--steps", "1", "--no-random-start",
        "--masking", "off",
    )  # fmt: skip
    assert set(report.content.suites) == {"clean", "pgd"}
    assert report.content.protocol.params["pgd"]["random_start"] is False


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--suite", "pgd", "--norm", "l1"], "E-NORM"),
        (["--suite", "pgd", "--loss", "hinge"], "E-LOSS"),
        (["--suite", "pgd", "--step-size", "2"], "E-EPS"),
        (["--suite", "pgd", "--steps", "0"], "E-STEPS"),
        (["--suite", "pgd", "--masking", "maybe"], "E-MASKING"),
        (["--suite", "pgd", "--masking-samples", "3"], "E-MASKING"),
        (["--suite", "clean", "--surrogate", "x.pth"], "E-"),
        (["--suite", "transfer", "--masking", "off"], "E-SURROGATE"),
    ],
)
def test_mistakes_are_one_line_before_any_work(
    capsys: pytest.CaptureFixture[str],
    checkpoint: Path,
    tmp_path: Path,
    options: list[str],
    code: str,
) -> None:
    status = run(["eval", str(checkpoint), "--out", str(tmp_path / "o"), *options])
    assert status in (2, 3)
    (line,) = capsys.readouterr().err.splitlines()
    assert f"error[{code}" in line
    assert not (tmp_path / "o").exists()
