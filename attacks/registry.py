"""The one table of attacks."""

from collections.abc import Callable

from torch import Tensor

from robustmix.attacks.fgsm import fgsm

ATTACKS: dict[str, Callable[..., Tensor]] = {
    "fgsm": fgsm,
}
