"""Options that say what a model file is, as the command line passes them on."""

from pathlib import Path

import pytest

from robustmix.cli.app import run
from robustmix.models.checkpoint import save_checkpoint
from tests.models.builders import checkpoint


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        (["--img-size", "24"], "--img-size"),
        (["--mean", "0.1,0.2,0.3", "--std", "0.2,0.2,0.2"], "--mean and --std"),
        (["--norm-preset", "imagenet"], "--norm-preset"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "calibrate"])
def test_options_that_contradict_a_checkpoint_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: list[str],
    flag: str,
) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, checkpoint())
    assert run([command, str(path), *options]) == 3
    line = capsys.readouterr().err
    assert f"error[E-MODEL]: {flag} contradicts last.pth" in line
    assert "--override-checkpoint" in line
