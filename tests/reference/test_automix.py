"""Whole steps of AutoMix and SAMix against the released code, several in a row."""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.automix import (
    AutoMix,
    AutoMixConfig,
    AutoMixDraws,
    AutoMixTerms,
    SAMix,
    SAMixConfig,
)
from robustmix.methods.generators.mix_block import decayed_weight
from robustmix.methods.method import Setup
from robustmix.models.resnet import ResNet
from tests.reference.vectors import reference_params

pytestmark = pytest.mark.usefixtures("one_thread")

SCALARS = {
    "loss_total": "loss",
    "loss_one_q": "loss_one_q",
    "loss_mix_q": "loss_mix_q",
    "loss_mix_k": "loss_mix_k",
    "mask_loss_weighted": "loss_mask",
}
MAPS = {
    "feature_k": "feature",
    "mask_mb": "mask_mb",
    "mask_bb_raw": "mask_bb",
    "img_mix_mb": "mixed_mb",
    "img_mix_bb": "mixed_bb",
    "logits_one_q": "logits_one_q",
    "logits_mix_q": "logits_mix_q",
    "logits_mix_k": "logits_mix_k",
}
ACCURACIES = ("acc_one_q", "acc_mix_q", "acc_mix_k")


class Case:
    """One case of a file, and a note of which of its arrays were used."""

    def __init__(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        self.name = name
        self.arrays = arrays
        self.cfg: dict[str, Any] = ast.literal_eval(str(arrays["cfg"]))
        self.used = {"cfg"}

    def tensor(self, key: str) -> Tensor:
        self.used.add(key)
        return torch.from_numpy(np.asarray(self.arrays[key]))

    def under(self, prefix: str) -> dict[str, Tensor]:
        keys = [key for key in self.arrays if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.tensor(key) for key in keys}

    def method(self) -> AutoMix | SAMix:
        cfg = self.cfg
        network = ResNet(
            cfg["K"], block="basic", depths=(2, 2, 2, 2), stem="cifar", width=cfg["base"]
        )
        setup = Setup(rng=np.random.default_rng(0), input_size=(3, cfg["sz"], cfg["sz"]))
        method: AutoMix | SAMix
        if cfg.get("samix"):
            assert not cfg["lam_concat"]
            config = SAMixConfig(
                upsample=cfg["mode"],
                lam_margin=cfg["lam_margin"],
                lam_mul_k=cfg.get("lam_mul_k", 0.25),
            )
            method = SAMix(network, config, setup)
        else:
            method = AutoMix(
                network,
                AutoMixConfig(
                    upsample=cfg["mode"],
                    lam_concat=cfg["lam_concat"],
                    lam_margin=cfg["lam_margin"],
                ),
                setup,
            )
        ours = named_tensors(method)
        for name, value in self.under("init/").items():
            with torch.no_grad():
                ours.pop(name).copy_(value)
        assert all(name.endswith("num_batches_tracked") for name in ours), "left as it was made"
        return method.train()

    def optimizer(self, method: AutoMix | SAMix) -> torch.optim.Optimizer:
        cfg = self.cfg
        student = [p for p in method.pair.parameters() if p.requires_grad]
        return torch.optim.SGD(
            [
                {"params": student},
                {"params": method.generator.parameters(), "lr": cfg.get("lr_mb", cfg["lr"])},
            ],
            lr=cfg["lr"],
            momentum=0.9,
            weight_decay=cfg.get("wd", 1e-4),
        )

    def draws(self, step: str) -> AutoMixDraws:
        return AutoMixDraws(
            lam_mb=float(self.tensor(f"{step}/lam_mb")),
            lam_bb=float(self.tensor(f"{step}/lam_bb")),
            index_mb=self.tensor(f"{step}/index_mb"),
            index_bb=self.tensor(f"{step}/index_bb"),
            adjust=self.cfg.get("mask_adjust", 0.0) > self.cfg.get("rand", 1.0),
        )


def cases(path: Path) -> list[Case]:
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path, allow_pickle=False) as vectors:
        for key in vectors.files:
            name, _, rest = key.partition("/")
            found.setdefault(name, {})[rest] = vectors[key]
    assert found
    return [Case(name, arrays) for name, arrays in found.items()]


def parts(method: AutoMix | SAMix) -> dict[str, nn.Module]:
    """Return the modules by the names of the vectors; a backbone holds its ``fc`` too."""
    pair = method.pair
    return {
        "backbone_q": pair.network_q,
        "backbone_k": pair.network_k,
        "head_mix_q": pair.head_mix_q,
        "head_mix_k": pair.head_mix_k,
        "mix_block": method.generator,
    }


def official(name: str) -> str:
    """Return what the vectors call one of our tensors."""
    module, _, rest = name.partition(".")
    if module.startswith("backbone") and rest.startswith("fc."):
        return f"head_one_{module[-1]}.{rest}"
    return f"{module}.fc.{rest}" if module.startswith("head_mix") else name


def named_tensors(method: AutoMix | SAMix) -> dict[str, Tensor]:
    """Return parameters and buffers by the names of the vectors."""
    return {
        official(f"{module}.{name}"): tensor
        for module, part in parts(method).items()
        for name, tensor in (*part.named_parameters(), *part.named_buffers())
    }


