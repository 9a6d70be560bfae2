"""What a dry run says, and that it leaves nothing behind."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from robustmix.cli.app import run
from robustmix.data.loader import Batch
from robustmix.errors import IntakeError, UsageError
from robustmix.training import dry_run as module
from robustmix.training.dry_run import DryRun, dry_run
from robustmix.training.resolve import resolve_recipe
from robustmix.training.run import Run
from tests.training.runs import log

FOUND = DryRun(
    device="cpu",
    epochs=10,
    steps=5,
    train_images=74,
    val_images=160,
    batch_size=16,
    passes=4,
    step_s=2.0,
    measured_batch=16,
    memory=3 * 2**20,
    images="its own images",
)


def test_the_end_is_steps_and_a_pass_an_image_validated() -> None:
    one_pass = 2.0 / (4 * 16)
    assert FOUND.total_s == pytest.approx(10 * (5 * 2.0 + 160 * one_pass))
    lines = FOUND.lines()
    assert lines[0] == "images: 74 to train on, 160 to validate on"
    assert lines[1] == "steps: 5 an epoch, 50 in all, of 16 images"
    assert "4 a step (a backward pass counts two), 200 in all" in lines[2]
    assert lines[3] == "step: 2 s on cpu (measured on its own images)"
    assert lines[4] == "memory: 3 MiB at most"
    assert lines[5].startswith("estimated: 2:30 min, until ")
    assert FOUND.lines(3)[5].startswith("estimated: 3 runs, one after another: 7:30 min, until ")


def test_a_run_is_measured_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    batches: list[int] = []
    true = Run.step

    def noted(self: Run, batch: Batch) -> None:
        batches.append(len(batch.labels))
        true(self, batch)

    monkeypatch.setattr(Run, "step", noted)
    command = ["train", "digits-resnet8-mixup", "--set", "method.alpha=.4", "--batch-size", "16"]
    assert run([*command, "--limit-train", "70", "--epochs", "3", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert batches == [8, 8, 16, 16, 16, 16]  # a trial, then whole batches, each after one more
    assert not list(tmp_path.iterdir())
    assert "# images: 70 to train on, 500 to validate on" in out
    assert "# steps: 5 an epoch, 15 in all, of 16 images" in out
    assert "# forward passes: 3 a step" in out
    # What is printed is a recipe: the same one.
    (tmp_path / "mine.toml").write_text(out)
    assert tomllib.loads(out)["method"] == {"name": "mixup", "alpha": 0.4, "pipeline": "none"}
    given = {"method.alpha": 0.4, "batch_size": 16, "limit_train": 70, "epochs": 3}
    want = resolve_recipe("digits-resnet8-mixup", overrides=given)
    assert resolve_recipe(file=tmp_path / "mine.toml") == want


def test_a_slow_step_is_measured_on_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    recipe = resolve_recipe("digits-resnet8-mixup", overrides={"limit_train": 64})
    found = dry_run(recipe, device="cpu")
    assert (found.measured_batch, found.batch_size) == (8, 32)
    assert f"(from steps of {8} images on its own images)" in found.lines()[3]


def test_noise_stands_for_images_that_are_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    recipe = resolve_recipe("cifar100-resnet18-vanilla", overrides={"arch": "resnet8"})
    found = dry_run(recipe, data_dir=tmp_path, device="cpu")
    assert (found.train_images, found.val_images, found.steps) == (50_000, 10_000, 500)
    assert found.images.startswith("noise")
    # Whose two parts of the training images are trained on together.
    small = {"arch": "resnet8", "img_size": 32}
    recipe = resolve_recipe("fgvc-aircraft-resnet18-vanilla", overrides=small)
    found = dry_run(recipe, data_dir=tmp_path, device="cpu")
    assert (found.train_images, found.val_images, found.steps) == (6_667, 3_333, 416)
    with pytest.raises(UsageError, match="cifar101"):
        dry_run(resolve_recipe(overrides={"dataset": "cifar101"}), device="cpu")


@pytest.mark.parametrize(
    ("options", "passes"),
    [({}, 12), ({"method.mix_samples": 2}, 9), ({"method.passes": "plain"}, 15)],
)
def test_the_passes_are_those_of_the_method_as_it_is_set(
    options: dict[str, Any], passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.0)
    small = {"limit_train": 64, "limit_val": 8}
    recipe = resolve_recipe("digits-resnet8-adautomix", overrides=options | small)
    assert dry_run(recipe, device="cpu").passes == passes


def test_noise_stands_for_missing_images_alone(tmp_path: Path) -> None:
    big = {"batch_size": 65, "augment.drop_last": True, "limit_train": 64}
    with pytest.raises(UsageError, match="larger than the 64 training images"):
        dry_run(resolve_recipe("digits-resnet8-mixup", overrides=big), device="cpu")
    folder = {"dataset": f"folder:{tmp_path / 'birds'}"}
    with pytest.raises(IntakeError, match="birds"):
        dry_run(resolve_recipe("cub-200-2011-resnet18-mixup", overrides=folder), device="cpu")


def test_a_data_set_that_drops_batches_has_fewer_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_measure", lambda *args: module._Steps(0.5, 0, 3))
    recipe = resolve_recipe("cub-200-2011-resnet18-mixup")
    found = dry_run(recipe, data_dir=tmp_path, device="cpu")
    assert (found.train_images, found.batch_size, found.steps) == (5994, 16, 5994 // 16)


def test_several_seeds_are_runs_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "digits-resnet8-vanilla", "--epochs", "1", "--limit-train", "40"]
    command += ["--set", "limit_val=31", "--seed", "3,5", "--out", str(tmp_path), "--device", "cpu"]
    assert run([*command, "--progress", "none"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-3", "seed-5"]
    for seed in (3, 5):
        folder = tmp_path / f"seed-{seed}"
        assert tomllib.loads((folder / "recipe.toml").read_text())["seed"] == seed
    one, other = (log(tmp_path / f"seed-{seed}")[-1]["train_loss"] for seed in (3, 5))
    assert one != other
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        str(tmp_path / f"seed-{seed}" / "checkpoints" / "last.pth") for seed in (3, 5)
    ]
    assert "finished already" not in said.err
    assert run([*command, "--progress", "none"]) == 0
    assert capsys.readouterr().err.count("finished already (1 epochs); nothing trained") == 2


@pytest.mark.parametrize("text", ["1,1", "a", "3-1", "", "0-99999999999", "1,,2", "-1"])
def test_what_are_no_seeds_is_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "digits-resnet8-vanilla", f"--seed={text}", "--out", str(tmp_path / "run")]
    assert run(command) == 2
    assert "--seed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--force"], "only with --resume never"),
        (["--picture-every", "3"], "method mixup learns no masks to draw"),
        (["--seed", "0,1", "--resume", "a.pth"], "continues one run"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "digits-resnet8-mixup", "--out", str(tmp_path / "run"), *options]
    assert run(command) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
