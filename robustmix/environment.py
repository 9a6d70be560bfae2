"""What a run ran on: versions, device and settings, without host name or local paths."""

import importlib.metadata
import os
import platform
from datetime import UTC, datetime

import torch

from robustmix.errors import UsageError
from robustmix.launch import launched
from robustmix.text import shortened

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "pillow", "pydantic")

DEVICES = ("cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Processes that torchrun started together take a card each for ``auto`` and ``cuda``.

    Raises:
        UsageError: the name is no device, or this machine does not have it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type not in DEVICES:  # such as meta, which computes nothing
            raise NotImplementedError
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ValueError, TypeError):
        raise UsageError(
            f"there is no device '{shortened(name, 100)}' here",
            "use --device auto or cpu",
            code="E-DEVICE",
        ) from None
    if device.type == "cuda" and device.index is None:
        launch = launched()
        index = launch.local_rank if launch.together else torch.cuda.current_device()
        if index >= torch.cuda.device_count():
            raise UsageError(
                f"process {launch.local_rank + 1} on this machine has no card of its own, there "
                f"are {torch.cuda.device_count()}",
                "start no more processes a node than it has cards, or name one with --device",
                code="E-DEVICE",
            )
        return torch.device("cuda", index)
    return device


def visible_gpus() -> list[str]:
    """Return the CUDA devices that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [] if named is None else [name.strip() for name in named.split(",") if name.strip()]
    return names[:count] if named is not None else list(map(str, range(count)))


def describe_environment(device: torch.device, *, tf32: bool = False) -> dict[str, object]:
    """Return the fields of a report's ``environment``.

    Args:
        device: the run's.
        tf32: whether the network was let to multiply so; all else never is.
    """
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "tf32": tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def timestamp() -> str:
    """Return the time now as RFC 3339 in UTC; ``SOURCE_DATE_EPOCH`` fixes it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return now.isoformat(timespec="seconds").replace("+00:00", "Z")
