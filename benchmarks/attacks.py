"""Where the time of the attack suites goes, and FGSM and PGD beside bare loops and other libraries.

    PYTHONPATH=PEERS python benchmarks/attacks.py [--n 4] [--repeats 5] [--rounds 9] [--threads 1]
                                 [--arch resnet18] [--device cpu] [--out FILE.json]

First question: which share of a suite's wall time its model spends forward and backward. The model
is asked through a clock that runs from the start of a forward pass to its end, and from the moment
a gradient enters the logits until it has reached the images. Two suites: ``fgsm`` with its sweep of
nine radii, and ``pgd`` with 20 steps, engine, checks, scores and rows included.

Second question: FGSM and PGD here, with all that their outcomes tell of each sample (for PGD best
and last image, success and loss at every step, passes), and of a model that checks its pixels,
beside bare loops of a few lines over the bare network, and beside torchattacks, foolbox and
adversarial-library (``pip install --target PEERS foolbox adv-lib``), as far as they are installed,
all given the bare network. All in turn in one process on the same pixels. Ratios are of the same
round and, on a CPU, of the process's CPU seconds, so that a busy machine does not decide.
"""

import argparse
import importlib.metadata
import json
import platform
import statistics
import sys
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import robustmix
from robustmix.attacks import fgsm, pgd
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.evaluation.suites.attack import Attack
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel
from robustmix.rng import sample_keys

EPS, STEPS = 8 / 255, 10
MEAN, STD = 0.5, 0.25
GOAL = 1.02
"""Most that robustmix's time may be of the bare loop's."""


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
        mean=(MEAN,) * 3,
        std=(STD,) * 3,
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
        net, mean=(MEAN,) * 3, std=(STD,) * 3, num_classes=100, input_size=(3, 32, 32)
    )


