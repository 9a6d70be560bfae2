"""A run that processes share: equal to a batch in parts, exact to resume, stopped together."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robustmix.cli.app import run as command_line
from robustmix.data.loader import train_batches
from robustmix.errors import IncompatibleError, UsageError
from robustmix.models.checkpoint import read_checkpoint
from robustmix.training import resolve_recipe
from robustmix.training.loop import TrainResult
from robustmix.training.ranks import Ranks, open_ranks, shared_batch
from robustmix.training.run_data import load_run_data
from robustmix.training.run_folder import new_state, synchronised
from tests.launch import torchrun
from tests.training.rank_worker import CASES, METHOD, recipe
from tests.training.runs import assert_same_run, small_train
from tests.training.test_parts import a_run, batches


def processes(mode: str, folder: Path, count: int = 2) -> "Any":
    return torchrun(["-m", "tests.training.rank_worker", mode, str(folder)], processes=count)


def done(mode: str, folder: Path, count: int = 2) -> None:
    ended = processes(mode, folder, count)
    assert ended.returncode == 0, ended.stderr


def result(folder: Path) -> TrainResult:
    """Stand in for what a run in other processes returned."""
    last, best = (folder / "checkpoints" / f"{name}.pth" for name in ("last", "best"))
    return TrainResult(
        run_dir=folder, last=last, best=best, metrics={}, epochs=2, interrupted=False
    )


@pytest.fixture(scope="module", params=[2, pytest.param(3, marks=pytest.mark.slow)])
def stepped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Path]:
    folder = tmp_path_factory.mktemp("stepped")
    done("steps", folder, request.param)
    return request.param, folder


@pytest.mark.parametrize("name", CASES)
def test_processes_are_parts_of_a_batch(
    name: str, stepped: tuple[int, Path], tmp_path: Path
) -> None:
    """Without batch norm to 1e-12, with it to 1e-10, in float64 after three steps."""
    count, folder = stepped
    method, arch, changes = CASES[name]
    changes = {**changes, "accumulate": count * changes.get("accumulate", 1)}
    run = a_run(tmp_path, method, arch, **changes)
    begun = {key: value.clone() for key, value in run.state.method.state_dict().items()}
    for batch in batches():
        run.step(batch)
    found = torch.load(folder / f"{name}.pt", weights_only=True)
    want = run.state.method.state_dict()
    assert found["state"].keys() == want.keys()
    within = 1e-10 if "norms" in name else 1e-12
    for key, value in found["state"].items():
        torch.testing.assert_close(value, want[key], rtol=0, atol=within)
    assert any(not torch.equal(value, begun[key]) for key, value in want.items())
    assert found["logs"] == pytest.approx(run.state.means.read(), rel=1e-6)


@pytest.mark.parametrize("count", [3])
def test_what_passes_between_processes(count: int, tmp_path: Path) -> None:
    done("primitives", tmp_path, count)
    assert (tmp_path / "agreed").exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    folder = tmp_path_factory.mktemp("whole") / "run"
    done("python", folder)
    return result(folder)


def test_a_shared_run_is_recorded_and_another_number_of_processes_is_refused(
    whole: TrainResult, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(whole.last)
    assert checkpoint.metrics["processes"] == 2
    assert checkpoint.metrics["buffers"] == "mean"
    assert checkpoint.resume is not None
    own = checkpoint.resume["ranks"]
    assert len(own) == 2
    pairs = zip(*(one["statistics"] for one in own), strict=True)
    assert any(not torch.equal(left, right) for left, right in pairs)
    # What is deployed has the mean of the processes' statistics.
    deployed = [v for k, v in checkpoint.model.items() if "running_" in k]
    means = [
        torch.stack(pair).mean(dim=0) for pair in zip(*(o["statistics"] for o in own), strict=True)
    ]
    assert deployed
    for value in deployed:
        assert any(
            value.shape == mean.shape and torch.allclose(value, mean, rtol=1e-6, atol=1e-7)
            for mean in means
        )
    with pytest.raises(IncompatibleError, match="stopped with 2 processes, here is 1"):
        small_train(whole.run_dir, METHOD)
    again = small_train(whole.run_dir, METHOD, allow_other_world=True)
    assert again.already


def test_a_stop_in_one_process_stops_all_and_resumes_exactly(
    whole: TrainResult, tmp_path: Path
) -> None:
    done("stopped", tmp_path / "run")
    stopped = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.pth")
    assert stopped.metrics["steps_into_epoch"] == 2
    done("python", tmp_path / "run")
    assert_same_run(whole, result(tmp_path / "run"))


@pytest.mark.slow
def test_a_kill_of_all_is_continued_from_the_last_checkpoint(
    whole: TrainResult, tmp_path: Path
) -> None:
    assert processes("all killed", tmp_path / "run").returncode != 0
    killed = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.pth")
    assert (killed.epoch, killed.metrics["steps_into_epoch"]) == (1, 1)
    done("python", tmp_path / "run")
    assert_same_run(whole, result(tmp_path / "run"))


def test_a_signal_to_one_process_ends_all_with_one_checkpoint(tmp_path: Path) -> None:
    ended = processes("terminated", tmp_path / "run")
    assert ended.returncode != 0
    stopped = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.pth")
    assert stopped.metrics["steps_into_epoch"] == 2
    assert ended.stderr.count("run the same command to continue") == 1
    assert "error[" not in ended.stderr


def test_a_dead_process_ends_the_others_with_one_line(tmp_path: Path) -> None:
    ended = processes("killed", tmp_path / "run")  # which gives up after some minutes
    assert ended.returncode != 0
    assert ended.stderr.count("error[E-RANK]: another process of the run has ended") == 1


def test_one_process_writes_and_talks(tmp_path: Path) -> None:
    ended = processes("whole", tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    assert "WROTE" not in ended.stderr
    assert ended.stdout.split() == [str(tmp_path / "run" / "checkpoints" / "last.pth")]
    assert command_line(recipe(tmp_path / "alone")) == 0
    shared, alone = (
        sorted(p.relative_to(tmp_path / name).as_posix() for p in (tmp_path / name).rglob("*"))
        for name in ("run", "alone")
    )
    assert shared == alone
    rows = (tmp_path / "run" / "log" / "scalars.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["step", "3", "6"]


@pytest.mark.slow
def test_published_statistics_are_those_of_the_first_process(tmp_path: Path) -> None:
    done("first buffers", tmp_path / "run")
    checkpoint = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.pth")
    assert checkpoint.metrics["buffers"] == "first process"
    assert checkpoint.resume is not None
    first = checkpoint.resume["ranks"][0]["statistics"]
    deployed = [v for k, v in checkpoint.model.items() if "running_" in k]
    assert all(any(torch.equal(v, own) for own in first if own.shape == v.shape) for v in deployed)


def test_the_shares_of_an_epoch_are_the_epoch(tmp_path: Path) -> None:
    """Every process draws for all images and takes its own: the same pixels as one process has."""
    chosen = resolve_recipe("digits-resnet8-vanilla", overrides={"limit_train": 40})
    data = load_run_data(chosen, None)

    def epoch(rank: int, world: int) -> list[Any]:
        return list(
            train_batches(
                data.train, batch_size=16, augment=data.augment,
                order=torch.Generator().manual_seed(1), draws=torch.Generator().manual_seed(2),
                device="cpu", share=lambda n: shared_batch(n, Ranks(rank, world)),
            )
        )  # fmt: skip

    alone = epoch(0, 1)
    for world in (2, 3, 5):
        for rank in range(world):
            for own, all_ in zip(epoch(rank, world), alone, strict=True):
                places = shared_batch(len(all_.labels), Ranks(rank, world))
                assert torch.equal(own.images, all_.images[places])
                assert torch.equal(own.labels, all_.labels[places])
    assert shared_batch(9, Ranks(1, 5)) == slice(None)  # two images for each are not there


def test_processes_that_torchrun_did_not_start_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert command_line(recipe(tmp_path / "run")) == 2
    said = capsys.readouterr().err
    assert "WORLD_SIZE is 4, but torchrun did not start this process" in said
    assert "torchrun --nproc-per-node" in said
    monkeypatch.setenv("WORLD_SIZE", "1")
    with open_ranks(torch.device("cpu")) as ranks:
        assert ranks == Ranks()


@pytest.mark.parametrize(
    ("changes", "world", "message"),
    [
        ({"batch_size": 100}, 3, "batch_size 100 cannot be shared by 3 processes"),
        ({"batch_size": 100, "accumulate": 2}, 4, "batch_size 100, accumulate 2 cannot be shared"),
        ({"batch_size": 4}, 4, "batch_size 4 cannot be shared by 4 processes"),
        ({"batch_size": 256, "norm_batch": 64}, 8, "each computes 32 images together"),
    ],
)
def test_batches_that_processes_cannot_share(
    changes: dict[str, Any], world: int, message: str
) -> None:
    chosen = resolve_recipe(overrides=dict(changes))
    assert chosen.together(1) == chosen.batch_size // chosen.accumulate
    with pytest.raises(UsageError, match=message):
        chosen.together(world)


def test_norms_of_part_of_a_batch_are_fewer_in_each_process() -> None:
    chosen = resolve_recipe(overrides={"batch_size": 256, "norm_batch": 64})
    assert [chosen.norm_groups(world) for world in (1, 2, 4)] == [4, 2, 1]


def test_statistics_over_all_processes_are_those_of_cuda() -> None:
    """The layer itself refuses a CPU, so it is the choice that is tested."""
    changes = {"sync_norm": True, "limit_train": 20, "batch_size": 8}
    chosen = resolve_recipe("digits-resnet8-mixup", overrides=dict(changes))
    data = load_run_data(chosen, None)
    cpu = torch.device("cpu")
    with pytest.raises(UsageError, match="summed on CUDA, not on cpu"):
        new_state(chosen, data, cpu, ranks=Ranks(0, 2))
    alone = new_state(chosen, data, cpu)  # one process has all images
    network = alone.method
    keys = list(network.state_dict())
    together = synchronised(network, torch.device("cuda"))
    kinds = {type(m) for m in together.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert kinds == {nn.SyncBatchNorm}
    assert list(together.state_dict()) == keys


def test_what_one_process_has_no_use_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="published_buffers has no effect"):
        small_train(tmp_path / "run", published_buffers=True)
    with pytest.raises(UsageError, match="sync_norm and norm_batch exclude each other"):
        resolve_recipe(overrides={"sync_norm": True, "norm_batch": 4, "batch_size": 16})
