"""Attacks: pure functions from images and labels to adversarial images.

Every attack takes a model of pixels in [0, 1] and images float32 (N, 3, H, W) in [0, 1]; its knobs
are keyword-only and its randomness comes from one key a sample, so that no result depends on the
batch. The harness clips, re-checks and re-scores whatever an attack returns.
"""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports
from robustmix.attacks.names import DESCRIPTIONS

if TYPE_CHECKING:
    from robustmix.attacks.apgd import apgd
    from robustmix.attacks.autoattack import (
        AUTOATTACK,
        Member,
        Stage,
        autoattack,
        cascade,
        ensemble,
    )
    from robustmix.attacks.ball import Norm
    from robustmix.attacks.fgsm import fgsm, fgsm_step, input_gradient
    from robustmix.attacks.harness import Attacked, CountingModel, Verified, rescore, verify
    from robustmix.attacks.losses import Goal, Loss, slope, standing, top_targets
    from robustmix.attacks.pgd import PgdOutcome, pgd
    from robustmix.attacks.registry import ATTACKS
    from robustmix.attacks.search import Outcome
    from robustmix.attacks.square import square
    from robustmix.attacks.torchattacks_adapter import require_torchattacks, torchattack

__all__ = [
    "ATTACKS",
    "AUTOATTACK",
    "DESCRIPTIONS",
    "Attacked",
    "CountingModel",
    "Goal",
    "Loss",
    "Member",
    "Norm",
    "Outcome",
    "PgdOutcome",
    "Stage",
    "Verified",
    "apgd",
    "autoattack",
    "cascade",
    "ensemble",
    "fgsm",
    "fgsm_step",
    "input_gradient",
    "pgd",
    "require_torchattacks",
    "rescore",
    "slope",
    "square",
    "standing",
    "top_targets",
    "torchattack",
    "verify",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "ATTACKS": "robustmix.attacks.registry",
        "AUTOATTACK": "robustmix.attacks.autoattack",
        "Attacked": "robustmix.attacks.harness",
        "CountingModel": "robustmix.attacks.harness",
        "Goal": "robustmix.attacks.losses",
        "Loss": "robustmix.attacks.losses",
        "Member": "robustmix.attacks.autoattack",
        "Norm": "robustmix.attacks.ball",
        "Outcome": "robustmix.attacks.search",
        "PgdOutcome": "robustmix.attacks.pgd",
        "Stage": "robustmix.attacks.autoattack",
        "Verified": "robustmix.attacks.harness",
        "apgd": "robustmix.attacks.apgd",
        "autoattack": "robustmix.attacks.autoattack",
        "cascade": "robustmix.attacks.autoattack",
        "ensemble": "robustmix.attacks.autoattack",
        "fgsm": "robustmix.attacks.fgsm",
        "fgsm_step": "robustmix.attacks.fgsm",
        "input_gradient": "robustmix.attacks.fgsm",
        "pgd": "robustmix.attacks.pgd",
        "require_torchattacks": "robustmix.attacks.torchattacks_adapter",
        "rescore": "robustmix.attacks.harness",
        "slope": "robustmix.attacks.losses",
        "square": "robustmix.attacks.square",
        "standing": "robustmix.attacks.losses",
        "top_targets": "robustmix.attacks.losses",
        "torchattack": "robustmix.attacks.torchattacks_adapter",
        "verify": "robustmix.attacks.harness",
    },
)
