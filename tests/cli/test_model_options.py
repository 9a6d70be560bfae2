"""Options that say what a model file is, as the command line passes them on."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from robustmix.cli.app import run
from robustmix.cli.model_options import PREPARATION, ModelOptions
from robustmix.errors import UsageError
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


GIVEN: dict[str, tuple[str, Mapping[str, object]]] = {
    "arch": ("resnet8", {"arch": "resnet8"}),
    "num_classes": ("7", {"num_classes": 7}),
    "img_size": ("24", {"input_size": (3, 24, 24)}),
    "mean": ("0.1,0.2,0.3", {"mean": (0.1, 0.2, 0.3)}),
    "std": ("0.4,0.5,0.6", {"std": (0.4, 0.5, 0.6)}),
    "norm_preset": ("cifar10", {"norm_preset": "cifar10"}),
    "class_map": ("map.csv", {"class_map": Path("map.csv")}),
    "head": ("mix_q", {"head": "mix_q"}),
    "weights": ("ema", {"weights": "ema"}),
    "expect_sha256": ("0a", {"expect_sha256": "0a"}),
    "trust_checkpoint": ("", {"trust_checkpoint": True}),
    "override_checkpoint": ("", {"override_checkpoint": True}),
    "allow_download": ("", {"allow_download": True}),
}
"""Option -> what is typed behind it, and what ``load_model`` is told."""

COMMANDS = {
    "eval": (["eval", "net.pth"], {*GIVEN}),
    "calibrate": (["calibrate", "net.pth"], GIVEN.keys() - {"class_map"}),
    "export": (["export", "net.pth", "--to", "onnx"], GIVEN.keys() - {"class_map"}),
    "saliency make": (
        ["saliency", "make", "--model", "net.pth", "--out", "maps.npz"],
        GIVEN.keys() - {"class_map"},
    ),
}


def test_every_option_of_a_model_has_a_row_here() -> None:
    assert {one.name for one in fields(ModelOptions)} == {*GIVEN, *PREPARATION}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_model_reaches_the_loading(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[dict[str, object]] = []

    def note(model: str, **options: object) -> None:
        told.append({"model": model, **options})
        raise UsageError("noted")

    monkeypatch.setattr("robustmix.models.load.load_model", note)
    words, names = COMMANDS[command]
    for name in names:
        typed, _ = GIVEN[name]
        words = [*words, "--" + name.replace("_", "-"), *filter(None, [typed])]
    assert run(words) == 2
    assert capsys.readouterr().err == "error[E-USAGE]: noted\n"
    wanted: dict[str, object] = {"model": "net.pth", "backbone": command == "saliency make"}
    for name in names:
        wanted |= GIVEN[name][1]
    assert told == [{"class_map": None, **wanted}]
