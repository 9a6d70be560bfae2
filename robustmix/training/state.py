"""All that changes while a run trains, and its exact way into and out of a checkpoint."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from robustmix.data.content import pixels_sha256
from robustmix.data.images import ImageSet
from robustmix.errors import IntakeError
from robustmix.files import hash_json
from robustmix.methods.method import Method
from robustmix.methods.momentum_pair import MomentumMethod, as_momentum_method
from robustmix.methods.step_draws import StepDraws
from robustmix.training.optim import load_optimizer
from robustmix.training.ranks import batch_statistics
from robustmix.training.weight_ema import WeightEma

_SIGN = (1 << 63) - 1


@dataclass(frozen=True)
class Streams:
    """The independent sources of randomness of a run, all from its seed."""

    weights: torch.Generator
    """Initial weights; used up when training starts."""

    order: torch.Generator
    """Order of the images, one permutation an epoch."""

    draws: torch.Generator
    """Augmentation."""

    mix: StepDraws
    """What the method draws."""

    default_seed: int
    """Seed of torch's own stream, from which dropout draws."""


def open_streams(seed: int) -> Streams:
    """Return the streams of a run; each gets its own child of ``seed``.

    The children are numpy's ``SeedSequence.spawn``, so neighbouring seeds share nothing.
    """
    children = np.random.SeedSequence(seed).spawn(5)
    seeds = [int(child.generate_state(1, np.uint64)[0]) & _SIGN for child in children]
    return Streams(
        weights=torch.Generator().manual_seed(seeds[0]),
        order=torch.Generator().manual_seed(seeds[1]),
        draws=torch.Generator().manual_seed(seeds[2]),
        mix=StepDraws(np.random.PCG64(children[3])),
        default_seed=seeds[4],
    )


class Means:
    """Running means over an epoch, summed on the device so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._device = device
        self._names: list[str] = []
        self._totals = torch.zeros(2, 0, dtype=self._dtype, device=device)
        """Of every name the sum of its values times the images, and the number of the images."""

    def add(self, logs: Mapping[str, Tensor], n: int) -> None:
        """Add the means of a batch of ``n`` images; a name may be missing in some batches.

        What is not a number counts as missing: a term that was left out.
        """
        self._know(logs)
        absent = torch.full((), math.nan, dtype=self._dtype, device=self._device)
        values = torch.stack([logs.get(name, absent).to(self._dtype) for name in self._names])
        seen = ~values.isnan()
        self._totals[0].add_(torch.where(seen, values, torch.zeros_like(values)), alpha=n)
        self._totals[1].add_(seen, alpha=n)

    def _know(self, names: Iterable[str]) -> None:
        new = [name for name in names if name not in self._names]
        if new:
            self._names += new
            more = torch.zeros(2, len(new), dtype=self._dtype, device=self._device)
            self._totals = torch.cat([self._totals, more], dim=1)

    def read(self) -> dict[str, float]:
        """Return the means so far; waits for the device."""
        return self.read_with()[0]

    def read_with(self, *others: Tensor) -> tuple[dict[str, float], list[float]]:
        """Return the means so far, and the numbers of other tensors, in one wait for the device."""
        beside = [other.reshape(-1).to(self._dtype) for other in others]
        values = torch.cat([self._totals.reshape(-1), *beside]).tolist()
        n = len(self._names)
        sums, counts = values[:n], values[n : 2 * n]
        means = {
            name: value / count
            for name, value, count in zip(self._names, sums, counts, strict=True)
            if count
        }
        return means, values[2 * n :]

    def pack(self) -> dict[str, Any]:
        """Return the sums as JSON-like values."""
        sums, counts = self._totals.tolist()
        return {
            "counts": {n: int(count) for n, count in zip(self._names, counts, strict=True)},
            "sums": dict(zip(self._names, sums, strict=True)),
        }

    def unpack(self, saved: Mapping[str, Any]) -> None:
        """Continue from packed sums."""
        self._names = list(saved["sums"])
        totals = [[float(saved[of][name]) for name in self._names] for of in ("sums", "counts")]
        self._totals = torch.tensor(totals, dtype=self._dtype, device=self._device).view(2, -1)


@dataclass(kw_only=True)
class Times:
    """How long a run took so far."""

    elapsed_s: float = 0.0
    """Seconds of training in earlier processes and this one."""

    epochs_s: list[float] = field(default_factory=list)
    """Seconds of each finished epoch."""

    def text(self) -> str:
        """Return the file's content."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def read(cls, path: Path, epochs: int) -> "Times":
        """Return what a file says; what it lacks counts as no time, for nothing hangs on it.

        Args:
            path: the file, which need not be there.
            epochs: finished ones.
        """
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            known = [float(value) for value in saved["epochs_s"]][:epochs]
            elapsed = float(saved["elapsed_s"])
        except (OSError, ValueError, KeyError, TypeError):
            known, elapsed = [], 0.0
        return cls(elapsed_s=elapsed, epochs_s=known + [0.0] * (epochs - len(known)))


