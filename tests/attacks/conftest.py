"""A small trained network, for what closed forms cannot show."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn


class Trained(NamedTuple):
    net: nn.Module  # in eval mode, parameters frozen
    images: Tensor  # (150, 1, 8, 8) held out, all classified correctly
    labels: Tensor


@pytest.fixture(scope="session")
def trained() -> Trained:
    """A batch-normalised network after a hundred steps on the 8 x 8 digits of scikit-learn."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Flatten(), nn.Linear(16 * 9, 10),
        )  # fmt: skip
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        for step in range(100):
            rows = torch.arange(step * 64, (step + 1) * 64) % 1400
            loss = F.cross_entropy(net(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    net.eval().requires_grad_(False)
    right = 1400 + (net(images[1400:]).argmax(dim=1) == labels[1400:]).nonzero().flatten()[:150]
    return Trained(net, images[right], labels[right])
