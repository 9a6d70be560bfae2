"""AdAutoMix on real CIFAR-100: the first fifty steps, and whom the generator works against.

Minutes on a CPU, so they are run by hand: ROBUSTMIX_DATA=... pytest -m slow FILE
"""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix.data.augment import Augment
from robustmix.data.datasets import load_dataset
from robustmix.data.loader import Batch, train_batches
from robustmix.methods import AdAutoMix, AdAutoMixConfig, Setup, draw_adautomix
from robustmix.models.registry import build_model
from robustmix.training import train
from tests.corruptions.cifar import needs_cifar100

pytestmark = [pytest.mark.slow, needs_cifar100]

LN_K = math.log(100)


def test_the_first_fifty_steps_lose_what_guessing_loses(tmp_path: Path) -> None:
    """Student terms ln K each; the generator's alternates between -beta ln K + (1-beta) c and ln K.

    The published log of ResNet-18 (beta 0.3) has 11.18 for the mean of the first 50 steps.
    """
    result = train(
        "cifar100-resnet18-adautomix",
        out=tmp_path,
        data_dir=Path(os.environ["ROBUSTMIX_DATA"]),
        device="cpu",
        progress="none",
        arch="resnet8",
        epochs=1,
        limit_train=5000,
        limit_val=100,
    )
    logs = result.metrics
    for name in ("loss_one_q", "loss_linear_q", "loss_mix_q", "loss_mix_k"):
        assert logs[f"train_{name}"] == pytest.approx(LN_K, rel=0.06), name
    cosine = logs["train_cosine"]
    assert 0.2 < cosine < 1
    generator = 0.5 * (-0.3 * LN_K + 0.7 * cosine) + 0.5 * LN_K
    assert logs["train_loss"] == pytest.approx(2 * LN_K + generator, rel=0.05)
    assert logs["train_loss"] == pytest.approx(11.18, rel=0.05)
    assert logs["train_skipped"] == 0


def trained(steps: int) -> tuple[AdAutoMix, Batch]:
    """A small network after some steps on real images, and a batch that it has not seen."""
    data = load_dataset("cifar100", "train", data_dir=Path(os.environ["ROBUSTMIX_DATA"]))
    network = build_model("resnet8", num_classes=100, input_size=(3, 32, 32))
    config = AdAutoMixConfig(ema=0.95)
    method = AdAutoMix(network, config, Setup(rng=np.random.default_rng(0))).train()
    parameters = [p for p in method.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4)
    batches = train_batches(
        data,
        batch_size=100,
        augment=Augment(kind="crop-flip"),
        order=torch.Generator().manual_seed(0),
        draws=torch.Generator().manual_seed(1),
        device="cpu",
    )
    for number, batch in enumerate(batches):
        if number == steps:
            return method, batch
        loss = method.training_step(batch).loss
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        method.after_step(number, 500)
    raise AssertionError


def test_masks_leave_one_third_and_steps_go_the_right_way() -> None:
    method, batch = trained(150)
    preview = method.preview(batch.images[:50])
    assert float((preview.masks - 1 / 3).abs().mean()) > 0.05

    draws = draw_adautomix(100, method.config, np.random.default_rng(7))
    for adversarial in (True, False):
        method.iteration = 0 if adversarial else 1
        before = method.step(batch.images, batch.labels, draws)
        assert before.adversarial is adversarial
        assert before.generator is not None
        parameters = list(method.generator.parameters())
        grads = torch.autograd.grad(before.generator.loss, parameters)
        norm = torch.stack([grad.norm() for grad in grads]).norm()
        kept = [p.detach().clone() for p in parameters]
        with torch.no_grad():
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.sub_(0.05 * grad / norm)
        method.iteration = 0 if adversarial else 1
        after = method.step(batch.images, batch.labels, draws)
        assert after.generator is not None
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)
        # What is minimised falls: on adversarial steps a weighted sum in which the teacher's
        # cross-entropy is raised, on the others that cross-entropy itself.
        assert float(after.generator.loss.detach()) < float(before.generator.loss.detach())
        if not adversarial:
            assert float(after.generator.loss_mix.detach()) < float(
                before.generator.loss_mix.detach()
            )
