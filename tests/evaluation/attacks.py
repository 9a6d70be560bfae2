"""Attack suites as the tests ask for them."""

from typing import Any

from robustmix.evaluation.suites.attack import Attack


def attack(name: str, **options: Any) -> Attack:
    """Give the suite of an attack, without the masking checks unless they are asked for."""
    return Attack(attack=name, masking="off").with_options(**options)
