"""What one run computes, writes and leaves alone."""

import io
import random
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

import robustmix.methods.vanilla as vanilla
from robustmix.data.datasets import load_dataset
from robustmix.data.loader import Batch, split_holdout
from robustmix.errors import IncompleteError, UsageError
from robustmix.methods.method import StepResult
from robustmix.models.checkpoint import read_checkpoint
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel
from robustmix.training import TrainResult, load_recipe, resolve_recipe
from robustmix.training.progress import Talk, open_progress
from robustmix.training.run_data import load_run_data
from robustmix.training.run_folder import new_state
from robustmix.training.validate import validate
from tests.training.runs import log, small_train, stop_after


def test_the_run_folder(tmp_path: Path) -> None:
    result = small_train(tmp_path)
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {
        "recipe.toml",
        "metrics.jsonl",
        "times.json",
        "checkpoints/last.pth",
        "checkpoints/best.pth",
    }
    lines = log(tmp_path)
    assert lines[-1] == result.metrics
    assert [line["lr"] for line in lines] == [0.2, 0.1]  # half a cosine over two epochs
    tops = [line["top1"] for line in lines]
    assert lines[-1]["summary"] == {"median_last10": np.median(tops), "best_last10": max(tops)}
    best = max(range(2), key=lambda i: lines[i]["top1"])
    assert read_checkpoint(result.best).metrics["epoch"] == best + 1
    assert read_checkpoint(result.best).resume is None


def test_the_checkpoint_scores_what_the_log_says(tmp_path: Path) -> None:
    result = small_train(tmp_path, epochs=1, limit_train=400, limit_val=97)
    ckpt = read_checkpoint(result.last)
    net = build_model(ckpt.arch, num_classes=10, input_size=ckpt.input_size, stem="cifar")
    net.load_state_dict(ckpt.model)
    model = RobustModel(
        net, mean=ckpt.mean, std=ckpt.std, num_classes=10, input_size=ckpt.input_size
    )
    test = load_dataset("digits", "test")
    test = test.subset([i * len(test) // 97 for i in range(97)])
    logits = model(test.pixels.take(torch.arange(97)).float() / 255).double()
    log_p = logits - logits.exp().sum(dim=1, keepdim=True).log()
    loss = -float(log_p[torch.arange(97), test.labels].mean())
    assert result.metrics["loss"] == pytest.approx(loss, rel=1e-5)
    assert result.metrics["top1"] == int((logits.argmax(1) == test.labels).sum()) / 97
    assert result.metrics["selected_on"] == "test"


def test_the_log_holds_means_over_images_not_batches(tmp_path: Path) -> None:
    """Batches of 16, 16 and 8 images: the third weighs half as much."""
    seen: list[tuple[int, float]] = []
    step = vanilla.Vanilla.training_step

    def note(self: vanilla.Vanilla, batch: Batch) -> StepResult:
        result = step(self, batch)
        seen.append((len(batch.labels), float(result.loss.detach())))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vanilla.Vanilla, "training_step", note)
        metrics = small_train(tmp_path, "vanilla", epochs=1).metrics
    assert [n for n, _ in seen] == [16, 16, 8]
    want = sum(n * loss for n, loss in seen) / 40
    assert metrics["train_loss"] == pytest.approx(want, rel=1e-6)


def test_one_step_is_sgd_by_hand(tmp_path: Path) -> None:
    """Weights after one step: w - lr (g + wd w), with g from a second computation."""
    starts: list[tuple[Batch, dict[str, Tensor]]] = []
    step = vanilla.Vanilla.training_step

    def note(self: vanilla.Vanilla, batch: Batch) -> StepResult:
        weights = {name: value.clone() for name, value in self.network.state_dict().items()}
        starts.append((batch, weights))
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vanilla.Vanilla, "training_step", note)
        stopped = small_train(tmp_path, "vanilla", should_stop=stop_after(1), weight_decay=0.01)
    ((batch, before),) = starts
    net = build_model("resnet8", num_classes=10, input_size=(3, 32, 32))
    net.load_state_dict(before)
    loss = -net(batch.images).log_softmax(1)[torch.arange(16), batch.labels].mean()
    parameters = dict(net.named_parameters())
    grads = torch.autograd.grad(loss, list(parameters.values()))
    after = read_checkpoint(stopped.last).model
    for name, grad in zip(parameters, grads, strict=True):
        want = before[name] - 0.2 * (grad + 0.01 * before[name])
        torch.testing.assert_close(after[name], want, rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_first_update(tmp_path: Path) -> None:
    """Without decay the first step of SGD is lr times a gradient of norm 0.01 or less."""
    settings: dict[str, Any] = {"weight_decay": 0.0, "lr": 0.5, "should_stop": stop_after(1)}
    clipped = small_train(tmp_path / "a", "vanilla", grad_clip=0.01, **settings)
    free = small_train(tmp_path / "b", "vanilla", **settings)
    recipe = load_recipe(tmp_path / "b" / "recipe.toml")
    start = new_state(recipe, load_run_data(recipe, None), torch.device("cpu"))
    before = dict(start.method.network.named_parameters())  # type: ignore[union-attr]
    norms = [
        sum(
            float((read_checkpoint(r.last).model[k] - v.detach()).pow(2).sum())
            for k, v in before.items()
        )
        ** 0.5
        for r in (clipped, free)
    ]
    assert norms[0] == pytest.approx(0.5 * 0.01, rel=1e-3)
    assert norms[1] > 10 * norms[0]


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return small_train(tmp_path_factory.mktemp("unchanged"), "vanilla")


@pytest.mark.parametrize(
    "change",
    [
        {"label_smoothing": 0.2},
        {"precision": "bf16"},
        {"optimizer": "adamw"},
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"schedule": "constant"},
        {"min_lr": 0.1},
        {"warmup_epochs": 1},
        {"init": "torch"},
        {"augment.kind": "none"},
    ],
    ids=str,
)
def test_every_setting_acts(change: dict[str, Any], unchanged: TrainResult, tmp_path: Path) -> None:
    changed = small_train(tmp_path, "vanilla", **change)
    assert unchanged.metrics["train_loss"] != changed.metrics["train_loss"]


