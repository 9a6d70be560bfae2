"""What the masking checks cost of an FGSM evaluation, in the sequential design and in full.

    python benchmarks/masking.py [--n 512] [--full-n 128] [--epochs 6] [--repeats 5]
                                 [--trained plain|adversarial] [--weights FILE] [--out FILE.json]

A small convolutional network is trained on ten classes of CIFAR-100 (``ROBUSTMIX_DATA``), plainly
or on FGSM's images from random starts (Wong et al. 2020, arXiv:2001.03994), which makes one that
attacks do not break at once. Evaluated are the first ``n`` test images of these classes that it
classifies right, so that the checks have as many candidates as there are images: their share is
never larger. The run is ``robustmix.evaluate(model, data, ["fgsm"])``: suite clean, the sweep of
nine radii, the checks, report included. It is made with and without the checks, in turn in one
process of one thread; the full battery, whose share hardly depends on it, on fewer images and once.
Figures are of the process's CPU seconds and of the passes that the report counts, a backward pass
to the images as one.
"""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import robustmix
from robustmix.data.datasets import load_dataset
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report

CLASSES = (0, 8, 20, 30, 41, 52, 60, 69, 76, 90)
MEAN, STD, EPS, BATCH = 0.5, 0.25, 8 / 255, 100


def network() -> nn.Sequential:
    """Return four convolutions with batch norm and a linear layer, 3.4 million products."""

    def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

    blocks = (block(3, 16, 1), block(16, 32, 2), block(32, 64, 2), block(64, 64, 2))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 10))


def images_of(split: str) -> tuple[Tensor, Tensor]:
    """Return the ten classes' images, uint8 (n, 3, 32, 32), and their labels from 0 to 9."""
    whole = load_dataset("cifar100", "train" if split == "train" else "test")
    among = torch.isin(whole.labels, torch.tensor(CLASSES))
    labels = torch.tensor([CLASSES.index(int(label)) for label in whole.labels[among]])
    return whole.pixels.take(among.nonzero().flatten()), labels


def perturbed(net: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return images one signed step from a random start in the ball."""
    start = torch.empty_like(images).uniform_(-EPS, EPS).requires_grad_()
    loss = F.cross_entropy(net((images + start - MEAN) / STD), labels)
    (gradient,) = torch.autograd.grad(loss, start)
    change = (start.detach() + 1.25 * EPS * gradient.sign()).clamp(-EPS, EPS)
    return (images + change).clamp(0, 1)


def trained(epochs: int, *, adversarial: bool) -> nn.Module:
    """Return the network after some epochs, in evaluation mode."""
    torch.manual_seed(0)
    pixels, labels = images_of("train")
    images, net = pixels.float() / 255, network()
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(BATCH):
            batch = images[rows]
            if adversarial:
                batch = perturbed(net, batch, labels[rows])
            loss = F.cross_entropy(net((batch - MEAN) / STD), labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return net.eval()


def wrapped(net: nn.Module) -> RobustModel:
    """Return a network as the toolkit evaluates it."""
    return RobustModel(
        net, mean=(MEAN,) * 3, std=(STD,) * 3, num_classes=10, input_size=(3, 32, 32)
    )


def right_ones(model: RobustModel, n: int) -> ImageSet:
    """Return the first ``n`` test images that the model classifies right."""
    pixels, labels = images_of("test")
    with torch.no_grad():
        right = (model(pixels.float() / 255).argmax(dim=1) == labels).nonzero().flatten()[:n]
    assert len(right) == n, f"only {len(right)} images are classified right; train for longer"
    return ImageSet(
        name="ten classes of CIFAR-100",
        split="test",
        pixels=TensorPixels(pixels[right]),
        labels=labels[right],
        sample_ids=tuple(f"right/{i}" for i in right.tolist()),
        class_names=tuple(map(str, CLASSES)),
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
    )


def timed(model: RobustModel, data: ImageSet, design: str) -> tuple[float, Report]:
    """Return the CPU seconds of an FGSM evaluation with a design of the checks, and its report."""
    checks = {"masking": "off"} if design == "off" else {"masking_design": design}
    begun = time.process_time()
    report = robustmix.evaluate(model, data, ["fgsm"], batch_size=128, device="cpu", **checks)
    return time.process_time() - begun, report


def passes_of(report: Report, suite: str) -> int:
    """Return the passes of a suite, a backward pass as one."""
    found = report.content.suites[suite].details
    return int(found["forwards"]) + int(found["backwards"])


def measured(
    model: RobustModel, data: ImageSet, design: str, repeats: int, note: Callable[[str], None]
) -> dict[str, object]:
    """Return what a design costs beside the same evaluation without the checks."""
    reports: dict[str, Report] = {}
    rounds: list[dict[str, float]] = []
    for i in range(repeats):
        seconds: dict[str, float] = {}
        for one in ("off", design)[:: (-1) ** i]:
            seconds[one], reports[one] = timed(model, data, one)
        rounds.append(seconds)
        note(f"{design}, round {i}: " + ", ".join(f"{k} {v:.2f} s" for k, v in seconds.items()))
    part = reports[design].content.suites["masking"]
    passes, rest = (
        passes_of(reports[design], "masking"),
        len(data) + passes_of(reports["off"], "fgsm"),
    )
    return {
        "n": len(data),
        "share_of_cpu_s_median": statistics.median(1 - one["off"] / one[design] for one in rounds),
        "share_of_passes": passes / (passes + rest),
        "passes": passes,
        "passes_of_the_rest": rest,
        "verdict": part.verdicts[0].verdict,
        "decided_by": part.details["decided_by"],
        "stages": part.details["stages"],
        "robust_acc": reports[design].metric("fgsm.robust_acc").value,
        "rounds_cpu_s": rounds,
    }


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--full-n", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--trained", choices=("plain", "adversarial"), default="plain")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.weights is not None and options.weights.exists():
        net: nn.Module = network().eval()
        net.load_state_dict(torch.load(options.weights, weights_only=True))
    else:
        net = trained(options.epochs, adversarial=options.trained == "adversarial")
        if options.weights is not None:
            torch.save(net.state_dict(), options.weights)
    model = wrapped(net)
    whole, few = right_ones(model, options.n), right_ones(model, options.full_n)
    timed(model, few, "sequential")

    def note(line: str) -> None:
        print(line, flush=True)

    result: dict[str, object] = {
        "what": "the masking checks' share of an FGSM evaluation of images that are classified "
        f"right, ten classes of CIFAR-100, {options.trained} training, eps 8/255, batches of 128",
        "command": f"python benchmarks/masking.py --n {options.n} --full-n {options.full_n} "
        f"--epochs {options.epochs} --repeats {options.repeats} --trained {options.trained}",
        "threads": 1,
        "torch": torch.__version__,
        "robustmix": robustmix.__version__,
        "machine": f"{platform.machine()}, CPU",
        "sequential": measured(model, whole, "sequential", options.repeats, note),
        "full": measured(model, few, "full", 1, note),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
