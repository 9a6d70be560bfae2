"""What the tests of whole steps share: a method beside the recorded run of the released code."""

import copy
import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robustmix.methods.adautomix import AdAutoMix
from robustmix.methods.pair_masks import PairMasks
from tests.reference.kinks import Kinks
from tests.reference.tolerances import (
    GROWTH,
    STEP_GRADIENT,
    Drift,
    close,
    gradient_limits,
    logits_limit,
    norm_limit,
    running_limits,
    sum_limit,
)
from tests.reference.vectors import Case

MOMENTUM = 0.9  # of the optimizer, in all files (README of the vectors)


def official(name: str) -> str:
    """What the vectors call one of our tensors; ours have the clean head inside the network."""
    module, _, rest = name.partition(".")
    if module.startswith("backbone") and rest.startswith("fc."):
        return f"head_one_{module[-1]}.{rest}"
    return f"{module}.fc.{rest}" if module.startswith("head_mix") else name


def named_tensors(method: AdAutoMix | PairMasks) -> dict[str, Tensor]:
    """Parameters and buffers by the names of the vectors."""
    pair = method.pair
    parts: dict[str, nn.Module] = {
        "backbone_q": pair.network_q,
        "backbone_k": pair.network_k,
        "head_mix_q": pair.head_mix_q,
        "head_mix_k": pair.head_mix_k,
        "mix_block": method.generator,
    }
    return {
        official(f"{module}.{name}"): tensor
        for module, part in parts.items()
        for name, tensor in (*part.named_parameters(), *part.named_buffers())
    }


class Trainee:
    """A method that is led through the recorded steps, starting from the recorded state."""

    def __init__(self, method: AdAutoMix | PairMasks, case: Case) -> None:
        self.method, self.case = method.train(), case
        self.ours = named_tensors(method)
        self.drift = Drift(MOMENTUM)
        self.made = 0
        self.limits: dict[str, float] = {}
        init = case.under("init/")
        assert all(name.endswith("num_batches_tracked") for name in self.ours.keys() - init.keys())
        with torch.no_grad():
            for name, value in init.items():
                self.ours[name].copy_(value)
        student = [p for p in method.pair.parameters() if p.requires_grad]
        generator = list(method.generator.parameters())
        groups = [
            {"params": student, "lr": case.cfg["lr"]},
            {"params": generator, "lr": self._rate("mix_block")},
        ]
        decay = case.cfg.get("wd", 1e-4)
        self.optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, weight_decay=decay)

    def _rate(self, name: str) -> float:
        cfg = self.case.cfg
        return float(cfg.get("lr_mb", cfg["lr"]) if name.startswith("mix_block") else cfg["lr"])

    def follow(self, other: "Trainee") -> None:
        """Take over the state of another, optimizer included."""
        self.method.load_state_dict(other.method.state_dict())
        self.optimizer.load_state_dict(copy.deepcopy(other.optimizer.state_dict()))
        self.drift = copy.deepcopy(other.drift)

    def backward(self, loss: Tensor, kinks: Kinks) -> None:
        """Set the gradients, and compare all that was recorded of them."""
        case, step, share = self.case, f"step{self.made}", STEP_GRADIENT * GROWTH**self.made
        want = case.under(f"{step}/grad/")
        allowed = gradient_limits(want, share)
        kinks.backward(loss, self.ours, want, allowed)
        ours = {name: t.grad for name, t in self.ours.items() if t.grad is not None}
        for name, limit in allowed.items():
            close(f"{step} grad {name}", ours[name], want[name], limit)
        self.limits = gradient_limits(ours, share)
        norms = {name: norm_limit(self.limits[name], grad) for name, grad in ours.items()}
        for name, norm in case.under(f"{step}/gradnorm_each/").items():
            close(f"{step} norm {name}", ours[name].double().norm(), norm, norms[name])
        for module, norm in case.under(f"{step}/gradnorm/").items():
            names = [name for name in ours if name.startswith(f"{module}.")]
            if bool(norm.isnan()):
                assert not names, f"{step}: {module} has a gradient"
            else:
                flat = torch.cat([ours[name].double().flatten() for name in names])
                limit = math.hypot(*(norms[name] for name in names))
                close(f"{step} norm {module}", flat.norm(), norm, limit)

    def update(self) -> None:
        """Move student, generator and teacher, and compare all that was recorded of them."""
        step = f"step{self.made}"
        ema = float(self.case.tensor(f"{step}/momentum"))
        self.optimizer.step()
        self.method.pair.update(ema)
        self.drift.step(self.limits, {name: self._rate(name) for name in self.limits}, ema)
        self._check_tensors(self.case.under(f"{step}/after/"), f"{step} after")
        sums = self.case.under(f"{step}/after_sum/")
        assert {n for n, t in self.ours.items() if isinstance(t, nn.Parameter)} == sums.keys()
        for name, want in sums.items():
            got, limit = self.ours[name].detach().double(), self.drift.limit(name, self.ours[name])
            close(f"{step} sum {name}", got.sum(), want[0], sum_limit(limit, got))
            close(f"{step} length {name}", got.norm(), want[1], norm_limit(limit, got))
        self.made += 1

    def _check_tensors(self, after: Mapping[str, Tensor], where: str) -> None:
        """Compare the batch statistics, all of them, and some weights."""
        buffers = {n: t for n, t in after.items() if not isinstance(self.ours[n], nn.Parameter)}
        running = {name for name in self.ours if re.match(r"backbone.*running", name)}
        assert running <= buffers.keys()
        limits = running_limits(buffers, GROWTH**self.made)
        for name, want in after.items():
            limit = limits[name] if name in limits else self.drift.limit(name, want)
            close(f"{where} {name}", self.ours[name], want, limit)

    def evaluate(self) -> tuple[Tensor, Tensor]:
        """Compare the logits of all heads in eval mode.

        Returns:
            Those of the deployed classifier, and those of the head that it should have.
        """
        images = self.case.tensor("eval/img")
        self.method.eval()
        with torch.no_grad():
            logits = self.method.pair.heads_logits(images)
            deployed: Tensor = self.method.classifier()(images)
        for head, got in logits.items():
            want = self.case.tensor(f"eval/acc_{head}")
            close(f"eval {head}", got, want, GROWTH**self.made * logits_limit(want))
        return deployed, logits["one_k"]
