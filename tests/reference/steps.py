"""What the tests of whole steps share: a method beside the recorded run of the released code."""

import copy
import re

import torch
from torch import Tensor, nn

from robustmix.methods.adautomix import AdAutoMix
from robustmix.methods.automix import PairMasks
from tests.reference.kinks import Kinks
from tests.reference.tolerances import (
    Drift,
    close,
    gradient_limits,
    largest,
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

    def backward(self, step: str, loss: Tensor, kinks: Kinks) -> None:
        """Set the gradients, and compare all that was recorded of them."""
        case, want = self.case, self.case.under(f"{step}/grad/")
        kinks.backward(loss, self.ours, want, gradient_limits(want))
        ours = {name: t.grad for name, t in self.ours.items() if t.grad is not None}
        for name, limit in gradient_limits(want).items():
            close(f"{step} grad {name}", ours[name], want[name], limit)
        limits = gradient_limits(ours)
        for name, norm in case.under(f"{step}/gradnorm_each/").items():
            close(f"{step} norm {name}", ours[name].double().norm(), norm, norm_limit(limits[name], ours[name]))
        for module, norm in case.under(f"{step}/gradnorm/").items():
            names = [name for name in ours if name.startswith(f"{module}.")]
            if bool(norm.isnan()):
                assert not names, f"{step} {module} has a gradient"
                continue
            flat = torch.cat([ours[name].double().flatten() for name in names])
            allowed = torch.tensor([norm_limit(limits[name], ours[name]) for name in names])
            close(f"{step} norm {module}", flat.norm(), norm, float(allowed.norm()))
        self.drift.step(limits, {name: self._rate(name) for name in limits})

    def update(self, step: str) -> None:
        """Move student, generator and teacher, and compare all that was recorded of them."""
        self.optimizer.step()
        self.method.pair.update(float(self.case.tensor(f"{step}/momentum")))
        after = self.case.under(f"{step}/after/")
        buffers = {n: t for n, t in after.items() if not isinstance(self.ours[n], nn.Parameter)}
        assert {name for name in self.ours if "running" in name} <= buffers.keys()
        limits = running_limits(buffers)
        for name, want in after.items():
            limit = limits[name] if name in limits else self._drifted(name)
            close(f"{step} after {name}", self.ours[name], want, limit)
        sums = self.case.under(f"{step}/after_sum/")
        assert {n for n, t in self.ours.items() if isinstance(t, nn.Parameter)} == sums.keys()
        for name, want in sums.items():
            got, limit = self.ours[name].detach().double(), self._drifted(name)
            close(f"{step} sum {name}", got.sum(), want[0], sum_limit(limit, got))
            close(f"{step} length {name}", got.norm(), want[1], norm_limit(limit, got))

    def _drifted(self, name: str) -> float:
        """A teacher is no further off than its student, of which it is a mean over steps."""
        student = re.sub(r"^(backbone|head_one|head_mix)_k\.", r"\1_q.", name)
        return self.drift.limit(student, self.ours[name])

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
            close(f"eval {head}", got, want, logits_limit(want))
        return deployed, logits["one_k"]
