"""Batches by memory, halved where it runs out."""

from pathlib import Path

import pytest
import torch

from robustmix import batch_memory
from robustmix.batch_memory import BACKWARD, FORWARD, device_memory, fitting_batch, halved
from robustmix.models.robust_model import PAD

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("size", "memory", "copies", "expected"),
    [
        ((3, 32, 32), 16 << 30, BACKWARD, 128),
        ((3, 224, 224), 16 << 30, BACKWARD, 48),  # 8 GiB / (4 x 150,528 x 256 bytes) = 55.7
        ((3, 224, 224), 16 << 30, FORWARD, 128),  # = 222.9
        ((3, 224, 224), 139 << 30, BACKWARD, 128),
        ((3, 448, 112), 16 << 30, BACKWARD, 48),
        ((3, 1024, 1024), 1 << 30, BACKWARD, PAD),
    ],
)
def test_as_many_as_fit_into_half_of_the_memory(
    size: tuple[int, int, int],
    memory: int,
    copies: int,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch_memory, "device_memory", lambda device: memory)
    assert fitting_batch(size, CPU, most=128, copies=copies) == expected


@pytest.mark.parametrize(
    ("said", "bound"), [("max\n", None), ("1073741824\n", 1 << 30), (None, None)]
)
def test_a_container_bounds_the_memory(
    said: str | None, bound: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_memory, "_CGROUP", tmp_path / "memory.max")
    installed = device_memory(CPU)
    assert installed > 1 << 30
    if said is not None:
        (tmp_path / "memory.max").write_text(said)
    assert device_memory(CPU) == (bound or installed)


@pytest.mark.parametrize(
    ("fits", "batch", "tried"),
    [
        (500, 500, [500]),
        (70, 500, [500, 250, 125, 62]),
        (PAD, 500, [500, 250, 125, 62, 31, 15, PAD]),
        (0, 20, [20, 10, PAD]),
        (0, 5, [5]),
    ],
)
def test_a_batch_is_halved_until_it_fits(fits: int, batch: int, tried: list[int]) -> None:
    asked: list[int] = []

    def work(size: int) -> int:
        asked.append(size)
        if size > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return size

    if fits:
        assert halved(work, batch, CPU) == tried[-1]
    else:
        with pytest.raises(torch.OutOfMemoryError):
            halved(work, batch, CPU)
    assert asked == tried


def test_other_errors_are_not_tried_again() -> None:
    asked: list[int] = []

    def work(size: int) -> None:
        asked.append(size)
        raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        halved(work, 64, CPU)
    assert asked == [64]
