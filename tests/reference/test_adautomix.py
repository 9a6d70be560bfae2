"""AdAutoMix's step against the released class: consecutive steps, every number they recorded."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from robustmix.methods.adautomix import AdAutoMix, AdAutoMixConfig, AdAutoMixDraws, Terms
from robustmix.methods.method import Setup, top1
from robustmix.models.resnet import ResNet
from tests.reference.kinks import Kinks
from tests.reference.steps import Trainee
from tests.reference.tolerances import (
    GROWTH,
    SCALAR,
    close,
    image_limit,
    logits_limit,
    loss_limit,
    mask_limit,
    undecided_share,
)
from tests.reference.vectors import Case, cases, reference_params


def method_of(case: Case, passes: Literal["auto", "plain"]) -> AdAutoMix:
    cfg = case.cfg
    network = ResNet(cfg["K"], block="basic", depths=(2, 2, 2, 2), stem="cifar", width=cfg["base"])
    config = AdAutoMixConfig(
        mix_samples=cfg["N"],
        beta=cfg["beta"],
        lam_margin=cfg["lam_margin"],
        lam_concat=cfg["lam_concat"],
        upsample=cfg["mode"],
        use_scale=cfg.get("use_scale", True),
        reduction=cfg.get("red", 2),
        att_norm=cfg.get("norm") is not None,
        passes=passes,
    )
    setup = Setup(rng=np.random.default_rng(0), input_size=(3, cfg["sz"], cfg["sz"]))
    return AdAutoMix(network, config, setup)


def draws_of(case: Case, step: str) -> AdAutoMixDraws:
    lam = case.tensor(f"{step}/lam_used").tolist()
    index_mb, index_bb = (case.tensor(f"{step}/index_{b}") for b in ("mb", "bb"))
    if case.cfg["N"] > 2:
        return AdAutoMixDraws(tuple(lam), tuple(lam), index_mb, index_bb)
    own = torch.arange(case.cfg["b"])
    mb, bb = (torch.stack([own, index.flatten()]) for index in (index_mb, index_bb))
    return AdAutoMixDraws((lam[0], 1 - lam[0]), (lam[1], 1 - lam[1]), mb, bb)


def check_terms(case: Case, number: int, terms: Terms) -> None:
    step, growth = f"step{number}", GROWTH**number
    student, generator = terms.student, terms.generator
    assert generator is not None
    assert terms.skipped == 0
    assert terms.adversarial == bool(case.arrays[f"{step}/is_adversarial"])
    for name, got, limit in (
        ("mask_mb_raw", terms.mask_mb, mask_limit),
        ("mask_bb_raw", terms.mask_bb, mask_limit),
        ("img_mix_mb", terms.mixed_mb, image_limit),
        ("img_mix_bb", terms.mixed_bb, image_limit),
        ("loss_one_q", student.loss_one, loss_limit),
        ("loss_linear_mix_q", student.loss_linear, loss_limit),
        ("loss_mix_q", student.loss_mix, loss_limit),
        ("loss_mix_k_ce", generator.loss_mix, loss_limit),
        ("cos_term", generator.cosine, loss_limit),
        ("loss_k_total", generator.loss, loss_limit),
        ("loss_total", terms.loss, loss_limit),
        ("logits_one_q", student.logits_one, logits_limit),
        ("logits_linear_mix_q", student.logits_linear, logits_limit),
        ("logits_mix_q", student.logits_mix, logits_limit),
        ("logits_mix_k", generator.logits_mix, logits_limit),
    ):
        if f"{step}/{name}" in case.arrays:
            want = case.tensor(f"{step}/{name}")
            close(f"{step} {name}", got, want, growth * limit(want))
        else:
            assert got is None, name


def check_accuracies(case: Case, number: int, terms: Terms, draws: AdAutoMixDraws) -> None:
    step = f"step{number}"
    labels = case.tensor(f"{step}/label")
    student, generator = terms.student, terms.generator
    assert generator is not None
    first_bb, first_mb = labels[draws.index_bb[0]], labels[draws.index_mb[0]]
    clean = 100 * top1(student.logits_one, labels)
    if student.logits_linear is not None:
        clean = (clean + 100 * top1(student.logits_linear, first_bb)) / 2
    undecided = max(
        undecided_share(case.tensor(f"{step}/{name}"), GROWTH**number)
        for name in ("logits_one_q", "logits_mix_q", "logits_mix_k", "logits_linear_mix_q")
        if f"{step}/{name}" in case.arrays
    )
    for name, got in (
        ("acc_one_q", clean),
        ("acc_mix_q", 100 * top1(student.logits_mix, first_bb)),
        ("acc_mix_k", 100 * top1(generator.logits_mix, first_mb)),
    ):
        want = case.tensor(f"{step}/{name}")
        close(f"{step} {name}", got, want, 100 * (undecided + SCALAR))


def one_step(case: Case, number: int, method: AdAutoMix, trainee: Trainee) -> None:
    """Make a recorded step and compare everything that was recorded of it."""
    step = f"step{number}"
    draws = draws_of(case, step)
    with Kinks() as kinks:
        terms = method.step(case.tensor(f"{step}/img"), case.tensor(f"{step}/label"), draws)
    check_terms(case, number, terms)
    check_accuracies(case, number, terms, draws)
    trainee.backward(terms.loss, kinks)
    method.settle()
    trainee.update()


@pytest.mark.parametrize("path", reference_params("adautomix_step*.npz"))
def test_consecutive_steps(path: Path) -> None:
    for case in cases(path):
        method = method_of(case, "plain")
        trainee = Trainee(method, case)
        for number in range(case.cfg["steps"]):
            one_step(case, number, method, trainee)
        deployed, head = trainee.evaluate()
        assert torch.equal(deployed, head)


@pytest.mark.parametrize("path", reference_params("adautomix_step*.npz"))
def test_every_step_in_the_fewest_passes(path: Path) -> None:
    """Each from the state of the plain steps, so that their rounding does not add up."""
    for case in cases(path):
        plain, fast = method_of(case, "plain"), method_of(case, "auto")
        assert fast.plain_because is None
        leader, follower = Trainee(plain, case), Trainee(fast, case)
        for number in range(case.cfg["steps"]):
            follower.follow(leader)
            one_step(case, number, plain, leader)
            one_step(case, number, fast, follower)
