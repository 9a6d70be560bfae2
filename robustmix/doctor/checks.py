"""The one table of self-tests."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from robustmix.doctor import attack_checks, input_checks, metric_checks, model_checks


class Check(NamedTuple):
    """A self-test."""

    run: Callable[[torch.device], str]
    """Returns what was found, in a few words, or raises; its docstring says what should hold."""

    traps: tuple[int, ...] = ()
    """Rows of the list of wrong-result traps that it guards against."""


CHECKS: dict[str, Check] = {
    "fgsm_radius": Check(attack_checks.fgsm_radius, (1,)),
    "eps_zero": Check(attack_checks.eps_zero, (2,)),
    "pgd_optimum": Check(attack_checks.pgd_optimum, (1,)),
    "attack_mode": Check(attack_checks.attack_mode, (3, 4)),
    "attack_ball": Check(attack_checks.attack_ball, (27,)),
    "normalisation": Check(model_checks.normalisation, (1,)),
    "eval_mode": Check(model_checks.eval_mode, (3, 4)),
    "batch_independence": Check(model_checks.batch_independence, (3, 17)),
    "determinism": Check(model_checks.determinism),
    "full_float32": Check(model_checks.full_float32),
    "checkpoint": Check(model_checks.checkpoint, (5, 6)),
    "strict_load": Check(model_checks.strict_load, (6, 7)),
    "logits": Check(model_checks.logits_not_probabilities),
    "accuracy": Check(metric_checks.accuracy),
    "calibration": Check(metric_checks.calibration, (9,)),
    "paper_ece": Check(metric_checks.paper_ece, (9,)),
    "confidence_one": Check(metric_checks.confidence_one, (10,)),
    "full_precision": Check(metric_checks.full_precision, (11,)),
    "temperature": Check(metric_checks.temperature),
    "calibration_split": Check(metric_checks.calibration_split, (12,)),
    "nonfinite": Check(metric_checks.nonfinite, (23,)),
    "intervals": Check(metric_checks.intervals),
    "class_order": Check(metric_checks.class_order, (8,)),
    "random_numbers": Check(input_checks.random_numbers),
    "draws_by_key": Check(input_checks.draws_by_key, (17,)),
    "uint8_wrap": Check(input_checks.uint8_wrap, (24,)),
    "jpeg": Check(input_checks.jpeg),
    "image_files": Check(input_checks.image_files, (35, 36)),
    "mask_counts": Check(input_checks.mask_counts, (18,)),
    "mask_fill": Check(input_checks.mask_fill, (19,)),
    "batches": Check(input_checks.batches, (17, 22, 25)),
}
