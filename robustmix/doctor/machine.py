"""What this machine is: versions, threads, data found, and how fast a network runs here."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from robustmix.data.homes import find_home
from robustmix.data.location import data_folder
from robustmix.data.manifests import DATASETS, load_manifest
from robustmix.environment import describe_environment
from robustmix.evaluation.engine import guarded
from robustmix.models.registry import build_model

PROBE_ARCH = "resnet18"
PROBE_BATCH = 16


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return versions, device and threads, JSON-like."""
    described = dict(describe_environment(device))
    described["interop_threads"] = torch.get_num_interop_threads()
    return described


def find_data(data_dir: Path | None) -> dict[str, str]:
    """Return ``found``, ``missing``, ``incomplete``, ``embedded`` or ``unreadable`` for data sets.

    Sizes are compared with the manifest, checksums are not computed; of sets of image files only
    where they lie is looked for.
    """
    root = data_folder(data_dir)
    found: dict[str, str] = {}
    for name in DATASETS:
        try:
            found[name] = _state(root, name)
        except OSError:
            found[name] = "unreadable"
    return found


def _state(root: Path, name: str) -> str:
    manifest = load_manifest(name)
    if manifest.homes:
        return "missing" if find_home(manifest, root) is None else "found"
    wanted = [file for file in manifest.files if not file.optional]
    if not wanted:
        return "embedded"
    there = [file for file in wanted if (root / file.path).is_file()]
    right = [
        file
        for file in there
        if file.bytes is None
        or not file.bytes_exact
        or (root / file.path).stat().st_size == file.bytes
    ]
    if not there:
        return "missing"
    return "found" if len(right) == len(wanted) else "incomplete"


def probe_speed(device: torch.device, *, seconds: float = 1.5) -> dict[str, Any]:
    """Return how many 32x32 images a second a ResNet-18 passes, JSON-like.

    Args:
        device: where it runs.
        seconds: about how long to measure, over both directions.
    """
    net = build_model(PROBE_ARCH, num_classes=100, input_size=(3, 32, 32)).eval().to(device)
    net.requires_grad_(False)
    images = torch.rand(PROBE_BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(
        device
    )
    labels = torch.zeros(PROBE_BATCH, dtype=torch.int64, device=device)

    def forward() -> None:
        with torch.no_grad():
            net(images)

    def both() -> None:
        inputs = images.clone().requires_grad_()
        torch.autograd.grad(F.cross_entropy(net(inputs), labels), inputs)

    with guarded(device):
        one = _per_second(forward, device, seconds / 2)
        two = _per_second(both, device, seconds / 2)
    return {
        "arch": PROBE_ARCH,
        "input": "32x32",
        "batch": PROBE_BATCH,
        "forward_images_per_s": one,
        "forward_backward_images_per_s": two,
    }


def _per_second(work: Callable[[], None], device: torch.device, seconds: float) -> float:
    work()  # the first call allocates and chooses kernels
    _wait(device)
    begun, done = time.perf_counter(), 0
    while True:
        work()
        _wait(device)
        done += PROBE_BATCH
        spent = time.perf_counter() - begun
        if spent >= seconds:
            return done / spent


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
