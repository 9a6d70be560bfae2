"""Whole steps of AutoMix and SAMix against the released code, several in a row."""

from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix.data.loader import Batch
from robustmix.methods.automix import (
    AutoMix,
    AutoMixConfig,
    SAMix,
    SAMixConfig,
)
from robustmix.methods.generators.mix_block import decayed_weight
from robustmix.methods.method import Setup
from robustmix.methods.pair_masks import AutoMixDraws, AutoMixTerms
from robustmix.models.resnet import ResNet
from tests.reference.kinks import Kinks
from tests.reference.steps import Trainee
from tests.reference.tolerances import (
    GROWTH,
    PRODUCT,
    SCALAR,
    close,
    image_limit,
    logits_limit,
    loss_limit,
    map_limit,
    mask_limit,
    mask_loss_limit,
    undecided_share,
)
from tests.reference.vectors import Case, cases, reference_params

# By what the vectors call it: what ours is called, and how far off it may be.
TERMS = {
    "loss_total": ("loss", loss_limit),
    "loss_one_q": ("loss_one_q", loss_limit),
    "loss_mix_q": ("loss_mix_q", loss_limit),
    "loss_mix_k": ("loss_mix_k", loss_limit),
    "mask_loss_weighted": ("loss_mask", mask_loss_limit),
    "feature_k": ("feature", map_limit),
    "mask_mb": ("mask_mb", mask_limit),
    "mask_bb_raw": ("mask_bb", mask_limit),
    "img_mix_mb": ("mixed_mb", image_limit),
    "img_mix_bb": ("mixed_bb", image_limit),
    "logits_one_q": ("logits_one_q", logits_limit),
    "logits_mix_q": ("logits_mix_q", logits_limit),
    "logits_mix_k": ("logits_mix_k", logits_limit),
}
# The logits whose largest an accuracy counts.
ACCURACIES = {
    "acc_one_q": "logits_one_q",
    "acc_mix_q": "logits_mix_q",
    "acc_mix_k": "logits_mix_k",
}


def method_of(case: Case) -> AutoMix | SAMix:
    cfg = case.cfg
    network = ResNet(cfg["K"], block="basic", depths=(2, 2, 2, 2), stem="cifar", width=cfg["base"])
    setup = Setup(rng=np.random.default_rng(0), input_size=(3, cfg["sz"], cfg["sz"]))
    if cfg.get("samix"):
        assert not cfg["lam_concat"]
        bent = SAMixConfig(
            upsample=cfg["mode"],
            lam_margin=cfg["lam_margin"],
            lam_mul_k=cfg.get("lam_mul_k", 0.25),
        )
        return SAMix(network, bent, setup)
    config = AutoMixConfig(
        upsample=cfg["mode"], lam_concat=cfg["lam_concat"], lam_margin=cfg["lam_margin"]
    )
    return AutoMix(network, config, setup)


def draws_of(case: Case, step: str) -> AutoMixDraws:
    return AutoMixDraws(
        lam_mb=float(case.tensor(f"{step}/lam_mb")),
        lam_bb=float(case.tensor(f"{step}/lam_bb")),
        index_mb=case.tensor(f"{step}/index_mb"),
        index_bb=case.tensor(f"{step}/index_bb"),
        adjust=case.cfg.get("mask_adjust", 0.0) > case.cfg.get("rand", 1.0),
    )


def check_terms(terms: AutoMixTerms, case: Case, number: int) -> None:
    step, growth = f"step{number}", GROWTH**number
    assert terms.skipped == 0
    for key, (name, limit) in TERMS.items():
        want = case.tensor(f"{step}/{key}")
        close(f"{step} {key}", getattr(terms, name), want, growth * limit(want))
    for name, logits in ACCURACIES.items():
        want = case.tensor(f"{step}/{name}") / 100
        undecided = undecided_share(case.tensor(f"{step}/{logits}"), growth)
        close(f"{step} {name}", getattr(terms, name), want, undecided + SCALAR)


@pytest.mark.parametrize("path", reference_params("automix_step*.npz"))
def test_steps(path: Path) -> None:
    for case in cases(path):
        method = method_of(case)
        trainee = Trainee(method, case)
        for number in range(case.cfg["steps"]):
            step = f"step{number}"
            images, labels = case.tensor(f"{step}/img"), case.tensor(f"{step}/label")
            batch = Batch(images, labels, torch.arange(len(labels)))
            with Kinks() as kinks:
                terms = method.step(batch, draws_of(case, step))
            check_terms(terms, case, number)
            trainee.backward(terms.loss, kinks)
            trainee.update()
        deployed, head = trainee.evaluate()
        close(f"{case.name} deployed", deployed, head, logits_limit(head))
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
        np.testing.assert_allclose(got, want, rtol=PRODUCT, atol=1e-307, err_msg=name)
