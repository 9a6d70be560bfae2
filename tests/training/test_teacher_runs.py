"""What a run with a teacher adds: heads, pictures, a moving average, a group of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustmix.data.datasets import load_dataset
from robustmix.errors import UsageError
from robustmix.methods import AdAutoMix, ema_momentum
from robustmix.models import load_model
from robustmix.models.checkpoint import read_checkpoint
from robustmix.training import TrainResult
from robustmix.training.optim import GENERATOR
from robustmix.training.pictures import PICTURE_SAMPLES
from robustmix.training.progress import Silence
from robustmix.training.resolve import load_recipe
from robustmix.training.run_data import load_run_data
from robustmix.training.run_folder import new_state
from tests.training.runs import STEPS, log, small_train, stop_after

HEADS = ("one_k", "mix_k", "one_q", "mix_q")


@pytest.fixture(scope="module", params=["adautomix", "automix", "samix"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return small_train(tmp_path_factory.mktemp("run"), request.param, lr=0.05)


def test_four_heads_are_logged_and_the_first_is_deployed(run: TrainResult) -> None:
    for line in log(run.run_dir):
        assert {f"acc_{head}" for head in HEADS} <= line.keys()
        assert line["top1"] == line["acc_one_k"]
    checkpoint = read_checkpoint(run.last)
    assert (checkpoint.head, checkpoint.weights) == ("one_k", "ema")
    assert checkpoint.resume is not None
    method = checkpoint.resume["method"]
    for name, value in checkpoint.model.items():
        assert torch.equal(value, method[f"pair.network_k.{name}"]), name
    assert not torch.equal(checkpoint.model["fc.weight"], method["pair.network_q.fc.weight"])
    assert int(method["_extra_state"].flatten()[0]) == 2 * STEPS


def test_the_deployed_model_scores_what_was_logged(run: TrainResult) -> None:
    model = load_model(run.last)
    test = load_dataset("digits", "test")
    chosen = test.subset([i * len(test) // 31 for i in range(31)])
    logits = model(chosen.pixels.take(torch.arange(31)).float() / 255)
    top1 = float((logits.argmax(dim=1) == chosen.labels).double().mean())
    assert top1 == run.metrics["acc_one_k"]


def test_pictures_after_the_first_and_the_last_epoch(run: TrainResult) -> None:
    files = sorted((run.run_dir / "pictures").iterdir())
    assert [file.name for file in files] == ["epoch-0001.png", "epoch-0002.png"]
    for file in files:
        with Image.open(file) as picture:
            assert min(picture.size) > 32 * PICTURE_SAMPLES


def test_no_pictures_if_none_are_wanted(tmp_path: Path) -> None:
    small_train(tmp_path, "adautomix", epochs=1, picture_every=0)
    assert not (tmp_path / "pictures").exists()


def test_a_picture_changes_nothing(tmp_path: Path) -> None:
    with_them = small_train(tmp_path / "a", "adautomix", picture_every=1)
    without = small_train(tmp_path / "b", "adautomix", picture_every=0)
    one, two = (read_checkpoint(r.last).resume for r in (with_them, without))
    assert one is not None
    assert two is not None
    for key, value in one["method"].items():
        assert torch.equal(value, two["method"][key]), key
    assert one["mix"] == two["mix"]


def test_the_first_update_of_the_teacher(tmp_path: Path) -> None:
    """k = m k + (1 - m) q with the momentum of iteration 0, after the optimiser's step."""
    options = {"method.ema": 0.5, "method.ema_end": 0.75, "method.ema_start": 0.0}
    stopped = small_train(tmp_path, "adautomix", should_stop=stop_after(1), **options)
    recipe = load_recipe(tmp_path / "recipe.toml")
    start = new_state(recipe, load_run_data(recipe, None), torch.device("cpu"))
    assert isinstance(start.method, AdAutoMix)
    resume = read_checkpoint(stopped.last).resume
    assert resume is not None
    after = resume["method"]
    momentum = ema_momentum(0, 2 * STEPS, base=0.5, end=0.75, start=0.0)
    for name, before in start.method.pair.network_k.named_parameters():
        want = momentum * before + (1 - momentum) * after[f"pair.network_q.{name}"]
        torch.testing.assert_close(after[f"pair.network_k.{name}"], want.detach())
    moved = after["pair.network_k.fc.weight"] - start.method.pair.network_k.get_parameter(
        "fc.weight"
    )
    assert float(moved.detach().abs().max()) > 0


@pytest.mark.parametrize(
    ("settings", "outer", "own"),
    [
        ({}, [0.2, 0.1], [0.2, 0.1]),
        pytest.param({"generator_lr": 0.4}, [0.2, 0.1], [0.4, 0.2], marks=pytest.mark.slow),
        ({"generator_lr": 0.4, "generator_min_lr": 0.2}, [0.2, 0.1], [0.4, 0.3]),
        pytest.param({"min_lr": 0.1}, [0.2, 0.15], [0.2, 0.15], marks=pytest.mark.slow),
        # the generator is not warmed up: epoch 1 of the network is, from 1e-5 of 0.2
        (
            {"generator_lr": 0.4, "warmup_epochs": 1, "schedule": "constant"},
            [0.2 * (1 - (1 / 3) * (1 - 1e-5)), 0.2],
            [0.4, 0.4],
        ),
    ],
    ids=str,
)
def test_the_generator_has_its_own_learning_rate(
    settings: dict[str, Any], outer: list[float], own: list[float], tmp_path: Path
) -> None:
    """The rates of the last step of either epoch, as the checkpoint's optimiser holds them."""
    for epoch in (1, 2):
        stop = stop_after(epoch * STEPS)
        result = small_train(
            tmp_path, "adautomix", should_stop=stop if epoch == 1 else None, **settings
        )
        resume = read_checkpoint(result.last).resume
        assert resume is not None
        rates = {g.get("part"): g["lr"] for g in resume["optimizer"]["param_groups"]}
        assert rates[None] == pytest.approx(outer[epoch - 1])
        assert rates[GENERATOR] == pytest.approx(own[epoch - 1])


def test_what_a_step_costs_is_said(tmp_path: Path) -> None:
    class Listener(Silence):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def say(self, text: str) -> None:
            self.lines.append(text)

    listener = Listener()
    small_train(tmp_path / "a", "adautomix", epochs=1, progress=listener)
    small_train(
        tmp_path / "b", "adautomix", epochs=1, progress=listener, **{"method.passes": "plain"}
    )
    assert listener.lines == [
        "adautomix: 12 F a step",
        "adautomix: 15 F a step instead of 12: passes = plain",
    ]


def test_an_impossible_tap_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        small_train(tmp_path / "run", "adautomix", **{"method.feature_stage": 7})
    assert error.value.code == "E-NO-TAP"
    assert not (tmp_path / "run").exists()


def test_means_of_terms_that_some_steps_lack(tmp_path: Path) -> None:
    """N = 2 steps have no convex mixture; its mean is over the others."""
    result = small_train(
        tmp_path, "adautomix", limit_train=400, epochs=1, **{"method.random_samples": True}
    )
    value = result.metrics["train_loss_linear_q"]
    assert 0.5 * np.log(10) < value < 3 * np.log(10)
