"""Two networks and four heads: a student that is trained and a teacher that is its moving average.

AutoMix, SAMix and AdAutoMix share them, and MixUp and CutMix with a momentum pipeline. The student
(q) sees clean and mixed images; the teacher (k) gives a generator its maps and judges its mixtures.
What is deployed is the teacher with the head for clean images.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, Protocol, TypeAlias, cast, get_args

import torch
from torch import Tensor, nn

from robustmix.errors import UsageError
from robustmix.methods.losses import full_precision
from robustmix.methods.method import Setup
from robustmix.models.taps import Features, Tap, classifier_layer, find_tap

HEADS = ("one_k", "mix_k", "one_q", "mix_q")
"""The four classifiers, the deployed one first."""

DEPLOYED_HEAD = HEADS[0]

Pipeline: TypeAlias = Literal["none", "mp", "mp+ce"]
"""AutoMix's momentum pipeline: no teacher; a teacher; and the student learns clean images too."""

EMA_OPTIONS = ("ema", "ema_end", "ema_start")
"""Options of how the teacher follows the student."""

HEAD_STD = 0.01
"""Standard deviation of the heads' initial weights."""


class MixPreview(NamedTuple):
    """A few images, the masks the generator gives them, and what comes of it."""

    sources: Tensor
    """(n, N, 3, H, W), normalised images."""

    masks: Tensor
    """(n, N, H, W), summing to 1 over the N sources."""

    mixed: Tensor
    """(n, 3, H, W)."""

    lam: tuple[float, ...]
    """N weights that sum to 1."""


class MomentumMethod(Protocol):
    """What the training loop needs of a method with a teacher, beyond ``Method``."""

    @property
    def pair(self) -> "MomentumPair":
        """The two networks."""
        ...

    def before_step(self, iteration: int, total: int) -> None:
        """Set what depends on how far the run is; called before every ``training_step``."""
        ...

    def after_step(self, iteration: int, total: int) -> None:
        """Move the teacher; called after every step of the optimiser.

        Args:
            iteration: the step just made, 0-based over the whole run.
            total: steps of the whole run.
        """
        ...

    def step_cost(self) -> int:
        """Return what a step costs in forward passes; a backward pass counts two."""
        ...

    def passes(self) -> str:
        """Return what a step costs, and why if it is not the least possible."""
        ...


class TeacherMethod(MomentumMethod, Protocol):
    """A method with a teacher that also trains a generator of masks."""

    @property
    def generator(self) -> nn.Module:
        """What makes the masks; may have its own group of the optimiser."""
        ...

    def preview(self, images: Tensor) -> MixPreview:
        """Mix a few normalised images (n, 3, H, W) with fixed draws; changes nothing."""
        ...


def as_momentum_method(method: nn.Module) -> MomentumMethod | None:
    """Return a method as what it is if it has a pair of networks.

    Not by ``isinstance``, which from Python 3.12 on does not see what is a submodule.
    """
    has = isinstance(getattr(method, "pair", None), MomentumPair)
    return cast(MomentumMethod, method) if has else None


def as_teacher_method(method: nn.Module) -> TeacherMethod | None:
    """Return a method as what it is if it has a pair of networks and a generator."""
    has = as_momentum_method(method) is not None and hasattr(method, "generator")
    return cast(TeacherMethod, method) if has else None


