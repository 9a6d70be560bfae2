"""Small networks, checkpoints and hostile files that several tests of the models share."""

import functools
import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from robustmix.models.checkpoint import Checkpoint
from robustmix.models.registry import build_model

CLASSES = 7
SIZE = (3, 32, 32)


def state(seed: int, arch: str = "resnet8", classes: int = CLASSES) -> dict[str, Tensor]:
    """Return weights and running statistics of which none is a round number."""
    return {key: value.clone() for key, value in _state(seed, arch, classes).items()}


@functools.cache
def _state(seed: int, arch: str, classes: int) -> dict[str, Tensor]:
    net = build_model(arch, num_classes=classes, input_size=SIZE)
    generator = torch.Generator().manual_seed(seed)
    values = net.state_dict()
    for key, value in values.items():
        if value.is_floating_point():
            spread = 0.1 if value.ndim > 1 else 0.5
            noise = torch.randn(value.shape, generator=generator)
            values[key] = spread * noise.abs() + 0.5 if "running_var" in key else spread * noise
    return values


def network(weights: dict[str, Tensor], arch: str = "resnet8") -> nn.Module:
    """Return the plain network with these weights, in eval mode."""
    classes = len(weights["fc.weight"])
    net = build_model(arch, num_classes=classes, input_size=SIZE)
    net.load_state_dict(weights)
    return net.eval()


def images(n: int = 3, size: tuple[int, int, int] = SIZE) -> Tensor:
    return torch.rand(n, *size, generator=torch.Generator().manual_seed(99))


def checkpoint(seed: int = 0, /, **changes: object) -> Checkpoint:
    base = Checkpoint(
        arch="resnet8",
        arch_options={"stem": "cifar"},
        method="mixup",
        num_classes=CLASSES,
        input_size=SIZE,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.25, 0.3),
        class_names=tuple("abcdefg"),
        dataset="digits",
        recipe={"epochs": 2, "alpha": [1.0, None], "nested": {"amp": False}},
        run_id="a-run",
        epoch=2,
        metrics={"top1": 0.5, "loss": None},
        model=state(seed),
        resume={"optimizer": {"state": {0: {"step": 3}}, "momentum": torch.arange(3.0)}},
    )
    return replace(base, **changes)  # type: ignore[arg-type]


class CreatesFile:
    """Unpickling it runs a function that leaves a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (str(self.target),)


class RunsCommand(CreatesFile):
    """Unpickling it runs a shell command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, (f"touch {self.target}",)


class Evaluates(CreatesFile):
    """Unpickling it evaluates an expression."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (f"open({str(self.target)!r}, 'w')",)


def plain_pickle(value: object, protocol: int = 2) -> bytes:
    return pickle.dumps(value, protocol=protocol)


def torch_file(value: object, *, legacy: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def zip_file(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()
