"""Validation: a number that no batch changes, and no memory that ran out."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from robustmix.models.robust_model import PAD
from robustmix.training import validate as module
from robustmix.training.validate import validate
from tests.evaluation.tiny import Net, tiny_images

CPU = torch.device("cpu")


class Heads:
    """Two networks, with memory for so many images."""

    def __init__(self, most: int = 10**9) -> None:
        self.nets = {"a": Net(seed=1).eval(), "b": Net(seed=2).eval()}
        self.most, self.sizes = most, list[int]()

    def __call__(self, images: Tensor) -> Mapping[str, Tensor]:
        self.sizes.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {name: net(images) for name, net in self.nets.items()}


def test_it_is_the_mean_over_the_images_by_hand() -> None:
    data = tiny_images(21)
    heads = Heads()
    found = validate(heads, data, CPU)
    for name, net in heads.nets.items():
        hits, losses = 0, []
        for i in range(21):
            pixels = data.pixels.take(torch.tensor([i])).double() / 255
            mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in (data.mean, data.std))
            with torch.no_grad():
                logits = net(((pixels - mean) / std).float())[0].double()
            losses.append(float(logits.logsumexp(0) - logits[data.labels[i]]))
            hits += int(logits.argmax() == data.labels[i])
        assert found[name]["top1"] == hits / 21
        assert found[name]["loss"] == pytest.approx(sum(losses) / 21, rel=1e-6)


def test_no_batch_and_no_lack_of_memory_changes_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny_images(103)
    whole = validate(Heads(), data, CPU)
    for most, first in ((100, 104), (30, 104), (PAD, 104)):
        heads = Heads(most)
        assert validate(heads, data, CPU) == whole
        assert heads.sizes[0] == first
        assert all(size % PAD == 0 for size in heads.sizes)
    for batch in (1, 7, 50, 102):
        monkeypatch.setattr(module, "VALIDATION_BATCH", batch)
        assert validate(Heads(), data, CPU) == whole


def test_what_never_fits_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        validate(Heads(PAD - 1), tiny_images(40), CPU)
