"""Attacks of other packages, beside which ours are held where these are installed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn


def foolbox_images(name: str, net: nn.Module, x: Tensor, y: Tensor, **knobs: Any) -> Tensor:
    """Attack with one of foolbox's attacks that know no radius."""
    foolbox = pytest.importorskip("foolbox", reason="needs the package foolbox")
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    with torch.random.fork_rng(devices=[]):
        found: Tensor = getattr(foolbox.attacks, name)(**knobs).run(model, x, y)
    return found.detach()
