"""The one table of attacks."""

from collections.abc import Callable

from torch import Tensor

from robustmix.attacks.apgd import apgd
from robustmix.attacks.autoattack import Stage, autoattack
from robustmix.attacks.fgsm import fgsm
from robustmix.attacks.pgd import pgd
from robustmix.attacks.search import Outcome
from robustmix.attacks.square import square
from robustmix.attacks.torchattacks_adapter import torchattack

ATTACKS: dict[str, Callable[..., Tensor | Outcome | tuple[Stage, ...]]] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "apgd": apgd,
    "square": square,
    "autoattack": autoattack,
    "torchattacks:NAME": torchattack,
}
