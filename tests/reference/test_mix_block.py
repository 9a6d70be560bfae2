"""The Mix Blocks of AutoMix and SAMix against the released module: masks, losses, gradients."""

from pathlib import Path

import pytest
import torch

from robustmix.methods.generators.mix_block import (
    MaskLoss,
    MixBlock,
    PairGenerator,
    SAMixBlock,
    mask_loss,
)
from tests.reference.tolerances import GRADIENT, MASK, close, gradient_limits, running_limits
from tests.reference.vectors import Case, cases, reference_params

MARGIN = 0.1  # of the mask loss, for all cases (README of the vectors)


def generator_of(case: Case) -> PairGenerator:
    cfg = case.cfg
    generator: PairGenerator
    if cfg.get("lam_mul"):
        assert cfg["lam_residual"]
        assert cfg["x_qk_concat"]
        assert cfg["neck"]
        generator = SAMixBlock(
            cfg["C"], factor=cfg["sf"], mode=cfg["mode"], lam_mul_k=cfg.get("lam_mul_k", -1)
        )
    else:
        generator = MixBlock(
            cfg["C"],
            factor=cfg["sf"],
            mode=cfg["mode"],
            lam_concat=cfg.get("lam_concat", False),
        )
    generator.load_state_dict(case.under("w.", "buf_in."))
    return generator.train()


def kind_of(case: Case) -> MaskLoss:
    return "l1+variance" if case.cfg.get("ml", "L1") == "L1+Variance" else "l1"


@pytest.mark.parametrize("path", reference_params("pixel_mix_block*.npz"))
def test_masks_losses_and_gradients(path: Path) -> None:
    for case in cases(path):
        generator = generator_of(case)
        feature, index = case.tensor("feature"), case.tensor("index")
        lam = float(case.tensor("lam"))
        masks = generator(feature, index, lam)
        close(f"{case.name} masks", masks, case.tensor("mask"), MASK)
        loss = mask_loss(masks, lam, kind=kind_of(case), margin=MARGIN)
        close(f"{case.name} loss", loss, case.tensor("mask_loss"), 3 * MASK)
        ((masks * case.tensor("loss_weights")).sum() + loss).backward()
        gradients = case.under("grad.")
        parameters = dict(generator.named_parameters())
        assert gradients.keys() == parameters.keys()
        for name, limit in gradient_limits(gradients, GRADIENT).items():
            close(f"{case.name} grad {name}", parameters[name].grad, gradients[name], limit)
        want, buffers = case.under("buf_out."), dict(generator.named_buffers())
        assert want.keys() == buffers.keys()
        for name, limit in running_limits(want).items():
            close(f"{case.name} {name}", buffers[name], want[name], limit)
        with torch.no_grad():
            attention = generator.attention(feature, index, lam)
        close(f"{case.name} attention", attention, case.tensor("attn"), MASK)
        assert case.used == set(case.arrays), "an array was not compared"
