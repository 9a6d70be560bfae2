"""What an evaluation costs beside the bare forward passes of the same small network.

    python -m benchmarks.clean_overhead [--n 10000] [--rounds 3] [--out FILE.json]

ResNet-20 on images of CIFAR-100's shape, one thread, CPU time. Three contestants in turn, on the
same pixels: a bare loop that does nothing but convert uint8 to float, normalise, run the network in
inference mode on batches of 128 and count top-1; ``robustmix.evaluate(model, data, ["clean"])``;
and the same with ``calibration``. Engine, scores, intervals, checks and report are included.

On a busy machine the same passes take a tenth more or less of the processor's time from minute to
minute, which is as much as there is to see. So the time within the network is taken too, in the
same run: what is compared is how many times the network's own time, for each image once, a
contestant takes in all.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor, nn

import robustmix
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.models.resnet import ResNet
from robustmix.models.robust_model import RobustModel

BATCH = 128
CLASSES = 100
SUITES = {"clean": ["clean"], "clean_calibration": ["clean", "calibration"]}
GOALS = {"clean": 1.05, "clean_calibration": 1.15}


class Clocked(nn.Module):
    """A network that counts its images, and the processor's seconds that they take."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.images, self.seconds = 0, 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits."""
        begun = time.thread_time()
        logits: Tensor = self.net(x)
        self.seconds += time.thread_time() - begun
        self.images += len(x)
        return logits


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
        Clocked(net), mean=(0.5,) * 3, std=(0.25,) * 3, num_classes=CLASSES, input_size=(3, 32, 32)
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


class Spent(NamedTuple):
    """What some work took."""

    all_s: float
    """Of the processor, all threads."""

    network_s: float
    """Of these within the network, for each image once."""

    right: int

    @property
    def times(self) -> float:
        """How many times the network's own time it is."""
        return self.all_s / self.network_s


def timed(model: RobustModel, work: Callable[[], int], n: int) -> Spent:
    """Time some work on ``n`` images."""
    clock = model.net
    assert isinstance(clock, Clocked)
    clock.images, clock.seconds = 0, 0.0
    begun = time.process_time()
    right = work()
    return Spent(time.process_time() - begun, clock.seconds * n / clock.images, right)


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
    works = contestants(model, data)
    rounds: list[dict[str, Spent]] = []
    for _ in range(options.rounds):
        spent = {name: timed(model, work, options.n) for name, work in works.items()}
        assert len({one.right for one in spent.values()}) == 1, "all count the same images"
        rounds.append(spent)
        told = (f"{name} {one.all_s:.2f} s, {one.times:.4f}" for name, one in spent.items())
        print("; ".join(told), flush=True)
    ratios = {
        name: statistics.median(spent[name].times / spent["bare"].times for spent in rounds)
        for name in SUITES
    }
    result: dict[str, Any] = {
        "what": "evaluations beside a bare loop of the same forward passes: CPU time over that "
        "within the network in the same run, and of these the ratio, median over rounds; "
        "ResNet-20, images of CIFAR-100's shape, batch 128",
        "command": f"python -m benchmarks.clean_overhead --n {options.n} --rounds {options.rounds}",
        "n": options.n,
        "threads": 1,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "machine": f"{platform.machine()}, CPU",
        "ratio": ratios,
        "goal": GOALS,
        "rounds": [{name: one._asdict() for name, one in spent.items()} for spent in rounds],
    }
    print(json.dumps({k: v for k, v in result.items() if k != "rounds"}, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
