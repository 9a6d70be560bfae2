"""Batches that fit: chosen by device, model and image, read from what was asked, recorded."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustmix import batch_memory
from robustmix.batch_memory import BACKWARD, FORWARD, copies_of, fitting_batch
from robustmix.errors import UsageError
from robustmix.evaluation import evaluation as of_evaluation
from robustmix.evaluation.engine import read_batch_size
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.evaluation import DEFAULT_BATCH, GPU_BATCH
from robustmix.evaluation.prepare import prepare
from robustmix.models.robust_model import RobustModel
from tests.evaluation.attacks import attack
from tests.evaluation.test_engine import comparable
from tests.evaluation.tiny import Net, tiny_images, tiny_model

GPU = torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, None), ("auto", None), (7, 7), ("7", 7), ("1000000", 1_000_000)],
)
def test_what_may_be_asked_for(asked: int | str | None, expected: int | None) -> None:
    assert read_batch_size(asked) == expected


@pytest.mark.parametrize("asked", ["", "many", "0", "-3", "1e3", "1000001", "9" * 99, 2.5, True])
def test_what_may_not(asked: Any) -> None:
    with pytest.raises(UsageError, match="batch_size"):
        read_batch_size(asked)


class Wide(nn.Module):
    """Layers of known outputs an image: 100,000, 200,000 and 5 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 1, 1), nn.Identity()
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        self.two(self.one(x.new_zeros(n, 3, 100, 1000)).repeat(1, 2, 1, 1))
        found: Tensor = self.last(x.new_zeros(n, 4))
        return found


def test_what_an_image_takes_is_counted_over_the_layers() -> None:
    model = tiny_model(Wide())
    image = 3 * 32 * 32
    assert copies_of(model, gradients=True) == max(BACKWARD, -(-300_005 // image))
    assert copies_of(model, gradients=False) == -(-4 * 200_000 // image)
    assert copies_of(model, gradients=False) > FORWARD
    large = RobustModel(
        Wide(), mean=(0,) * 3, std=(1,) * 3, num_classes=5, input_size=(3, 32, 32), resize=64
    )
    assert copies_of(large, gradients=False) == max(FORWARD, -(-800_000 // (3 * 64 * 64)))


def test_small_networks_and_such_that_fail_take_what_is_usual() -> None:
    assert copies_of(tiny_model(), gradients=True) == BACKWARD
    assert copies_of(tiny_model(nn.Identity()), gradients=False) == FORWARD
    assert not any(layer._forward_hooks for layer in tiny_model().net.modules())


@pytest.mark.parametrize(
    ("suites", "free", "expected"),
    [
        # Half of it / (4 bytes x 3 x 32 x 32 x copies): 64 copies forward, 256 with gradients.
        (["clean", "shuffle"], 10**12, GPU_BATCH),
        (["clean", "shuffle"], 10**9, 632),  # 635.8
        ([attack("fgsm", sweep=())], 10**9, 152),  # 158.9
        (["clean"], 0, 8),
    ],
)
def test_a_gpu_takes_what_fits_into_what_is_free(
    suites: list[Any], free: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_evaluation, "free_memory", lambda device: free)
    monkeypatch.setattr(of_evaluation, "guarded", lambda device: contextlib.nullcontext())
    prepared = prepare(tiny_model(), tiny_images(), suites)
    assert prepared.usual_batch == DEFAULT_BATCH
    assert replace(prepared, device=GPU).usual_batch == expected


def test_free_is_also_what_torch_holds_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert batch_memory.free_memory(GPU) == 1300
    assert fitting_batch((3, 1, 1), GPU, most=1000, copies=1, memory=24 * 80) == 80


class Limited(nn.Module):
    """Runs out of memory with more than so many images."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.net, self.most = Net(), most

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        found: Tensor = self.net(x)
        return found


def test_auto_is_halved_and_recorded_and_gives_the_numbers_of_the_small_batch() -> None:
    suites: list[Any] = ["clean", "calibration", attack("fgsm", sweep=())]
    report = evaluate(tiny_model(Limited(40)), tiny_images(), suites, batch_size="auto")
    config = report.content.run.config
    assert [config[key] for key in ("batch_size_asked", "batch_size", "batch_size_at_last")] == [
        "auto", 128, 32
    ]  # fmt: skip
    small = evaluate(tiny_model(Limited(40)), tiny_images(), suites, batch_size=32)
    assert small.content.run.config["batch_size_asked"] == 32
    left, right = comparable(report), comparable(small)
    told = [one for one in left["warnings"] if one not in right["warnings"]]
    assert [one["code"] for one in told] == ["W-BATCH-SIZE"]
    left["warnings"] = [one for one in left["warnings"] if one not in told]
    assert left == right
    assert report.samples is not None
    assert small.samples is not None
    for key, table in report.samples.tables.items():
        for name, column in table.columns.items():
            other = small.samples.tables[key].columns[name]
            assert column.tobytes() == other.tobytes()