class MomentumPair(nn.Module):
    """Student and teacher, each with a head for clean and a head for mixed images.

    The head for clean images is the last linear layer of either network, so ``network_k`` is the
    plain classifier that is deployed.

    Args:
        network: the student, normalised images (N, 3, H, W) -> logits (N, K). Its last layer is
            drawn anew, and the teacher copies its parameters but not its batch statistics.
        setup: the size of the images, the source of the heads' weights, a name for messages.
        feature_stage: whose map the generator gets; -1 is the architecture's own.
        pipeline: without clean images (``mp``) there is one head, for mixtures, which is deployed;
            with ``none`` there is one network too: the teacher is the student itself.

    Raises:
        UsageError: the network has no place for a generator to look at.
    """

    def __init__(
        self,
        network: nn.Module,
        setup: Setup,
        *,
        feature_stage: int = -1,
        pipeline: Pipeline = "mp+ce",
    ) -> None:
        super().__init__()
        self.averaged = pipeline != "none"
        """Whether there is a teacher, the student's moving average."""
        self.two_heads = pipeline == "mp+ce"
        """Whether clean images have a head of their own."""
        stage = None if feature_stage == -1 else feature_stage
        self.tap: Tap = find_tap(network, setup.input_size, arch=setup.arch, stage=stage)
        self.network_q = network
        head = classifier_layer(network)
        self.head_mix_q = nn.Linear(head.in_features, head.out_features) if self.two_heads else head
        for layer in (head, self.head_mix_q) if self.two_heads else (head,):
            nn.init.normal_(layer.weight, std=HEAD_STD, generator=setup.weights)
            nn.init.zeros_(layer.bias)
        if not self.averaged:
            self.network_k, self.head_mix_k = self.network_q, self.head_mix_q
            return
        self.network_k = copy.deepcopy(network)
        self.head_mix_k = (
            copy.deepcopy(self.head_mix_q) if self.two_heads else classifier_layer(self.network_k)
        )
        for module in self.network_k.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_running_stats()
        for frozen in (self.network_k, self.head_mix_k):
            frozen.requires_grad_(False)

    def mask_factor(self, setup: Setup) -> int:
        """Return by how much masks are enlarged: side of the image over side of the map.

        Raises:
            UsageError: it is no whole number, or differs between height and width.
        """
        (height, width), (h, w) = setup.input_size[1:], self.tap.size
        if height % h or width % w or height // h != width // w:
            raise UsageError(
                f"the map of stage {self.tap.stage} is {h}x{w} and does not divide the "
                f"{height}x{width} images",
                "choose another feature_stage or img_size",
                code="E-NO-TAP",
            )
        return height // h

    def features_q(self, images: Tensor) -> Features:
        """Return the student's map and pooled features."""
        return self.tap(self.network_q, images)

    def features_k(self, images: Tensor) -> Features:
        """Return the teacher's map and pooled features; a gradient may flow into the images."""
        return self.tap(self.network_k, images)

    def one_q(self, pooled: Tensor) -> Tensor:
        """Return the student's logits for clean images, float32 (N, K)."""
        return _logits(classifier_layer(self.network_q), pooled)

    def mix_q(self, pooled: Tensor) -> Tensor:
        """Return the student's logits for mixed images."""
        return _logits(self.head_mix_q, pooled)

    def one_k(self, pooled: Tensor) -> Tensor:
        """Return the teacher's logits for clean images."""
        return _logits(classifier_layer(self.network_k), pooled)

    def mix_k(self, pooled: Tensor) -> Tensor:
        """Return the teacher's logits for mixed images."""
        return _logits(self.head_mix_k, pooled)

    def forward(self, images: Tensor) -> Tensor:
        """Return the student's logits for mixed images, from the images."""
        return self.mix_q(self.features_q(images).pooled)

    def without_gradients(self, images: Tensor) -> Tensor:
        """Return what ``forward`` does; a gradient flows into the images, not to the student."""
        held = {name: p.detach() for name, p in self.named_parameters()}
        logits: Tensor = torch.func.functional_call(self, held, (images,))
        return logits

    def heads_logits(self, images: Tensor) -> dict[str, Tensor]:
        """Return the logits of all heads, a forward pass a network, by their names.

        Of one head for all images, the name is that for clean ones, as what is deployed has.
        """
        k = self.features_k(images).pooled
        if not self.averaged:
            return {"one_k": self.one_k(k)}
        q = self.features_q(images).pooled
        if not self.two_heads:
            return {"one_k": self.one_k(k), "one_q": self.one_q(q)}
        return {
            "one_k": self.one_k(k),
            "mix_k": self.mix_k(k),
            "one_q": self.one_q(q),
            "mix_q": self.mix_q(q),
        }

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Move every parameter of the teacher: k <- momentum k + (1 - momentum) q.

        Batch statistics are not averaged; the teacher gathers its own.
        """
        if not self.averaged:
            return
        teacher: list[Tensor] = list(self.network_k.parameters())
        student: list[Tensor] = list(self.network_q.parameters())
        if self.two_heads:
            teacher += self.head_mix_k.parameters()
            student += self.head_mix_q.parameters()
        # Not a lerp nor a fused add, which round otherwise: to the bit the released code's update.
        torch._foreach_mul_(teacher, momentum)
        torch._foreach_add_(teacher, list(torch._foreach_mul(student, 1 - momentum)))


def _logits(layer: nn.Linear, pooled: Tensor) -> Tensor:
    logits: Tensor = layer(pooled)
    return full_precision(logits)


def ema_momentum(iteration: int, total: int, *, base: float, end: float, start: float) -> float:
    """Return the weight of the old teacher in the update after a step.

    ``base`` for the first share ``start`` of the run, then half a cosine towards ``end``. The
    cosine runs over the whole run, so there is a small jump where it takes over.

    Args:
        iteration: 0-based, over the whole run.
        total: iterations of the run.
        base: momentum at first.
        end: momentum that the last iteration comes close to.
        start: share of the run with ``base``.

    Reference:
        OpenMixup, ``CosineScheduleHook``.

    Example:
        >>> ema_momentum(0, 100, base=0.999, end=1.0, start=0.1)
        0.999
        >>> ema_momentum(50, 100, base=0.999, end=1.0, start=0.1)
        0.9995
    """
    if iteration < int(start * total):
        return base
    return end - (end - base) * (math.cos(math.pi * iteration / total) + 1) / 2


def check_ema(base: float, end: float, start: float) -> None:
    """Raise ValueError unless 0 <= base <= end <= 1 and 0 <= start <= 1."""
    if not 0 <= base <= end <= 1:
        raise ValueError(f"expected 0 <= ema <= ema_end <= 1, got {base} and {end}")
    if not 0 <= start <= 1:
        raise ValueError(f"expected ema_start in [0, 1], got {start}")


def check_pipeline(pipeline: str) -> None:
    """Raise ValueError unless there is such a pipeline."""
    if pipeline not in get_args(Pipeline):
        known = ", ".join(get_args(Pipeline))
        raise ValueError(f"expected pipeline: one of {known}, got {pipeline}")


def sum_of_finite(terms: Sequence[tuple[float, Tensor]]) -> tuple[Tensor, int | Tensor]:
    """Return the weighted sum of the terms that are not NaN, and how many are.

    If all are, their sum is returned, so that whoever watches the loss sees it. On the CPU a term
    that is NaN is no part of what the gradient is taken of. On other devices, and where the step is
    compiled, nobody reads which one is: it is replaced by 0 and the count is a tensor. Its own
    gradient is 0 then, but where that meets an infinite or NaN derivative on its way back the
    product is NaN. So whoever steps leaves out a step with such a term whose gradient is not
    finite; ``training.optim.update`` does.

    Args:
        terms: (weight, scalar) pairs, at least one.
    """
    bad = torch.stack([term.detach() for _, term in terms]).isnan()
    if bad.device.type == "cpu" and not torch.compiler.is_compiling():
        known = bad.tolist()
        kept = [pair for pair, is_nan in zip(terms, known, strict=True) if not is_nan] or terms
        return torch.stack([weight * term for weight, term in kept]).sum(), sum(known)
    each = torch.stack([weight * term for weight, term in terms])
    rest = torch.where(bad, torch.zeros_like(each), each).sum()
    return torch.where(bad.all(), each.sum(), rest), bad.sum()


def count_log(count: int | Tensor, like: Tensor) -> Tensor:
    """Return a count as something to log, of the type and device of ``like``."""
    return count.to(like.dtype) if isinstance(count, Tensor) else like.new_tensor(float(count))


@contextmanager
def without_gradients(*modules: nn.Module) -> Iterator[None]:
    """Let a forward pass build a graph to its input, but not to the modules' parameters."""
    held = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


