"""What a training step costs, method by method, beside the published passes of AdAutoMix.

    python benchmarks/training_step.py [--rounds 7] [--threads 2] [--batch 100] [--device cpu]
        [--arch resnet18] [--samples 3] [--only NAME ...] [--out FILE.json]

Every round makes one step of each contestant, in turn and in this process, on the same images:
``plain`` is AdAutoMix with every forward pass of the released code, ``fast`` the same step in the
fewest exact passes, ``bf16`` either with bf16 autocast and channels_last, ``compiled`` (if
``--only`` names it) what ``--compile on`` makes of it, for which the warm-up must be long enough to
see every variant. A step is
``training_step``, backward pass, SGD and moving average. Ratios are taken inside a round, so a
machine whose speed drifts does not decide; the median over the rounds is what counts. Seconds of
all CPU cores are given beside those of the clock: other work on the machine disturbs them less.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robustmix.data.loader import Batch
from robustmix.methods import Setup, TeacherMethod
from robustmix.methods.registry import build_method
from robustmix.models.registry import build_model
from robustmix.training.compiled import compile_mode, compiled_step
from robustmix.training.optim import build_optimizer

CLASSES, SIZE = 100, (3, 32, 32)


@dataclass(frozen=True)
class Contestant:
    """A method and how its steps are made."""

    method: str
    options: dict[str, Any]
    bf16: bool = False
    compiled: bool = False


def contestants(samples: int) -> dict[str, Contestant]:
    """Return who may take part, by name; the first is what the others are compared with."""
    plain = {"mix_samples": samples, "passes": "plain"}
    fast = {"mix_samples": samples}
    eager = {
        "adautomix plain": Contestant("adautomix", plain),
        "adautomix fast": Contestant("adautomix", fast),
        "adautomix plain bf16": Contestant("adautomix", plain, bf16=True),
        "adautomix fast bf16": Contestant("adautomix", fast, bf16=True),
        "automix": Contestant("automix", {}),
        "automix bf16": Contestant("automix", {}, bf16=True),
        "puzzlemix": Contestant("puzzlemix", {}),
        "puzzlemix bf16": Contestant("puzzlemix", {}, bf16=True),
        "mixup": Contestant("mixup", {}),
        "vanilla": Contestant("vanilla", {}),
    }
    return eager | {f"{name} compiled": replace(one, compiled=True) for name, one in eager.items()}


def stepper(
    contestant: Contestant, arch: str, batch: Batch, device: torch.device
) -> Callable[[], tuple[float, float]]:
    """Return a function that makes one step and returns its seconds, of the clock and of CPUs."""
    network = build_model(arch, num_classes=CLASSES, input_size=SIZE)
    setup = Setup(rng=np.random.default_rng(0), input_size=SIZE)
    method: Any = build_method(contestant.method, network, contestant.options, setup)
    layout = torch.channels_last if contestant.bf16 else torch.contiguous_format
    method.to(device, memory_format=layout).train()
    generator = method.generator if isinstance(method, TeacherMethod) else None
    optimizer = build_optimizer(
        "sgd", method, lr=0.1, momentum=0.9, weight_decay=1e-4, generator=generator
    )
    batch = batch._replace(images=batch.images.contiguous(memory_format=layout))
    made, make = 0, method.training_step
    if contestant.compiled:
        mode = compile_mode("on", device)
        assert mode is not None
        make = compiled_step(method, len(batch.labels), mode)
        assert make is not None

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    def step() -> tuple[float, float]:
        nonlocal made
        wait()
        begun, used = time.perf_counter(), time.process_time()
        with torch.autocast(device.type, torch.bfloat16, enabled=contestant.bf16):
            loss = make(batch).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if isinstance(method, TeacherMethod):
            method.after_step(made, 10**6)
        made += 1
        wait()
        return time.perf_counter() - begun, time.process_time() - used

    return step


def random_batch(n: int, device: torch.device) -> Batch:
    """Return normalised noise with labels."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(n, *SIZE, generator=generator).to(device)
    labels = torch.randint(CLASSES, (n,), generator=generator).to(device)
    return Batch(images, labels, torch.arange(n))


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    batch = random_batch(options.batch, device)
    known = contestants(options.samples)
    unknown = sorted(set(options.only or ()) - known.keys())
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    chosen = options.only or [name for name, one in known.items() if not one.compiled]
    named = {name: known[name] for name in chosen}
    steps = {name: stepper(one, options.arch, batch, device) for name, one in named.items()}
    first = next(iter(steps))
    rounds: list[dict[str, tuple[float, float]]] = []
    for number in range(options.warm_up + options.rounds):
        seconds = {name: step() for name, step in steps.items()}
        if number >= options.warm_up:
            rounds.append(seconds)
        print("  ".join(f"{name} {value[0]:.3f} s" for name, value in seconds.items()), flush=True)

    def ratios(which: int) -> dict[str, float]:
        pairs = {name: [r[name][which] / r[first][which] for r in rounds] for name in steps}
        return {name: statistics.median(values) for name, values in pairs.items()}

    result = {
        "what": f"one training step, {options.arch}, batch {options.batch}, N = {options.samples}",
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()}, CPU",
        "compared_with": first,
        "median_s": {name: statistics.median(r[name][0] for r in rounds) for name in steps},
        "ratio_median": ratios(0),
        "ratio_median_of_cpu_seconds": ratios(1),
        "rounds_s_and_cpu_s": rounds,
    }
    print(json.dumps({k: v for k, v in result.items() if k != "rounds_s_and_cpu_s"}, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
