"""What an evaluation costs beside the bare forward passes of the same small network.

    python -m benchmarks.clean_overhead [--n 10000] [--rounds 3] [--out FILE.json]

ResNet-20 on images of CIFAR-100's shape, one thread, CPU time. Three contestants in turn, on the
same pixels: a bare loop that does nothing but convert uint8 to float, normalise, run the network in
inference mode on batches of 128 and count top-1; ``robustmix.evaluate(model, data, ["clean"])``;
and the same with ``calibration``. Engine, scores, intervals, checks and report are included.
Figures are ratios of the same round, so a machine whose speed drifts does not decide.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch

import robustmix
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.models.resnet import ResNet
from robustmix.models.robust_model import RobustModel

BATCH = 128
CLASSES = 100
SUITES = {"clean": ["clean"], "clean_calibration": ["clean", "calibration"]}
GOALS = {"clean": 1.05, "clean_calibration": 1.15}


def make_model(generator: torch.Generator) -> RobustModel:
    """Return a ResNet-20 of random weights whose logits lie as far apart as a trained one's."""
    net = ResNet(CLASSES, block="basic", depths=(3, 3, 3), stem="cifar", width=16)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        net.fc.weight *= 4  # type: ignore[operator]
    return RobustModel(
        net, mean=(0.5,) * 3, std=(0.25,) * 3, num_classes=CLASSES, input_size=(3, 32, 32)
    )


def make_images(model: RobustModel, n: int, generator: torch.Generator) -> ImageSet:
    """Return random images of CIFAR-100's shape, labelled as the model itself believes."""
    coarse = torch.rand(n, 3, 4, 4, generator=generator)
    images = (torch.nn.functional.interpolate(coarse, size=32) * 255).round().to(torch.uint8)
    with torch.no_grad():
        logits = torch.cat([model(batch.float() / 255) for batch in images.split(BATCH)])
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    return ImageSet(
        name="random",
        split="test",
        pixels=TensorPixels(images),
        labels=labels,
        sample_ids=tuple(f"random/test/{i}" for i in range(n)),
        class_names=tuple(map(str, range(CLASSES))),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def bare(model: RobustModel, images: torch.Tensor, labels: torch.Tensor) -> int:
    """Return how many images are classified rightly."""
    right = torch.zeros((), dtype=torch.int64)
    with torch.inference_mode():
        for batch, truth in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            logits = model.net((batch.float() / 255 - model.mean) / model.std)
            right += (logits.argmax(dim=1) == truth).sum()
    return int(right)


def contestants(model: RobustModel, data: ImageSet) -> dict[str, Callable[[], int]]:
    """Return what is timed; each gives the number of images that are classified rightly."""
    n = len(data)
    images = data.pixels.take(torch.arange(n))

    def evaluated(suites: list[str]) -> int:
        report = robustmix.evaluate(model, data, suites, batch_size=BATCH, device="cpu")
        assert report.content.run.status == "success"
        return round((report.metric("clean.top1").value or 0) * n)

    found: dict[str, Callable[[], int]] = {"bare": lambda: bare(model, images, data.labels)}
    for name, suites in SUITES.items():
        found[name] = lambda suites=suites: evaluated(suites)  # type: ignore[misc]
    return found


def timed(work: Callable[[], int]) -> tuple[float, int]:
    """Return the processor's seconds of some work, and what it gave."""
    begun = time.process_time()
    right = work()
    return time.process_time() - begun, right


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    model = make_model(generator)
    data = make_images(model, options.n, generator)
    for work in contestants(model, data.subset(range(BATCH))).values():
        work()  # imports what there is to import
    rounds: list[dict[str, float]] = []
    for i in range(options.rounds):
        spent: dict[str, float] = {}
        rights = set()
        for name, work in contestants(model, data).items():
            spent[name], right = timed(work)
            rights.add(right)
        assert len(rights) == 1, "all count the same images"
        rounds.append(spent)
        print(f"round {i}: " + ", ".join(f"{k} {v:.2f} s" for k, v in spent.items()), flush=True)
    ratios = {
        name: statistics.median(spent[name] / spent["bare"] for spent in rounds) for name in SUITES
    }
    result: dict[str, Any] = {
        "what": "evaluations beside a bare loop of the same forward passes: ratio of CPU time, "
        "median over rounds; ResNet-20, images of CIFAR-100's shape, batch 128",
        "command": f"python -m benchmarks.clean_overhead --n {options.n} --rounds {options.rounds}",
        "n": options.n,
        "threads": 1,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": f"{platform.machine()}, CPU",
        "ratio": ratios,
        "goal": GOALS,
        "rounds": rounds,
    }
    print(json.dumps({k: v for k, v in result.items() if k != "rounds"}, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