class BatchNormReplay:
    """Repeats the update of a network's batch statistics by one pass, without the pass.

    In train mode a batch and a permutation of it have the same statistics, so a second pass with
    the permuted batch changes the buffers in a way that is known beforehand.
    """

    def __init__(self, network: nn.Module) -> None:
        self.norms = [
            module
            for module in network.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
        ]
        self._steps: list[Tensor] = []

    def possible(self) -> bool:
        """Return whether every norm has a fixed momentum."""
        return all(norm.momentum is not None for norm in self.norms)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Note what the pass made inside adds to the buffers."""
        buffers = self._buffers()
        if not buffers:
            yield
            return
        kept = torch._foreach_mul(buffers, [1 - eta for eta in self._momenta()])
        yield
        # after = (1 - eta) before + eta batch; what is noted is eta batch
        self._steps = list(torch._foreach_sub(buffers, kept))

    @torch.no_grad()
    def replay(self, times: int) -> None:
        """Update the buffers as ``times`` more such passes would.

        To be called after the backward pass: autograd keeps hold of the buffers until then.
        """
        if not self._steps:
            return
        momenta, buffers = self._momenta(), self._buffers()
        kept = [(1 - eta) ** times for eta in momenta]
        gains = [(1 - k) / eta for k, eta in zip(kept, momenta, strict=True)]
        torch._foreach_mul_(buffers, kept)
        torch._foreach_add_(buffers, torch._foreach_mul(self._steps, gains))
        counts = [n.num_batches_tracked for n in self.norms if n.num_batches_tracked is not None]
        torch._foreach_add_(counts, times)
        self._steps = []

    def _buffers(self) -> list[Tensor]:
        return [
            b for norm in self.norms for b in (norm.running_mean, norm.running_var) if b is not None
        ]

    def _momenta(self) -> Sequence[float]:
        return [float(norm.momentum or 0.0) for norm in self.norms for _ in range(2)]
