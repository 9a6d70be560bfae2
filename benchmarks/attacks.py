"""Where the time of the attack suites goes, and PGD beside that of torchattacks.

    python benchmarks/attacks.py [--n 16] [--repeats 5] [--threads 2] [--arch resnet18]
                                 [--device cpu] [--out FILE.json]

First question: which share of a suite's wall time its model spends forward and backward. The model
is asked through a clock that runs from the start of a forward pass to its end, and from the moment
a gradient enters the logits until it has reached the images. Two suites: ``fgsm`` with its sweep of
nine radii, and ``pgd`` with 20 steps, engine, checks, scores and rows included.

Second question: PGD-20 here, with its per-sample record (best and last image, success and loss at
every step, passes), beside ``torchattacks.PGD`` of as many steps, in turn in one process on the
same pixels: alone, which returns images and says nothing of whether they are misclassified, and
with the forward pass that tells. Ratios are of the same round and, on a CPU, of the process's CPU
seconds, so that a busy machine does not decide.
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

import robustmix
from robustmix.attacks import pgd
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.evaluation.suites.attack import Attack
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel
from robustmix.rng import sample_keys

EPS, STEPS = 8 / 255, 20


def make_images(n: int) -> ImageSet:
    """Return random images of CIFAR-100's shape."""
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        name="random",
        split="test",
        pixels=TensorPixels(
            torch.randint(256, (n, 3, 32, 32), generator=generator, dtype=torch.uint8)
        ),
        labels=torch.randint(100, (n,), generator=generator),
        sample_ids=tuple(f"random/test/{i}" for i in range(n)),
        class_names=tuple(map(str, range(100))),
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )


def now(device: torch.device) -> float:
    """Return the time once the device has done what it was asked to."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Clocked(nn.Module):
    """A network whose passes in both directions are timed."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.forward_s = self.backward_s = 0.0
        self.entered = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits; note when gradients enter them and reach ``x``."""
        begun = now(x.device)
        if x.requires_grad:
            x.register_hook(self._leave)  # type: ignore[no-untyped-call]
        logits: Tensor = self.net(x)
        if logits.requires_grad:
            logits.register_hook(self._enter)  # type: ignore[no-untyped-call]
        self.forward_s += now(x.device) - begun
        return logits

    def _enter(self, gradient: Tensor) -> None:
        self.entered = now(gradient.device)

    def _leave(self, gradient: Tensor) -> None:
        self.backward_s += now(gradient.device) - self.entered


def share_of_model(
    net: nn.Module, data: ImageSet, attack: str, batch: int, device: str
) -> dict[str, float]:
    """Return the seconds of one suite and those of the model's passes in it."""
    clocked = Clocked(net)
    model = wrap(clocked)
    before: dict[str, float] = {}

    class Marks:
        def start(self, suite: str, total: int) -> None:
            before[suite] = clocked.forward_s + clocked.backward_s

        def advance(self, suite: str, part: str, samples: int) -> None: ...

        def close(self) -> None: ...

    report = robustmix.evaluate(
        model,
        data,
        [Attack(attack=attack, masking="off")],
        batch_size=batch,
        device=device,
        progress=Marks(),
    )
    wall = report.content.timing[attack]
    in_model = clocked.forward_s + clocked.backward_s - before[attack]
    return {"suite_s": wall, "model_s": in_model, "share": in_model / wall}


def wrap(net: nn.Module) -> RobustModel:
    """Return a network as the toolkit evaluates it."""
    return RobustModel(
        net, mean=(0.5,) * 3, std=(0.25,) * 3, num_classes=100, input_size=(3, 32, 32)
    )


def timed(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Return the wall seconds of a call and those that count: of the CPU's work, if it is one."""
    begun, cpu = now(device), time.process_time()
    call()
    wall = now(device) - begun
    return {"wall_s": wall, "s": time.process_time() - cpu if device.type == "cpu" else wall}


def beside_torchattacks(
    model: RobustModel, data: ImageSet, repeats: int, device: torch.device
) -> list[dict[str, dict[str, float]]]:
    """Return the seconds of both implementations of PGD, round by round."""
    import torchattacks

    images = data.pixels.take(torch.arange(len(data))).to(device).float() / 255
    labels = data.labels.to(device)
    theirs = torchattacks.PGD(model, eps=EPS, alpha=EPS / 4, steps=STEPS, random_start=True)
    keys = sample_keys(0, "pgd", "8/255", 0, data.sample_ids)

    def ours() -> None:
        pgd(model, images, labels, eps=EPS, steps=STEPS, keys=keys)

    def package() -> Tensor:
        found: Tensor = theirs(images, labels)
        return found

    def package_scored() -> Tensor:
        found = package()
        with torch.no_grad():
            return model(found).argmax(dim=1) != labels

    calls: dict[str, Callable[[], object]] = {
        "ours": ours,
        "torchattacks": package,
        "torchattacks scored": package_scored,
    }
    for call in calls.values():
        call()
    rounds = []
    for i in range(repeats):
        order = list(calls)[i % 3 :] + list(calls)[: i % 3]
        rounds.append({name: timed(calls[name], device) for name in order})
        print(f"round {i}: " + ", ".join(f"{k} {v['s']:.2f} s" for k, v in rounds[-1].items()))
    return rounds


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    net = build_model(options.arch, num_classes=100, input_size=(3, 32, 32)).to(device)
    data = make_images(options.n)
    shares: dict[str, list[dict[str, float]]] = {}
    for name in ("fgsm", "pgd"):
        share_of_model(net, data, name, options.n, options.device)
        shares[name] = []
        for _ in range(options.repeats):
            shares[name].append(share_of_model(net, data, name, options.n, options.device))
            print(name, shares[name][-1])
    rounds = beside_torchattacks(wrap(net).to(device), data, options.repeats, device)
    result = {
        "what": f"{options.arch} (CIFAR stem), {options.n} images of 32x32 in one batch, eps 8/255",
        "n": options.n,
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {options.device}",
        "share_of_time_in_the_model_median": {
            name: statistics.median(r["share"] for r in found) for name, found in shares.items()
        },
        "pgd20_ratio_median": {
            name: statistics.median(r["ours"]["s"] / r[name]["s"] for r in rounds)
            for name in ("torchattacks", "torchattacks scored")
        },
        "shares": shares,
        "pgd20_rounds": rounds,
    }
    print(json.dumps({k: v for k, v in result.items() if "median" in k}, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
