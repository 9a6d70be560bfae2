"""Attacks: pure functions from images and labels to adversarial images.

Every attack takes a model of pixels in [0, 1] and images float32 (N, 3, H, W) in [0, 1]; its knobs
are keyword-only and its randomness is a generator argument. The harness clips, re-checks and
re-scores whatever an attack returns.
"""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports
from robustmix.attacks.names import DESCRIPTIONS

if TYPE_CHECKING:
    from robustmix.attacks.fgsm import fgsm, fgsm_step, input_gradient
    from robustmix.attacks.harness import Attacked, rescore
    from robustmix.attacks.registry import ATTACKS

__all__ = [
    "ATTACKS",
    "DESCRIPTIONS",
    "Attacked",
    "fgsm",
    "fgsm_step",
    "input_gradient",
    "rescore",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "ATTACKS": "robustmix.attacks.registry",
        "Attacked": "robustmix.attacks.harness",
        "fgsm": "robustmix.attacks.fgsm",
        "fgsm_step": "robustmix.attacks.fgsm",
        "input_gradient": "robustmix.attacks.fgsm",
        "rescore": "robustmix.attacks.harness",
    },
)
