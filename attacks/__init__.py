"""Attacks: pure functions from images and labels to adversarial images.

``fgsm(model, images, labels, eps=8 / 255)`` gives the images, and so does every other, with nothing
else given: the model takes pixels in [0, 1], images are float32 (N, 3, H, W) in [0, 1].
``fgsm.outcome(...)``, called alike, gives an :class:`Outcome`: the images, whether each reached its
goal, what it cost, and what else the attack knows. Randomness comes from ``seed``, or from one key
a sample, so that no result depends on the batch. The harness clips, re-checks and re-scores
whatever an attack returns.

To add one: a function ``mine(model, images, labels, *, eps, ...) -> images`` and a row of
:data:`ATTACKS`, or ``ATTACKS.register("mine", mine)`` from outside.
"""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.attacks.apgd import apgd as apgd
    from robustmix.attacks.attack import Attack as Attack
    from robustmix.attacks.attack import Option as Option
    from robustmix.attacks.attack import attack as attack
    from robustmix.attacks.attack import attack_of as attack_of
    from robustmix.attacks.attack import draws_by_batch as draws_by_batch
    from robustmix.attacks.attack import options_of as options_of
    from robustmix.attacks.autoattack import AUTOATTACK as AUTOATTACK
    from robustmix.attacks.autoattack import Member as Member
    from robustmix.attacks.autoattack import autoattack as autoattack
    from robustmix.attacks.autoattack import cascade as cascade
    from robustmix.attacks.autoattack import ensemble as ensemble
    from robustmix.attacks.ball import Norm as Norm
    from robustmix.attacks.cw import cw as cw
    from robustmix.attacks.deepfool import deepfool as deepfool
    from robustmix.attacks.fab import fab as fab
    from robustmix.attacks.fgsm import fgsm as fgsm
    from robustmix.attacks.fgsm import fgsm_step as fgsm_step
    from robustmix.attacks.fgsm import input_gradient as input_gradient
    from robustmix.attacks.fgsm import paper_fgsm_step as paper_fgsm_step
    from robustmix.attacks.harness import Attacked as Attacked
    from robustmix.attacks.harness import CountingModel as CountingModel
    from robustmix.attacks.harness import Verified as Verified
    from robustmix.attacks.harness import rescore as rescore
    from robustmix.attacks.harness import verify as verify
    from robustmix.attacks.losses import Goal as Goal
    from robustmix.attacks.losses import Loss as Loss
    from robustmix.attacks.losses import slope as slope
    from robustmix.attacks.losses import standing as standing
    from robustmix.attacks.losses import top_targets as top_targets
    from robustmix.attacks.mifgsm import mifgsm as mifgsm
    from robustmix.attacks.outcome import Outcome as Outcome
    from robustmix.attacks.outcome import Stage as Stage
    from robustmix.attacks.outcome import Trace as Trace
    from robustmix.attacks.pgd import pgd as pgd
    from robustmix.attacks.registry import ATTACKS as ATTACKS
    from robustmix.attacks.registry import FAMILIES as FAMILIES
    from robustmix.attacks.registry import AttackRow as AttackRow
    from robustmix.attacks.registry import attack_norms as attack_norms
    from robustmix.attacks.registry import find_attack as find_attack
    from robustmix.attacks.square import square as square
    from robustmix.attacks.torchattacks_adapter import require_torchattacks as require_torchattacks
    from robustmix.attacks.torchattacks_adapter import torchattack as torchattack
    from robustmix.attacks.transfer import transfer as transfer

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
