"""What mixing costs by itself, method by method, and as a share of a training step of ResNet-18.

    python benchmarks/mixing.py [--threads 1] [--rounds 5] [--sizes 32 224] [--slow] [--out F.json]

For 100 images of 32x32 pixels and 64 of 224x224 it times ``mix``, the part of each method's step
that makes the mixed batch, on the CPU. A step is that of plain training (forward, backward, SGD) of
the same network on as many images. Methods that ask a network for saliency or attention are timed
with its answers given, and once more with its passes. Times are seconds of the CPU, all threads
together, which other work on the machine disturbs least. OpenMixup's time is for a whole step on an
RTX 3060 (data included), from its published logs.

Methods slower than ten steps (SuperMix) are timed once, and only with ``--slow``.
"""

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from robustmix.data.loader import Batch
from robustmix.methods import METHODS, Setup
from robustmix.methods.cutmix import cutmix, draw_cutmix
from robustmix.methods.mixing import Mixer, last_map
from robustmix.methods.puzzlemix import input_saliency
from robustmix.methods.registry import build_method, method_options
from robustmix.methods.transmix import transmix_lam
from robustmix.models.checkpoint import Checkpoint, save_checkpoint
from robustmix.models.registry import arch_options, build_model
from robustmix.training.optim import build_optimizer

ARCH, CLASSES = "resnet18", 100
BATCHES = {32: 100, 224: 64}
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
# These run a network to know what to mix.
ASKS_A_NETWORK = ("attentivemix", "puzzlemix", "co-mixup", "supermix", "alignmix", "snapmix")
SLOW = ("supermix",)
# Median seconds an iteration of the logs of CIFAR-100, ResNet-18, batch 100.
PUBLISHED = {
    "mixup": 0.108,
    "cutmix": 0.081,
    "gridmix": 0.083,
    "resizemix": 0.112,
    "fmix": 0.117,
    "puzzlemix": 0.168,
}


