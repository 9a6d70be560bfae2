"""The one table of self-tests."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from robustmix.doctor import attack_checks, input_checks, metric_checks, model_checks


class Check(NamedTuple):
    """A self-test."""

    run: Callable[[torch.device], str]
    """Returns what was found, in a few words, or raises; its docstring says what should hold."""

    tolerance: str = "exact"
    """How far what is computed may lie from what is known, absolutely if not said otherwise."""

    traps: tuple[int, ...] = ()
    """Rows of the list of wrong-result traps that it guards against."""


CHECKS: dict[str, Check] = {
    "fgsm_radius": Check(attack_checks.fgsm_radius, "to 1e-6 in pixels, 1e-3 in the margin", (1,)),
    "eps_zero": Check(attack_checks.eps_zero, traps=(2,)),
    "pgd_optimum": Check(attack_checks.pgd_optimum, "to 1e-3 in the margin", (1,)),
    "attack_mode": Check(attack_checks.attack_mode, traps=(3, 4)),
    "attack_ball": Check(attack_checks.attack_ball, "to 1e-6 in pixels", (27,)),
    "normalisation": Check(model_checks.normalisation, "to 1e-3 in the logits", (1,)),
    "eval_mode": Check(model_checks.eval_mode, traps=(3, 4)),
    "batch_independence": Check(
        model_checks.batch_independence, "to 1e-5 of the largest logit", (3, 17)
    ),
    "determinism": Check(model_checks.determinism),
    "full_float32": Check(model_checks.full_float32),
    "checkpoint": Check(model_checks.checkpoint, traps=(5, 6)),
    "strict_load": Check(model_checks.strict_load, traps=(6, 7)),
    "logits": Check(model_checks.logits_not_probabilities),
    "accuracy": Check(metric_checks.accuracy, "to 1e-6"),
    "calibration": Check(metric_checks.calibration, "to 1e-7", (9,)),
    "paper_ece": Check(metric_checks.paper_ece, "to 1e-7", (9,)),
    "confidence_one": Check(metric_checks.confidence_one, traps=(10,)),
    "full_precision": Check(metric_checks.full_precision, traps=(11,)),
    "temperature": Check(metric_checks.temperature, "to 1e-6"),
    "calibration_split": Check(metric_checks.calibration_split, traps=(12,)),
    "nonfinite": Check(metric_checks.nonfinite, traps=(23,)),
    "intervals": Check(metric_checks.intervals, "to 1e-6"),
    "class_order": Check(metric_checks.class_order, traps=(8,)),
    "random_numbers": Check(input_checks.random_numbers),
    "draws_by_key": Check(input_checks.draws_by_key, traps=(17,)),
    "uint8_wrap": Check(input_checks.uint8_wrap, traps=(24,)),
    "jpeg": Check(input_checks.jpeg),
    "image_files": Check(input_checks.image_files, traps=(35, 36)),
    "mask_counts": Check(input_checks.mask_counts, traps=(18,)),
    "mask_fill": Check(input_checks.mask_fill, "to 1e-6 in normalised colours", (19,)),
    "batches": Check(
        input_checks.batches, "counts exact, accuracies to 1e-12, curves to 1e-6", (17, 22, 25)
    ),
}
