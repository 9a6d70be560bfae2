import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cifar100_root() -> Path:
    """The data folder with the official CIFAR-100, or a skip that says what is missing."""
    folder = os.environ.get("ROBUSTMIX_DATA")
    if not folder or not (Path(folder) / "cifar-100-python").is_dir():
        pytest.skip("needs the official archive in $ROBUSTMIX_DATA/cifar-100-python")
    return Path(folder)
