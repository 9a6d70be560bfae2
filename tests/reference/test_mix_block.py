"""The Mix Blocks of AutoMix and SAMix against the released module: masks, losses, gradients."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.methods.generators.mix_block import (
    MaskLoss,
    MixBlock,
    PairGenerator,
    SAMixBlock,
    mask_loss,
)
from tests.reference.vectors import reference_params

pytestmark = pytest.mark.usefixtures("one_thread")

MARGIN = 0.1  # of the mask loss, for all cases (README of the vectors)


class Case:
    """One case of a file, and a note of which of its arrays were compared."""

    def __init__(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        self.name = name
        self.arrays = arrays
        self.cfg: dict[str, Any] = ast.literal_eval(str(arrays["cfg"]))
        self.used = {"cfg"}

    def tensor(self, key: str) -> Tensor:
        self.used.add(key)
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def state(self, *prefixes: str) -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): self.tensor(key)
            for prefix in prefixes
            for key in self.arrays
            if key.startswith(prefix)
        }

    def generator(self) -> PairGenerator:
        cfg = self.cfg
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
        generator.load_state_dict(self.state("w.", "buf_in."))
        return generator.train()

    @property
    def kind(self) -> MaskLoss:
        return "l1+variance" if self.cfg.get("ml", "L1") == "L1+Variance" else "l1"


def cases(path: Path) -> list[Case]:
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as vectors:
        for key in vectors.files:
            name, _, rest = key.partition("/")
            found.setdefault(name, {})[rest] = vectors[key]
    assert found
    return [Case(name, arrays) for name, arrays in found.items()]


def check(what: str, got: Tensor, want: Tensor, *, atol: float = 0.0, rtol: float = 0.0) -> None:
    torch.testing.assert_close(
        got.detach(), want, rtol=rtol, atol=atol, msg=lambda text: f"{what}: {text}"
    )


@pytest.mark.parametrize("path", reference_params("pixel_mix_block*.npz"))
def test_masks_losses_and_gradients(path: Path) -> None:
    for case in cases(path):
        generator = case.generator()
        feature, index, lam = (
            case.tensor("feature"),
            case.tensor("index"),
            float(case.tensor("lam")),
        )
        masks = generator(feature, index, lam)
        check(f"{case.name} masks", masks, case.tensor("mask"), atol=3e-6)
        loss = mask_loss(masks, lam, kind=case.kind, margin=MARGIN)
        check(f"{case.name} loss", loss, case.tensor("mask_loss"), rtol=2e-6, atol=2e-7)
        ((masks * case.tensor("loss_weights")).sum() + loss).backward()
        gradients = case.state("grad.")
        parameters = dict(generator.named_parameters())
        assert gradients.keys() == parameters.keys()
        largest = max(float(want.abs().max()) for want in gradients.values())
        for name, want in gradients.items():
            got = parameters[name].grad
            assert got is not None
            # The gradient of a key's bias is zero: what is left of it is rounding of larger ones.
            atol = max(2e-5 * float(want.abs().max()), 2e-6 * largest)
            check(f"{case.name} {name}", got, want, atol=atol)
        buffers = case.state("buf_out.")
        assert buffers.keys() == dict(generator.named_buffers()).keys()
        for name, buffer in generator.named_buffers():
            check(f"{case.name} {name}", buffer, buffers[name], rtol=1e-6, atol=1e-7)
        with torch.no_grad():
            attention = generator.attention(feature, index, lam)
        check(f"{case.name} attention", attention, case.tensor("attn"), atol=3e-6)
        assert case.used == set(case.arrays), "an array was not compared"