def timed(call: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Return the wall seconds of a call and those that count: of the CPU's work, if it is one."""
    begun, cpu = now(device), time.process_time()
    call()
    wall = now(device) - begun
    return {"wall_s": wall, "s": time.process_time() - cpu if device.type == "cpu" else wall}


class Bare(nn.Module):
    """A network of pixels in [0, 1] that checks nothing."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> Tensor:
        """Return logits."""
        logits: Tensor = self.net((images - MEAN) / STD)
        return logits


def gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of the summed cross-entropy with respect to the images."""
    probe = images.detach().requires_grad_()
    loss = F.cross_entropy(model(probe), labels, reduction="sum")
    return torch.autograd.grad(loss, probe)[0]


def bare_fgsm(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Make one signed step."""
    return (images + EPS * gradient(model, images, labels).sign()).clamp(0, 1)


def bare_pgd(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Make signed steps from a random start, as every textbook has it."""
    found = (images + torch.empty_like(images).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(STEPS):
        found = found + EPS / 4 * gradient(model, found, labels).sign()
        found = (images + (found - images).clamp(-EPS, EPS)).clamp(0, 1)
    return found


def scored(model: nn.Module, found: Tensor, labels: Tensor) -> Tensor:
    """Tell whether images are misclassified."""
    with torch.no_grad():
        return model(found).argmax(dim=1) != labels


Call = Callable[[], object]


def own_and_bare(
    robust: RobustModel, bare: nn.Module, images: Tensor, labels: Tensor, keys: Tensor
) -> dict[str, dict[str, Call]]:
    """Return robustmix's attacks and the bare loops, images alone and with their scores."""
    return {
        "fgsm": {
            "robustmix": lambda: fgsm(robust, images, labels, eps=EPS),
            "bare": lambda: bare_fgsm(bare, images, labels),
        },
        "pgd": {
            # Success and the last image's score are part of what it tells.
            "robustmix": lambda: pgd.outcome(
                robust, images, labels, eps=EPS, steps=STEPS, keys=keys
            ),
            "bare": lambda: scored(bare, bare_pgd(bare, images, labels), labels),
        },
    }


def torchattacks_calls(bare: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Call]:
    """Return torchattacks' attacks; they return images alone, so that PGD is scored here."""
    import torchattacks

    one = torchattacks.FGSM(bare, eps=EPS)
    many = torchattacks.PGD(bare, eps=EPS, alpha=EPS / 4, steps=STEPS, random_start=True)
    return {
        "fgsm": lambda: one(images, labels),
        "pgd": lambda: scored(bare, many(images, labels), labels),
    }


def foolbox_calls(bare: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Call]:
    """Return foolbox's attacks, which score what they find."""
    import foolbox

    model = foolbox.PyTorchModel(bare, bounds=(0, 1), device=images.device)
    one = foolbox.attacks.LinfFastGradientAttack()
    many = foolbox.attacks.LinfPGD(abs_stepsize=EPS / 4, steps=STEPS)
    return {
        "fgsm": lambda: one(model, images, labels, epsilons=EPS),
        "pgd": lambda: many(model, images, labels, epsilons=EPS),
    }


def adv_lib_calls(bare: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Call]:
    """Return adversarial-library's PGD, which scores what it finds; it has no FGSM."""
    # It asks for visdom, for pictures that nobody draws here, when it is imported.
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))
    from adv_lib.attacks import pgd_linf

    size = {"relative_step_size": 1 / 4, "absolute_step_size": None}
    return {"pgd": lambda: pgd_linf(bare, images, labels, EPS, steps=STEPS, **size)}


PEERS = {
    "torchattacks": torchattacks_calls,
    "foolbox": foolbox_calls,
    "adv-lib": adv_lib_calls,
}


def contenders(
    net: nn.Module, data: ImageSet, device: torch.device
) -> tuple[dict[str, dict[str, Call]], dict[str, str]]:
    """Return attack -> library -> call, and the version of each library, or why it is not here."""
    images = data.pixels.take(torch.arange(len(data))).to(device).float() / 255
    labels, keys = data.labels.to(device), sample_keys(0, "pgd", "8/255", 0, data.sample_ids)
    bare = Bare(net).to(device).eval()
    calls = own_and_bare(wrap(net).to(device), bare, images, labels, keys)
    versions = {}
    for name, make in PEERS.items():
        try:
            for attack, call in make(bare, images, labels).items():
                call()
                calls[attack][name] = call
            versions[name] = importlib.metadata.version(name)
        except ImportError as error:
            versions[name] = f"not measured: {error}"
    return calls, versions


def in_turn(
    calls: Mapping[str, Call], rounds: int, device: torch.device
) -> list[dict[str, dict[str, float]]]:
    """Return the seconds of each call, round by round, another one first in each."""
    for call in calls.values():
        call()
    found, names = [], list(calls)
    for i in range(rounds):
        order = names[i % len(names) :] + names[: i % len(names)]
        found.append({name: timed(calls[name], device) for name in order})
        print(f"round {i}: " + ", ".join(f"{k} {v['s']:.3f} s" for k, v in found[-1].items()))
    return found


def ratios(rounds: list[dict[str, dict[str, float]]]) -> dict[str, float]:
    """Return robustmix's time over that of each other, the median of the rounds."""
    others = [name for name in rounds[0] if name != "robustmix"]
    return {
        name: statistics.median(r["robustmix"]["s"] / r[name]["s"] for r in rounds)
        for name in sorted(others)
    }


def main() -> None:
    """Measure, print, and write the result if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
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
    calls, versions = contenders(net, data, device)
    rounds = {
        attack: in_turn(each, options.rounds * (5 if attack == "fgsm" else 1), device)
        for attack, each in calls.items()
    }
    medians: dict[str, Any] = {
        "share_of_time_in_the_model_median": {
            name: statistics.median(r["share"] for r in found) for name, found in shares.items()
        },
        "time_over_others_median": {name: ratios(found) for name, found in rounds.items()},
    }
    result = {
        "what": f"{options.arch} (CIFAR stem), {options.n} images of 32x32 in one batch, "
        f"eps 8/255; PGD with {STEPS} steps, scored",
        "threads": options.threads,
        "command": "PYTHONPATH=PEERS python benchmarks/attacks.py "
        f"--n {options.n} --repeats {options.repeats} --rounds {options.rounds} "
        f"--threads {options.threads} --arch {options.arch} --device {options.device}",
        "goal": f"robustmix over bare at most {GOAL}",
        "versions": {"torch": torch.__version__, **versions},
        "machine": f"{platform.machine()}, {options.device}",
        **medians,
        "shares": shares,
        "rounds": {
            attack: [{name: value["s"] for name, value in r.items()} for r in found]
            for attack, found in rounds.items()
        },
    }
    print(json.dumps(medians, indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
