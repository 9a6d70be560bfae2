import doctest
import importlib
import pkgutil

import pytest

import robustmix.corruptions

MODULES = [
    module.name
    for module in pkgutil.iter_modules(
        robustmix.corruptions.__path__, prefix="robustmix.corruptions."
    )
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
