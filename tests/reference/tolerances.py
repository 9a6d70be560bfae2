"""How far ours may be from a recorded number, and why.

The vectors are results of the released code in float32. They are rounded, and so are ours, in an
order of sums that changes with the processor, the library and the number of threads: neither is
nearer to the truth. So a limit covers the rounding of both, with a margin for vectors of worse
condition than the public ones, and hangs on the arithmetic alone:

- Limits are absolute, a share of the largest entry of what is compared. Where large terms cancel,
  what is left has the rounding of the terms, and a limit relative to each entry would be too tight.
- What was computed exactly (copied pixels, counts, integers) must be equal.

The figures in brackets are the largest shares met. On the one hand the public files were compared
with the product in float64, and in float32 with AVX2, SSE and plain kernels; on the other hand 120
files of steps, 288 generators and 96 networks of the same formats, with weights, images and draws
of their own, were made in float64 and by plain kernels and compared with AVX2. Limits are 2 to 5
times as large.
"""

import math
import re
from collections.abc import Mapping

from torch import Tensor

EPS = 2.0**-23
"""Between float32 numbers near 1."""

SCALAR = 1e-6
"""A float32 number in [0, 1], such as a lam: 8 EPS."""

IMAGE = 1e-5
"""Of the range of an image that is a sum of masks times images: the masks' rounding adds up.
In a step [4.8e-6]."""

MASK = 1e-5
"""Masks and attention of a generator alone, in [0, 1]: logits of some 10 units are off by some EPS
of that, and so are their exponentials [1.5e-6]."""

STEP_MASK = 3e-5
"""Masks of a generator behind a network in train mode, whose map is off already [1.0e-5]."""

EVAL_MAP = 5e-6
"""Of the largest entry of a network's map: 50 layers of sums of some 100 terms [1.2e-6]."""

TRAIN_MAP = 2e-4
"""Likewise in train mode: batch norms divide by the deviation of as few as 12 values, which in
some channel is small, and enlarge what is off before them [7.3e-5]."""

LOGITS = 1e-4
"""Of the largest logit of a step, in train mode, of mixtures by masks that are off [3e-5]."""

LOSS = 1e-5
"""Of a loss or of 1, whichever is larger: a mean over the batch, so less than of a logit [2.8e-6].
A difference of losses has the rounding of its terms, which are near 1."""

RUNNING = 3e-5
"""Of the largest running statistic of a layer; for means the deviation counts too, as a mean of
values that cancel is as far off as they are [1.1e-5]."""

GRADIENT = 3e-5
"""Of the largest gradient of a layer, weight and bias alike, of a generator alone [9.4e-6]. A bias
has the sum of what the weight has in products: where it cancels, as a key's or a value's under
softmax does for certain, only rounding is left, and that is as large as the weight's."""

STEP_GRADIENT = 5e-4
"""Likewise through two networks and a generator [1.5e-4]."""

PARAMETER = 1e-6
"""Of the largest entry of a weight: its own rounding and that of one update, 8 EPS. What comes from
the gradients is ``Drift``'s."""

GROWTH = 4.0
"""By this the limits of a step grow to the next. The recorded rates are large, so what is off is
enlarged by learning [1 to 6 times in the median of a quantity]."""

KINK = 5e-5
"""Of the largest input of a ReLU: smaller ones may have either sign [median of the largest error of
a call 5e-6; largest input whose sign differed 7.5e-6]."""

CURVE = 1e-15
"""Of the largest entry of a float64 schedule: some units in the last place of a cosine."""

PRODUCT = 1e-10
"""Relative, of a float64 product of up to 10^5 factors, each off by units in the last place."""


def largest(tensor: Tensor) -> float:
    return float(tensor.detach().abs().max())


def close(what: str, got: Tensor | None, want: Tensor, limit: float) -> None:
    """Assert that no entry is off by more than ``limit``, nor NaN."""
    assert got is not None, f"{what} was not computed"
    assert got.shape == want.shape, f"{what}: shape {tuple(got.shape)}, not {tuple(want.shape)}"
    off = largest(got.detach().double() - want.detach().double())
    assert off <= limit, f"{what}: off by {off:.3g}, allowed is {limit:.3g}"


def image_limit(want: Tensor) -> float:
    return IMAGE * float(want.max() - want.min())


def mask_limit(want: Tensor) -> float:
    """Of masks in a step, whatever they are."""
    return STEP_MASK


def mask_loss_limit(want: Tensor) -> float:
    """Of a tenth of |1 - mean - lam| less twice the variance: a slope of at most 3 in a mask."""
    return 0.3 * STEP_MASK


def map_limit(want: Tensor) -> float:
    return TRAIN_MAP * largest(want)


def logits_limit(want: Tensor) -> float:
    return LOGITS * largest(want)


def loss_limit(want: Tensor) -> float:
    return LOSS * max(1.0, largest(want))


def gradient_limits(want: Mapping[str, Tensor], share: float) -> dict[str, float]:
    """Limits of gradients by the names of their tensors; those of one layer have one limit."""
    scale: dict[str, float] = {}
    for name, tensor in want.items():
        layer = name.rpartition(".")[0]
        scale[layer] = max(scale.get(layer, 0.0), largest(tensor))
    return {name: share * scale[name.rpartition(".")[0]] for name in want}


def running_limits(want: Mapping[str, Tensor], growth: float = 1.0) -> dict[str, float]:
    """Limits of batch norms' buffers by their names; counts must be equal."""
    limits = {}
    for name, tensor in want.items():
        scale = largest(tensor) if tensor.is_floating_point() else 0.0
        variance = want.get(name.replace("running_mean", "running_var"))
        if name.endswith("running_mean") and variance is not None:
            scale = max(scale, math.sqrt(largest(variance)))
        limits[name] = growth * RUNNING * scale
    return limits


def norm_limit(limit: float, of: Tensor) -> float:
    """Of the length of a tensor whose entries are off by ``limit`` each."""
    return limit * math.sqrt(of.numel())


def sum_limit(limit: float, of: Tensor) -> float:
    """Of the sum of a tensor whose entries are off by ``limit`` each, perhaps all one way."""
    return limit * of.numel()


def undecided_share(logits: Tensor, growth: float) -> float:
    """The share of rows whose two largest logits are nearer than both may be off."""
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    return float((first - second <= 2 * growth * logits_limit(logits)).double().mean())


class Drift:
    """How far weights may be off after steps of SGD whose gradients were within their limits."""

    def __init__(self, momentum: float) -> None:
        self.momentum = momentum
        self.velocity: dict[str, float] = {}
        self.way: dict[str, float] = {}

    def step(self, gradients: Mapping[str, float], rates: Mapping[str, float], ema: float) -> None:
        """Add a step's share.

        Args:
            gradients: the limits, by the names of the student's and the generator's tensors.
            rates: learning rates, likewise.
            ema: weight of the old teacher in its update.
        """
        for name, limit in gradients.items():
            self.velocity[name] = self.momentum * self.velocity.get(name, 0.0) + limit
            self.way[name] = self.way.get(name, 0.0) + rates[name] * self.velocity[name]
            teacher = re.sub(r"^(backbone|head_one|head_mix)_q\.", r"\1_k.", name)
            if teacher != name:
                old = self.way.get(teacher, 0.0)
                self.way[teacher] = ema * old + (1 - ema) * self.way[name]

    def limit(self, name: str, want: Tensor) -> float:
        return PARAMETER * largest(want) + self.way[name]
