"""Hand-crafted mixups against vectors made with the official code."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix.methods import cutmix, mixup
from robustmix.methods.cutmix import CutMixDraws
from robustmix.methods.mixup import MixupDraws
from robustmix.methods.step import Mixed
from tests.reference.vectors import reference_params

Case = dict[str, np.ndarray]


def cases(path: Path, prefix: str) -> Iterator[tuple[str, Case]]:
    with np.load(path) as vectors:
        names = sorted({key.split("/")[0] for key in vectors.files if key.startswith(prefix)})
        for name in names:
            keys = [key for key in vectors.files if key.startswith(f"{name}/")]
            yield name, {key.split("/", 1)[1]: vectors[key] for key in keys}


def check(name: str, case: Case, got: Mixed, perm: torch.Tensor) -> None:
    error = (got.images - torch.from_numpy(case["out"])).abs().max()
    assert float(error) <= 5e-7, name
    assert got.lam == pytest.approx(float(case["lam_out"]), abs=1e-12), name
    labels = torch.from_numpy(case["label"])
    assert labels.tolist() == case["y_a"].tolist(), name
    assert labels[perm].tolist() == case["y_b"].tolist(), name


@pytest.mark.parametrize("path", reference_params("mixups_*.npz"))
def test_mixup(path: Path) -> None:
    for name, case in cases(path, "mixup"):
        perm = torch.from_numpy(case["perm"])
        draws = MixupDraws(lam=float(case["lam_in"]), perm=perm)
        check(name, case, mixup(torch.from_numpy(case["img"]), draws), perm)


@pytest.mark.parametrize("path", reference_params("mixups_*.npz"))
def test_cutmix(path: Path) -> None:
    for name, case in cases(path, "cutmix"):
        perm = torch.from_numpy(case["perm"])
        draws = CutMixDraws(
            lam=float(case["lam_in"]), row=int(case["cx"]), col=int(case["cy"]), perm=perm
        )
        check(name, case, cutmix(torch.from_numpy(case["img"]), draws), perm)
