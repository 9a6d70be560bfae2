"""Learning rates against curves that mmcv gave.

The files hold curves, not their settings; these are read off the first, second and last points,
and the formula must then meet the thousands of others.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix.methods.momentum_pair import ema_momentum
from robustmix.training.schedules import WARMUP_RATIO, Schedule, learning_rate
from tests.reference.tolerances import CURVE, close, largest
from tests.reference.vectors import reference_params


def rounded(value: float) -> float:
    """The nearest number of four digits: settings are round."""
    return float(f"{value:.4g}")


def expected(iterations: np.ndarray, curve: np.ndarray, epochs: int) -> list[float]:
    total = int(iterations[-1]) + 1
    per_epoch = total // epochs
    assert per_epoch * epochs == total
    warm = curve[1] > curve[0]
    schedule: Schedule = "cosine" if curve[1] == curve[0] else "cosine-iter"
    base = rounded(curve[0] / WARMUP_RATIO if warm else curve[0])
    units = epochs if schedule == "cosine" else total
    weight = (1 + math.cos(math.pi * (units - 1) / units)) / 2
    minimum = rounded(max((curve[-1] - weight * base) / (1 - weight), 0.0))
    minimum = minimum if minimum > 1e-9 else 0.0
    warmup_epochs = 0
    if warm:
        rise = (curve[1] - curve[0]) / base / (1 - WARMUP_RATIO)
        warmup_epochs = round(1 / rise / per_epoch)
    return [
        learning_rate(
            schedule,
            int(iteration),
            base=base,
            minimum=minimum,
            epochs=epochs,
            iters_per_epoch=per_epoch,
            warmup_epochs=warmup_epochs,
        )
        for iteration in iterations
    ]


def check(name: str, got: list[float], want: np.ndarray) -> None:
    curve = torch.from_numpy(want)
    close(name, torch.tensor(got, dtype=torch.float64), curve, CURVE * largest(curve))


@pytest.mark.parametrize("curve", ["lr", "lr_mixblock"])
@pytest.mark.parametrize("path", reference_params("schedules*.npz"))
def test_learning_rates(path: Path, curve: str) -> None:
    with np.load(path) as vectors:
        names = sorted({key.split("/")[0] for key in vectors.files if key.endswith(f"/{curve}")})
        assert names
        for name in names:
            found = re.search(r"ep(\d+)$", name)
            assert found, name
            want = vectors[f"{name}/{curve}"]
            got = expected(vectors[f"{name}/iter"], want, int(found[1]))
            check(name, got, want)


def momentum_settings(iterations: np.ndarray, curve: np.ndarray) -> tuple[int, float, float, float]:
    """Total, base, end and start of a momentum curve, off its first, last and first other point."""
    total, base = int(iterations[-1]) + 1, float(curve[0])
    weight = (math.cos(math.pi * (total - 1) / total) + 1) / 2
    end = round((float(curve[-1]) - base * weight) / (1 - weight), 8)
    moved = int(np.argmax(curve != base))
    shares = [
        share for share in (0.05 * i for i in range(20)) if int(share * total) <= iterations[moved]
    ]
    return total, base, end, max(shares)


@pytest.mark.parametrize("path", reference_params("schedules*.npz"))
def test_momentum_of_the_teacher(path: Path) -> None:
    with np.load(path) as vectors:
        names = sorted({key.split("/")[0] for key in vectors.files if key.endswith("/momentum")})
        assert names
        for name in names:
            iterations, want = vectors[f"{name}/iter"], vectors[f"{name}/momentum"]
            total, base, end, start = momentum_settings(iterations, want)
            assert start > 0, name
            got = [ema_momentum(int(i), total, base=base, end=end, start=start) for i in iterations]
            check(name, got, want)
