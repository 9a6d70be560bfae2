"""AdAutoMix's generator against the released module: masks, attention, gradients, batch norms."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.methods.generators.adaptive_mask import AdaptiveMask
from tests.reference.vectors import reference_params

pytestmark = pytest.mark.usefixtures("one_thread")


class Case:
    """One case of a file."""

    def __init__(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        self.name = name
        self.arrays = arrays
        self.cfg: dict[str, Any] = ast.literal_eval(str(arrays["cfg"]))

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def state(self, *prefixes: str) -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): self.tensor(key)
            for prefix in prefixes
            for key in self.arrays
            if key.startswith(prefix)
        }

    def generator(self) -> AdaptiveMask:
        cfg = self.cfg
        generator = AdaptiveMask(
            cfg["C"],
            factor=cfg["sf"],
            reduction=cfg.get("red", 2),
            lam_concat=cfg["lam_concat"],
            mode=cfg["mode"],
            use_scale=cfg.get("use_scale", True),
            norm=cfg.get("norm") is not None,
        )
        generator.load_state_dict(self.state("w.", "buf_in."))
        return generator.train()

    def lam(self) -> tuple[float, ...]:
        lam = np.atleast_1d(self.arrays["lam"]).tolist()
        return (lam[0], 1 - lam[0]) if len(lam) == 1 else tuple(lam)

    def features(self) -> list[Tensor]:
        return [self.tensor(f"feature{n}") for n in range(self.cfg["N"])]


def cases(path: Path) -> list[Case]:
    with np.load(path) as vectors:
        found: dict[str, dict[str, np.ndarray]] = {}
        for key in vectors.files:
            name, _, rest = key.partition("/")
            found.setdefault(name, {})[rest] = vectors[key]
    assert found
    return [Case(name, arrays) for name, arrays in found.items()]


def close(got: Tensor, want: Tensor, *, atol: float, message: str) -> None:
    torch.testing.assert_close(
        got.detach(), want, rtol=0, atol=atol, msg=lambda m: f"{message}: {m}"
    )


def relative(got: Tensor, want: Tensor, tolerance: float, message: str) -> None:
    """Compare to a tolerance relative to the largest entry; what is only rounding counts as 0."""
    largest = float(want.abs().max())
    close(got, want, atol=max(tolerance * largest, 2e-5), message=message)


@pytest.mark.parametrize("path", reference_params("adaptive_mask*.npz"))
def test_masks_attention_and_gradients(path: Path) -> None:
    for case in cases(path):
        generator = case.generator()
        features = case.features()
        features[0].requires_grad_()
        masks = generator(features, case.lam())
        close(masks, case.tensor("mask"), atol=3e-6, message=f"{case.name} mask")
        (masks * case.tensor("loss_weights")).sum().backward()
        for name, parameter in generator.named_parameters():
            assert parameter.grad is not None
            relative(parameter.grad, case.tensor(f"grad.{name}"), 2e-5, f"{case.name} {name}")
        assert features[0].grad is not None
        relative(features[0].grad, case.tensor("grad_feature0"), 2e-5, f"{case.name} feature")
        buffers = dict(generator.named_buffers())
        for name, want in case.state("buf_out.").items():
            torch.testing.assert_close(buffers[name], want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("path", reference_params("adaptive_mask*.npz"))
def test_attention_and_value_of_the_first_sample(path: Path) -> None:
    for case in cases(path):
        generator = case.generator()
        samples = generator.samples(case.features(), case.lam())
        attention = generator.attention(samples)
        close(attention[0], case.tensor("attn0"), atol=3e-6, message=f"{case.name} attention")
        want = case.tensor("value0").unsqueeze(1)
        close(samples[0].value, want, atol=3e-6, message=f"{case.name} value")


@pytest.mark.parametrize("path", reference_params("adaptive_mask*.npz"))
def test_one_convolution_of_the_batch_serves_all_samples(path: Path) -> None:
    for case in cases(path):
        batch = torch.cat(case.features())
        n = case.cfg["N"]
        perms = torch.stack(
            [
                torch.randperm(len(batch), generator=torch.Generator().manual_seed(i))
                for i in range(n)
            ]
        )
        one, each = case.generator(), case.generator()
        indexed = one.masks(one.project(batch), perms, case.lam())
        plain = each([batch[perm] for perm in perms], case.lam())
        torch.testing.assert_close(indexed, plain, rtol=0, atol=1e-6)
        for a, b in zip(one.buffers(), each.buffers(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
