"""ManifoldMix against vectors made with the authors' code and with OpenMixup's, step by step."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.manifoldmix import (
    ManifoldMix,
    ManifoldMixConfig,
    ManifoldMixDraws,
    manifold_stages,
)
from robustmix.methods.method import Setup, StepResult
from robustmix.methods.mixing import blend_pairs, soft_targets
from robustmix.methods.mixup import MixupDraws, mixup
from robustmix.models.resnet import ResNet
from tests.reference.kinks import Kinks
from tests.reference.networks import PreActNet
from tests.reference.tolerances import (
    EPS,
    SCALAR,
    close,
    gradient_limits,
    largest,
    logits_limit,
    loss_limit,
    map_limit,
    running_limits,
)
from tests.reference.vectors import Vectors, reference_params, vectors

GRADIENT = 1e-4
"""Of the largest gradient of a layer, through a network of 18 layers in train mode, whose last maps
may be of one cell: batch norms of as few as five values [2.7e-5]."""


def network_of(case: Vectors) -> nn.Module:
    if "stem" not in case.arrays:
        return PreActNet(case)
    stem = str(case["stem"])
    assert stem in ("cifar", "imagenet")
    net = ResNet(
        int(case["num_classes"]),
        block="basic",
        depths=(2, 2, 2, 2),
        stem="cifar" if stem == "cifar" else "imagenet",
        width=int(case["width"]),
        stem_width=len(case["w.conv1.weight"]),
    )
    net.load_state_dict(case.under("w."))
    return net


def draws_of(case: Vectors) -> ManifoldMixDraws:
    lam = float(case["lam_float32" if "lam_float32" in case.arrays else "lam"])
    return ManifoldMixDraws(layer=int(case["layer"]), lam=lam, perm=case.tensor("perm"))


def batch_of(case: Vectors) -> Batch:
    labels = case.tensor("label")
    return Batch(case.tensor("img"), labels, torch.arange(len(labels)))


def method_of(case: Vectors, options: ManifoldMixConfig) -> ManifoldMix:
    return ManifoldMix(network_of(case).train(), options, Setup(rng=np.random.default_rng(0)))


def outputs_of(module: nn.Module) -> list[Tensor]:
    """A list of what a module will return."""
    seen: list[Tensor] = []
    module.register_forward_hook(lambda *given: seen.append(given[2]))
    return seen


def step(method: ManifoldMix, case: Vectors) -> tuple[StepResult, Tensor]:
    """The result of a recorded batch and draws, and the logits."""
    # The former is run stage by stage, not by a call.
    last = method.network.fc if isinstance(method.network, ResNet) else method.network
    seen = outputs_of(last)
    return method.compute(batch_of(case), draws_of(case)), seen[0]


def check_gradients(method: ManifoldMix, case: Vectors, loss: Tensor, kinks: Kinks) -> None:
    ours, want = dict(method.network.named_parameters()), case.under("grad.")
    assert want
    assert want.keys() <= ours.keys()
    limits = gradient_limits(want, GRADIENT)
    kinks.backward(loss, {name: ours[name] for name in want}, want, limits)
    for name, limit in limits.items():
        close(f"{case.name} gradient {name}", ours[name].grad, want[name], limit)


def check_step(case: Vectors, config: ManifoldMixConfig, loss: str) -> None:
    method = method_of(case, config)
    with Kinks() as kinks:
        result, logits = step(method, case)
    want = case.tensor("logits")
    close(f"{case.name} logits", logits, want, logits_limit(want))
    want = case.tensor(loss)
    close(f"{case.name} {loss}", result.loss, want, loss_limit(want))
    if loss != "loss_ce":  # whose gradients are not recorded
        check_gradients(method, case, result.loss, kinks)
    buffers, statistics = dict(method.network.named_buffers()), case.under("buf_out.")
    assert statistics.keys() == buffers.keys()
    for name, limit in running_limits(statistics).items():
        close(f"{case.name} {name}", buffers[name], statistics[name], limit)


@pytest.mark.parametrize("path", reference_params("methods_manifoldmix*.npz"))
def test_what_is_mixed_and_how(path: Path) -> None:
    for case in vectors(path):
        draws, before = draws_of(case), case.tensor("before")
        got = mixup(before, MixupDraws(draws.lam, draws.perm)).images
        close(f"{case.name} after", got, case.tensor("after"), SCALAR * max(1.0, largest(before)))
        method = method_of(case, ManifoldMixConfig())
        found = case.tensor("img")
        if draws.layer:
            # With a lam of 1 nothing is mixed, whoever of two hooks comes first.
            seen = outputs_of(manifold_stages(method.network)[draws.layer - 1])
            method.compute(batch_of(case), draws._replace(lam=1.0))
            (found,) = seen
        close(f"{case.name} before", found, before, map_limit(before) if draws.layer else 0.0)


@pytest.mark.parametrize("path", reference_params("methods_manifoldmix*.npz"))
def test_a_step_is_openmixup_s(path: Path) -> None:
    for case in vectors(path, "om"):
        perm = case.tensor("perm")
        assert case.tensor("label")[perm].tolist() == case["label_partner"].tolist()
        check_step(case, ManifoldMixConfig(alpha=float(case["alpha"])), "loss")


@pytest.mark.parametrize("path", reference_params("methods_manifoldmix*.npz"))
def test_a_step_is_the_authors_with_their_loss(path: Path) -> None:
    for case in vectors(path, "vm"):
        draws, labels = draws_of(case), case.tensor("label")
        targets = soft_targets(
            blend_pairs(case.tensor("img"), draws.perm, draws.lam), labels, int(case["num_classes"])
        )
        close(f"{case.name} targets", targets, case.tensor("target"), EPS)
        alpha = float(case["alpha"])
        check_step(case, ManifoldMixConfig(alpha=alpha, loss="softmax-bce"), "loss_bce")
        check_step(case, ManifoldMixConfig(alpha=alpha), "loss_ce")