def test_the_global_random_states_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = str(np.random.get_state())  # noqa: NPY002 - it must not change
    small_train(tmp_path, epochs=1)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == python_state
    assert str(np.random.get_state()) == numpy_state  # noqa: NPY002 - as above


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    weights = [
        read_checkpoint(small_train(tmp_path / str(i), epochs=1, seed=seed).last).model["fc.weight"]
        for i, seed in enumerate([0, 0, 1])
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_held_out_part_selects_the_best(tmp_path: Path) -> None:
    result = small_train(tmp_path, limit_train=None, limit_val=None, epochs=1, val_split=0.9)
    train = load_dataset("digits", "train")
    _, held = split_holdout(train.labels, 0.9, 0)
    metrics = read_checkpoint(result.best).metrics
    assert metrics["selected_on"] == "val"
    assert metrics["val_split"] == {"fraction": 0.9, "seed": 0}
    ckpt = read_checkpoint(result.last)
    net = build_model("resnet8", num_classes=10, input_size=(3, 32, 32))
    net.load_state_dict(ckpt.model)
    net.eval()
    heads = validate(lambda images: {"only": net(images)}, train.subset(held), torch.device("cpu"))
    assert heads["only"]["top1"] == metrics["top1"]


def test_the_held_out_part_does_not_depend_on_limits() -> None:
    recipe = resolve_recipe(
        "digits-resnet8-vanilla", overrides={"val_split": 0.2, "limit_train": 0.5, "limit_val": 7}
    )
    data = load_run_data(recipe, None)
    train = load_dataset("digits", "train")
    stay, held = split_holdout(train.labels, 0.2, 0)
    assert set(data.val.sample_ids) < set(train.subset(held).sample_ids)
    assert set(data.train.sample_ids) < set(train.subset(stay).sample_ids)
    assert (len(data.train), len(data.val)) == (round(0.5 * len(stay)), 7)
    assert len(set(data.train.labels.tolist())) == 10


def poisoned(step: int, poison: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spoil the loss, or the gradient under a finite loss, of one step (0-based)."""
    calls = iter(range(100))
    honest = vanilla.Vanilla.training_step

    def spoil(self: vanilla.Vanilla, batch: Batch) -> StepResult:
        loss, logs = honest(self, batch)
        if next(calls) == step:
            weight = cast(Tensor, self.network.get_parameter("fc.weight"))
            # The value of sqrt(0) is 0, its derivative is infinite.
            extra = (0 * weight).sum().sqrt() if poison == "gradient" else float(poison)
            loss = loss + extra
        return StepResult(loss, logs)

    monkeypatch.setattr(vanilla.Vanilla, "training_step", spoil)


@pytest.mark.parametrize("poison", ["nan", "inf", "gradient"])
def test_a_loss_that_is_not_finite_stops_the_run(
    poison: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(5 if poison == "gradient" else 4, poison, monkeypatch)
    with pytest.raises(IncompleteError) as error:
        small_train(tmp_path, "vanilla")
    assert error.value.code == "E-NONFINITE-LOSS"
    where = "step 3" if poison == "gradient" else "step 2"
    assert f"in epoch 2, {where} of 3, lr 0.1" in str(error.value)
    kept = read_checkpoint(tmp_path / "checkpoints" / "last.pth")
    assert kept.epoch == 1
    assert all(t.isfinite().all() for t in kept.model.values())


def test_a_stop_right_after_a_spoilt_step_saves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(0, "gradient", monkeypatch)
    with pytest.raises(IncompleteError, match="a weight is not finite in epoch 1, step 1 of 3"):
        small_train(tmp_path, "vanilla", should_stop=lambda: True)
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"device": "tpu9"}, "no device 'tpu9' here"),
        ({"batch_size": 41, "augment.drop_last": True}, "larger than the 40 training images"),
        ({"augment.padding": -1}, "augment: expected padding >= 0"),
        ({"val_split": 0.0001, "dataset": "digit"}, "did you mean 'digits'"),
        ({"epoch": 3}, "unknown recipe key 'epoch'; did you mean 'epochs'"),
    ],
)
def test_what_cannot_be_meant_leaves_no_folder(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        small_train(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def run_and_show(talk: Talk, out: Path, **changes: Any) -> None:
    small_train(out, progress=talk, **changes)


def test_plain_progress_is_one_line_an_epoch(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, width=40)
    run_and_show(open_progress("plain", console), tmp_path)
    lines = screen.getvalue().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("images/s" in line and "top1" in line and "lr 0." in line for line in lines)
    assert "left" in lines[0]
    assert "left" not in lines[1]


def test_auto_progress_is_plain_in_ci_and_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CI", raising=False)
    terminal = Console(file=io.StringIO(), force_terminal=True)
    kinds = [
        type(open_progress("auto", c)).__name__ for c in (terminal, Console(file=io.StringIO()))
    ]
    assert kinds == ["RichTalk", "PlainTalk"]
    monkeypatch.setenv("CI", "true")
    assert type(open_progress("auto", terminal)).__name__ == "PlainTalk"


def test_rich_progress_counts_every_step(tmp_path: Path) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    talk = open_progress("rich", console)
    run_and_show(talk, tmp_path)
    assert "6/6 steps" in screen.getvalue()
    assert "epoch 2/2" in screen.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "least"), [("vanilla", 0.97), ("mixup", 0.96), ("cutmix", 0.96)]
)
def test_the_digits_recipes_learn(method: str, least: float, tmp_path: Path) -> None:
    result = small_train(
        tmp_path,
        method,
        epochs=None,
        lr=None,
        optimizer=None,
        weight_decay=None,
        batch_size=None,
        limit_train=None,
        limit_val=None,
    )
    assert result.metrics["top1"] >= least