def random_batch(size: int) -> Batch:
    """Return smooth noise with labels, as many images as the benchmark has at this size."""
    generator = torch.Generator().manual_seed(0)
    n = BATCHES[size]
    coarse = torch.randn(n, 3, 8, 8, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    labels = torch.randint(CLASSES, (n,), generator=generator)
    return Batch(images, labels, torch.arange(n))


def teacher(folder: Path, size: int) -> Path:
    """Write an untrained network as a checkpoint; it costs what a trained one does."""
    network = build_model(ARCH, num_classes=CLASSES, input_size=(3, size, size))
    path = folder / f"teacher-{size}.pth"
    save_checkpoint(
        path,
        Checkpoint(
            arch=ARCH,
            arch_options=arch_options(network),
            method="vanilla",
            num_classes=CLASSES,
            input_size=(3, size, size),
            mean=MEAN,
            std=STD,
            class_names=tuple(str(i) for i in range(CLASSES)),
            dataset="cifar100",
            recipe={},
            run_id="",
            epoch=0,
            metrics={},
            weights="raw",
            head=None,
            model=network.state_dict(),
            resume=None,
        ),
    )
    return path


def method_at(name: str, size: int, folder: Path) -> Any:
    """Return a method around a fresh network, ready to mix images of a size."""
    options: dict[str, Any] = {}
    if "teacher" in method_options(name, {}):
        options["teacher"] = str(teacher(folder, size))
    if name == "puzzlemix" and size > 32:
        options |= {"max_blocks": 8, "transport_size": -1}
    shape = (3, size, size)
    network = build_model(ARCH, num_classes=CLASSES, input_size=shape)
    setup = Setup(
        rng=np.random.default_rng(0),
        input_size=shape,
        num_classes=CLASSES,
        mean=MEAN,
        std=STD,
        arch=ARCH,
    )
    return build_method(name, network, options, setup).train()


def transmix_step(batch: Batch) -> Callable[[], object]:
    """Return TransMix's work beside the pass: its image, and its labels from given attention."""
    rng = np.random.default_rng(0)
    size = (batch.images.shape[2], batch.images.shape[3])
    attention = torch.rand(len(batch.images), 14, 14)

    def step() -> object:
        draws = draw_cutmix(len(batch.images), size, 1.0, rng)
        return cutmix(batch.images, draws), transmix_lam(draws, size, attention)

    return step


def seconds(work: Callable[[], object], rounds: int) -> float:
    """Return the median CPU time of a call, after one that is not counted if there are several."""
    taken = []
    for _ in range(rounds + (rounds > 1)):
        begun = time.process_time()
        work()
        taken.append(time.process_time() - begun)
    return statistics.median(taken[1:] or taken)


def plain_step(batch: Batch, size: int) -> Callable[[], None]:
    """Return one step of plain training."""
    network = build_model(ARCH, num_classes=CLASSES, input_size=(3, size, size)).train()
    optimizer = build_optimizer("sgd", network, lr=0.1, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(network(batch.images), batch.labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def stored_passes(name: str, method: Any, batch: Batch) -> AbstractContextManager[object]:
    """Answer what ``mix`` asks a network from memory, so that only the mixing itself is timed."""
    if name == "attentivemix":
        features = method.features(batch.images)
        return patch.object(method, "features", lambda images: features)
    if name == "snapmix":
        activation = method.activation(batch)
        return patch.object(method, "activation", lambda batch: activation)
    if name == "alignmix":  # in training this pass is the one that the loss comes from
        with torch.no_grad():
            maps = last_map(method.network, batch.images)
        return patch("robustmix.methods.alignmix.last_map", lambda network, images: maps)
    if name in ("puzzlemix", "co-mixup"):
        saliency = input_saliency(method.network, batch.images, batch.labels)
        module = f"robustmix.methods.{name.replace('-', '')}.input_saliency"
        return patch(module, lambda *arguments: saliency)
    return nullcontext()


def measure(size: int, rounds: int, slow: bool, folder: Path) -> dict[str, Any]:
    """Time everything at one size."""
    batch = random_batch(size)
    step = seconds(plain_step(batch, size), max(rounds // 2, 1))
    print(f"{len(batch.images)} images of {size}x{size}: a step of {ARCH} takes {step:.3f} s")
    found: dict[str, Any] = {}
    for name in METHODS:
        if name in SLOW and not slow:
            continue
        work: Callable[[], object]
        if name == "transmix":
            work, method = transmix_step(batch), None
        else:
            method = method_at(name, size, folder)
            if not isinstance(method, Mixer) or name == "vanilla":
                continue
            work = lambda mixer=method: mixer.mix(batch)  # noqa: E731
        once = 1 if name in SLOW else rounds
        whole = seconds(work, once) if name in ASKS_A_NETWORK else None
        with stored_passes(name, method, batch):
            taken = whole if name in SLOW else seconds(work, once)
        assert taken is not None
        found[name] = {
            "mix_s": taken,
            "share_of_step": taken / step,
            "with_passes_s": whole,
            "share_with_passes": None if whole is None else whole / step,
        }
        marks = "" if whole is None else f"; with its passes {100 * whole / step:.1f} %"
        if size == 32 and name in PUBLISHED:
            marks += f" (OpenMixup: {PUBLISHED[name]:.3f} s a step)"
        share = 100 * taken / step
        print(f"  {name:13s} {1000 * taken:9.2f} ms  {share:7.2f} %{marks}", flush=True)
    return {"batch": len(batch.images), "step_s": step, "methods": found}


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 224], choices=list(BATCHES))
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        sizes = {
            size: measure(size, options.rounds, options.slow, Path(folder))
            for size in options.sizes
        }
    result = {
        "what": "making a mixed batch, and one training step of the network",
        "arch": ARCH,
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, CPU",
        "published_s_per_iteration": PUBLISHED,
        "sizes": sizes,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