@dataclass(kw_only=True)
class TrainState:
    """Everything that a step or an epoch changes."""

    method: nn.Module
    optimizer: torch.optim.Optimizer
    streams: Streams
    means: Means
    device: torch.device
    run_id: str
    data_sha256: str
    """Of the ids and labels that are trained and validated on."""

    ema: WeightEma | None = None
    """The averaged network, if the recipe wants one."""

    epoch: int = 0
    """Finished epochs."""

    step: int = 0
    """Finished steps of the epoch after those."""

    order_at_epoch: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))
    """State of the order stream when the running epoch began; the epoch's order follows."""

    history: list[dict[str, Any]] = field(default_factory=list)
    """One record a finished epoch, without times: equal runs make equal checkpoints."""

    best_top1: float = -1.0
    times: Times = field(default_factory=lambda: Times())
    """Kept beside the checkpoints, for equal runs take different times."""

    def begin_epoch(self) -> None:
        """Note where the order stream stands; a resumed epoch goes on from what it had noted."""
        if self.step == 0:
            self.order_at_epoch = self.streams.order.get_state()
            self.means = Means(self.device)

    def pack(self, seen: dict[Any, Tensor]) -> dict[str, Any]:
        """Return the state as tensors on the CPU and JSON-like values.

        Args:
            seen: copies already made of tensors that the checkpoint also holds elsewhere.
        """
        cuda = self.device.type == "cuda"
        at_border = self.step == 0
        return {
            "method": to_cpu(self.method.state_dict(), seen),
            "optimizer": to_cpu(self.optimizer.state_dict(), seen),
            **self._packed_ema(seen),
            "order": self.streams.order.get_state() if at_border else self.order_at_epoch,
            "draws": self.streams.draws.get_state(),
            "mix": json.dumps(self.streams.mix.bit_generator.state),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
            "means": self.means.pack(),
            "epoch": self.epoch,
            "step": self.step,
            "history": list(self.history),
            "best_top1": self.best_top1,
            "data_sha256": self.data_sha256,
        }

    def pack_own(self) -> dict[str, Any]:
        """Return what another process of the run has otherwise: streams of torch, statistics."""
        cuda = self.device.type == "cuda"
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
            "statistics": [buffer.cpu().clone() for buffer in batch_statistics(self.networks)],
        }

    @property
    def teacher(self) -> MomentumMethod | None:
        """The method, if it has a pair of networks."""
        return as_momentum_method(self.method)

    @property
    def classifier(self) -> nn.Module:
        """The network that is trained to be deployed, or whose average is."""
        return cast(Method, self.method).classifier()

    @property
    def deployed(self) -> nn.Module:
        """The network that a checkpoint holds: the average of the weights, if there is one."""
        return self.classifier if self.ema is None else self.ema.network

    @property
    def networks(self) -> list[nn.Module]:
        """Everything with batch statistics."""
        return [self.method, *([] if self.ema is None else [self.ema.network])]

    def unpack_own(self, saved: Mapping[str, Any]) -> None:
        """Continue with what ``pack_own`` gave in this process.

        Raises:
            IntakeError: it does not fit.
        """
        try:
            with torch.no_grad():
                own = batch_statistics(self.networks)
                for buffer, value in zip(own, saved["statistics"], strict=True):
                    buffer.copy_(value)
            torch.set_rng_state(saved["torch"])
            if self.device.type == "cuda" and saved["cuda"] is not None:
                torch.cuda.set_rng_state(saved["cuda"], self.device)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise IntakeError(
                f"the checkpoint cannot be continued: {str(error).splitlines()[0]}",
                "it may come from another version; start anew with --resume never",
            ) from error

    def _packed_ema(self, seen: dict[Any, Tensor]) -> dict[str, Any]:
        return {} if self.ema is None else {"ema": to_cpu(self.ema.network.state_dict(), seen)}

    def unpack(self, saved: Mapping[str, Any]) -> None:
        """Continue from a packed state.

        Raises:
            IntakeError: something is missing or does not fit this run's networks.
        """
        try:
            self.method.load_state_dict(saved["method"])
            if self.ema is not None:
                self.ema.network.load_state_dict(saved["ema"])
            load_optimizer(self.optimizer, saved["optimizer"])
            self.streams.order.set_state(saved["order"])
            self.streams.draws.set_state(saved["draws"])
            self.streams.mix.bit_generator.state = json.loads(saved["mix"])
            torch.set_rng_state(saved["torch"])
            if self.device.type == "cuda" and saved["cuda"] is not None:
                torch.cuda.set_rng_state(saved["cuda"], self.device)
            self.means.unpack(saved["means"])
            self.order_at_epoch = saved["order"]
            self.epoch, self.step = int(saved["epoch"]), int(saved["step"])
            self.history = [
                {key: value for key, value in dict(record).items() if key != "seconds"}
                for record in saved["history"]
            ]
            self.best_top1 = float(saved["best_top1"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise IntakeError(
                f"the checkpoint cannot be continued: {str(error).splitlines()[0]}",
                "it may come from another version; start anew with --resume never",
            ) from error

    def finite(self) -> bool:
        """Return whether every floating-point parameter and buffer is finite."""
        tensors = [t for t in self.method.state_dict().values() if t.is_floating_point()]
        return bool(torch.stack([t.isfinite().all() for t in tensors]).all())

    def summary(self) -> dict[str, float]:
        """Return median and best top-1 of the last ten epochs, the papers' statistics.

        CNNs are reported by the median, Swin and ConvNeXt by the best.
        """
        last = [float(record["top1"]) for record in self.history[-10:]]
        return {"median_last10": statistics.median(last), "best_last10": max(last)}


def to_cpu(value: Any, seen: dict[Any, Tensor]) -> Any:
    """Return ``value`` with its tensors detached and on the CPU; equal ones stay one tensor.

    Args:
        value: tensors in dictionaries, lists and tuples, and other values, which stay.
        seen: copies made so far, extended. A network that is both trained and deployed is then
            written once.
    """
    if isinstance(value, Tensor):
        key = (value.data_ptr(), value.shape, value.stride(), value.dtype)
        if key not in seen or not value.numel():
            seen[key] = value.detach().cpu()
        return seen[key]
    if isinstance(value, Mapping):
        return {name: to_cpu(item, seen) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_cpu(item, seen) for item in value]
    return value


def data_digest(train: ImageSet, val: ImageSet) -> str:
    """Return a hash of which images, in which order and with which labels, a run sees."""
    return hash_json(
        [[list(d.sample_ids), d.labels.tolist(), pixels_sha256(d)] for d in (train, val)]
    )


def data_digest_without_pixels(train: ImageSet, val: ImageSet) -> str:
    """Return the hash that runs of 0.1.0 recorded, which saw ids and labels alone."""
    return hash_json([[list(d.sample_ids), d.labels.tolist()] for d in (train, val)])