def check(what: str, got: Tensor, want: Tensor, *, atol: float = 0.0, rtol: float = 0.0) -> None:
    torch.testing.assert_close(
        got.detach(), want, rtol=rtol, atol=atol, msg=lambda text: f"{what}: {text}"
    )


def scale(want: Tensor) -> float:
    """Return what an absolute tolerance for numbers up to 1 is multiplied by."""
    return max(1.0, float(want.abs().max()))


def check_terms(where: str, terms: AutoMixTerms, case: Case, step: str) -> None:
    for key, name in SCALARS.items():
        got = getattr(terms, name).double()
        # The mask loss is a tenth of a difference of numbers near 1.
        check(f"{where} {key}", got, case.tensor(f"{step}/{key}"), rtol=2e-6, atol=2e-8)
    for key, name in MAPS.items():
        want = case.tensor(f"{step}/{key}")
        check(f"{where} {key}", getattr(terms, name), want, atol=3e-6 * scale(want))
    for name in ACCURACIES:
        want = case.tensor(f"{step}/{name}") / 100
        check(f"{where} {name}", getattr(terms, name).double(), want, atol=1e-6)


def norm(tensors: list[Tensor]) -> float:
    return float(torch.stack([t.double().square().sum() for t in tensors]).sum().sqrt())


def check_gradients(where: str, ours: Mapping[str, Tensor], case: Case, step: str) -> None:
    gradients = {name: p.grad for name, p in ours.items() if p.grad is not None}
    given = case.under(f"{step}/grad/")
    largest = max(float(want.abs().max()) for want in given.values())
    for name, want in given.items():
        # The gradient of a key's bias is zero: what is left of it is rounding of larger ones.
        atol = max(2e-5 * float(want.abs().max()), 2e-6 * largest)
        check(f"{where} {name}", gradients[name], want, atol=atol)
    for module, want in case.under(f"{step}/gradnorm/").items():
        of_it = [g for name, g in gradients.items() if name.startswith(f"{module}.")]
        if want.isnan():
            assert not of_it, f"{where} {module} has a gradient"
        else:
            assert norm(of_it) == pytest.approx(float(want), rel=2e-5), f"{where} {module}"
    for name, want in case.under(f"{step}/gradnorm_each/").items():
        assert norm([gradients[name]]) == pytest.approx(float(want), rel=2e-5), f"{where} {name}"


def check_after(where: str, ours: Mapping[str, Tensor], case: Case, step: str) -> None:
    after = case.under(f"{step}/after/")
    assert {name for name in ours if "running" in name} <= after.keys()
    for name, want in after.items():
        atol = 1e-6 * float(want.abs().max()) if want.is_floating_point() else 0.0
        check(f"{where} {name}", ours[name], want, atol=atol)
    sums = case.under(f"{step}/after_sum/")
    assert {name for name, tensor in ours.items() if isinstance(tensor, nn.Parameter)} == set(sums)
    for name, want in sums.items():
        got = ours[name].detach().double()
        total, length = want.tolist()
        assert norm([got]) == pytest.approx(length, rel=1e-6), f"{where} {name}"
        limit = 1e-6 * float(got.abs().sum())
        assert float(got.sum()) == pytest.approx(total, rel=0, abs=limit), f"{where} {name}"


@pytest.mark.parametrize("path", reference_params("automix_step*.npz"))
def test_steps(path: Path) -> None:
    for case in cases(path):
        method = case.method()
        optimizer = case.optimizer(method)
        ours = named_tensors(method)
        for i in range(case.cfg["steps"]):
            step, where = f"step{i}", f"{case.name} step {i}"
            images, labels = case.tensor(f"{step}/img"), case.tensor(f"{step}/label")
            batch = Batch(images, labels, torch.arange(len(labels)))
            terms = method.step(batch, case.draws(step))
            check_terms(where, terms, case, step)
            assert terms.skipped == 0
            optimizer.zero_grad()
            terms.loss.backward()  # type: ignore[no-untyped-call]
            check_gradients(where, ours, case, step)
            optimizer.step()
            method.pair.update(float(case.tensor(f"{step}/momentum")))
            check_after(where, ours, case, step)
        method.eval()
        with torch.no_grad():
            logits = method.pair.heads_logits(case.tensor("eval/img"))
            deployed = method.classifier()(case.tensor("eval/img"))
        for head, got in logits.items():
            want = case.tensor(f"eval/acc_{head}")
            check(f"{case.name} {head}", got, want, atol=3e-6 * scale(want))
        torch.testing.assert_close(deployed, logits["one_k"], rtol=1e-6, atol=1e-6)
        assert case.used == set(case.arrays), "an array was not compared"


@pytest.mark.parametrize("path", reference_params("schedules*.npz"))
def test_the_compounding_weight_of_the_mask_loss(path: Path) -> None:
    with np.load(path, allow_pickle=False) as vectors:
        arrays = {key: vectors[key] for key in vectors.files}
    names = [key.split("/")[0] for key in arrays if key.endswith("/mask_loss_weight")]
    assert names
    for name in names:
        at, want = arrays[f"{name}/iter"], arrays[f"{name}/mask_loss_weight"]
        total = int(at[-1]) + 1
        got = [decayed_weight(float(want[0]), "compound-cosine", int(t), total) for t in at]
        # Of weights that are no longer normal numbers, only that they are nothing.
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-307, err_msg=name)
