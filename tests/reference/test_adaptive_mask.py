"""AdAutoMix's generator against the released module: masks, attention, gradients, batch norms."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.methods.generators.adaptive_mask import AdaptiveMask
from tests.reference.kinks import Kinks
from tests.reference.tolerances import (
    EVAL_MAP,
    GRADIENT,
    MASK,
    close,
    gradient_limits,
    largest,
    running_limits,
)
from tests.reference.vectors import Case, cases, reference_params


def generator_of(case: Case) -> AdaptiveMask:
    cfg = case.cfg
    generator = AdaptiveMask(
        cfg["C"],
        factor=cfg["sf"],
        reduction=cfg.get("red", 2),
        lam_concat=cfg["lam_concat"],
        mode=cfg["mode"],
        use_scale=cfg.get("use_scale", True),
        norm=cfg.get("norm") is not None,
    )
    generator.load_state_dict(case.under("w.", "buf_in."))
    return generator.train()


def lam_of(case: Case) -> tuple[float, ...]:
    lam = np.atleast_1d(case.arrays["lam"]).tolist()
    return (lam[0], 1 - lam[0]) if len(lam) == 1 else tuple(lam)


def features_of(case: Case) -> list[Tensor]:
    return [case.tensor(f"feature{n}") for n in range(case.cfg["N"])]


@pytest.mark.parametrize("path", reference_params("adaptive_mask*.npz"))
def test_masks_attention_and_gradients(path: Path) -> None:
    for case in cases(path):
        generator, features = generator_of(case), features_of(case)
        features[0].requires_grad_()
        with Kinks() as kinks:
            masks = generator(features, lam_of(case))
        close(f"{case.name} masks", masks, case.tensor("mask"), MASK)
        ours = dict(generator.named_parameters()) | {"feature": features[0]}
        want = case.under("grad.") | {"feature": case.tensor("grad_feature0")}
        assert want.keys() == ours.keys()
        limits = gradient_limits(want, GRADIENT)
        kinks.backward((masks * case.tensor("loss_weights")).sum(), ours, want, limits)
        for name, limit in limits.items():
            close(f"{case.name} grad {name}", ours[name].grad, want[name], limit)
        buffers, want = dict(generator.named_buffers()), case.under("buf_out.")
        assert want.keys() == buffers.keys()
        for name, limit in running_limits(want).items():
            close(f"{case.name} {name}", buffers[name], want[name], limit)


@pytest.mark.parametrize("path", reference_params("adaptive_mask*.npz"))
def test_attention_and_value_of_the_first_sample(path: Path) -> None:
    for case in cases(path):
        generator = generator_of(case)
        samples = generator.samples(features_of(case), lam_of(case))
        attention = generator.attention(samples)
        close(f"{case.name} attention", attention[0], case.tensor("attn0"), MASK)
        want = case.tensor("value0").unsqueeze(1)
        close(f"{case.name} value", samples[0].value, want, EVAL_MAP * largest(want))


@pytest.mark.parametrize("path", reference_params("adaptive_mask*.npz"))
def test_one_convolution_of_the_batch_serves_all_samples(path: Path) -> None:
    for case in cases(path):
        batch = torch.cat(features_of(case))
        perms = torch.stack(
            [
                torch.randperm(len(batch), generator=torch.Generator().manual_seed(i))
                for i in range(case.cfg["N"])
            ]
        )
        one, each = generator_of(case), generator_of(case)
        indexed = one.masks(one.project(batch), perms, lam_of(case))
        plain = each([batch[perm] for perm in perms], lam_of(case))
        close(f"{case.name} masks", indexed, plain, MASK)
        want, got = (dict(generator.named_buffers()) for generator in (each, one))
        for name, limit in running_limits(want).items():
            close(f"{case.name} {name}", got[name], want[name], limit)
