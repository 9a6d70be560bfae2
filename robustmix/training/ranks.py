"""The processes of one run, as torchrun starts them, and all that passes between them.

Each has the whole state but for batch statistics and torch's own random stream. The gradient is
summed by one explicit all-reduce after the backward pass rather than by hooks: methods make several
passes of one network in a step, and leave parts unused. Only this module knows
``torch.distributed``.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, nn

from robustmix.errors import IncompatibleError, IncompleteError
from robustmix.launch import launched, refuse_unlaunched

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others; one that has ended is noticed at once."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of its run; one alone exchanges nothing."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process go before the others: what it finds wrong is told once."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wait(self) -> None:
        """Wait until all processes are here.

        Raises:
            IncompleteError: one of them has ended (``E-RANK``); so do all that follow.
        """
        self.agreed([0])

    def agreed(self, values: Sequence[int]) -> list[int]:
        """Return the largest of each value over the processes; on the processor, not the device."""
        if self.world == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.int64)
        with _answered():
            torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
        return told.tolist()

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors, on any device, by their sums over the processes: one message a type."""
        if self.world == 1:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for tensor in tensors:
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
        for alike in kinds.values():
            flat = torch.cat([tensor.detach().reshape(-1) for tensor in alike])
            with _answered():
                torch.distributed.all_reduce(flat)
            start = 0
            for tensor in alike:
                piece = flat[start : start + tensor.numel()]
                tensor.detach().copy_(piece.view_as(tensor))
                start += tensor.numel()

    def sum_gradients(self, parameters: Sequence[nn.Parameter], others: Sequence[Tensor]) -> None:
        """Sum the gradients over the processes; one that is nowhere stays absent.

        Args:
            parameters: in the same order everywhere.
            others: further tensors to sum in the same messages.
        """
        if self.world == 1:
            return
        there = self.agreed([int(parameter.grad is not None) for parameter in parameters])
        grads: list[Tensor] = []
        for parameter, somewhere in zip(parameters, there, strict=True):
            if somewhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                grads.append(parameter.grad)
        self.sum_([*grads, *others])

    def gathered(self, value: Any) -> list[Any] | None:
        """Return every process's value, tensors on the CPU, to the first one; None to others."""
        if self.world == 1:
            return [value]
        found: list[Any] | None = [None] * self.world if self.first else None
        with _answered():
            torch.distributed.gather_object(value, found)
        return found

    def require_equal(self, what: Mapping[str, str]) -> None:
        """Refuse processes that are about to do different things.

        Args:
            what: hashes by what they are of.

        Raises:
            IncompatibleError: another process has another one.
        """
        if self.world == 1:
            return
        found: list[Any] = [None] * self.world
        with _answered():
            torch.distributed.all_gather_object(found, dict(what))
        for rank, other in enumerate(found):
            for name, value in other.items():
                if value != found[0].get(name):
                    raise IncompatibleError(
                        f"{name} of process {rank} is another than that of process 0",
                        "give every node the same files, packages and command",
                        code="E-RANK",
                    )

    @contextlib.contextmanager
    def shared_statistics(
        self, networks: Sequence[nn.Module], *, published: bool = False
    ) -> Iterator[None]:
        """Give networks the same batch statistics in every process; afterwards each has its own.

        Args:
            networks: of which every batch norm's running mean and variance are shared.
            published: take those of the first process, as OpenMixup does, not their means.
        """
        buffers = batch_statistics(networks)
        if self.world == 1 or not buffers:
            yield
            return
        own = [buffer.clone() for buffer in buffers]
        with torch.no_grad():
            if published and not self.first:
                torch._foreach_zero_(buffers)
            self.sum_(buffers)
            if not published:
                torch._foreach_div_(buffers, float(self.world))
        try:
            yield
        finally:
            torch._foreach_copy_(buffers, own)


def batch_statistics(networks: Sequence[nn.Module]) -> list[Tensor]:
    """Return the running means and variances of the networks' batch norms, in order."""
    return [
        buffer
        for network in networks
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for buffer in (module.running_mean, module.running_var)
        if buffer is not None
    ]


def shared_batch(n: int, ranks: Ranks) -> slice:
    """Return the places of a batch of ``n`` that are a process's: each W-th from its rank on.

    Of a batch with fewer than two images a process each takes all.
    """
    return slice(ranks.rank, None, ranks.world) if n >= 2 * ranks.world else slice(None)


@contextlib.contextmanager
def open_ranks(device: torch.device, environ: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """Join the processes that torchrun started; alone where it did not.

    Args:
        device: of this process; decides what carries the gradients, NCCL or gloo.
        environ: the environment.

    Raises:
        UsageError: there should be others, but nothing says how to reach them.
        IncompleteError: they cannot be reached.
    """
    launch = launched(environ)
    refuse_unlaunched("start with torchrun --nproc-per-node N -m robustmix train ...", environ)
    if not launch.together:
        yield Ranks()
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _answered():
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks(launch.rank, launch.world)
    finally:
        with contextlib.suppress(RuntimeError, ValueError):
            torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:  # DistError and its kind are RuntimeErrors
        raise IncompleteError(
            "another process of the run has ended or does not answer "
            f"({str(error).splitlines()[0][:100]})",
            "its own line says why; start again, and the run continues from its last checkpoint",
            code="E-RANK",
        ) from error
