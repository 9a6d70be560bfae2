"""A batch in parts: what several processes would each have of it, on one.

Part r of W has places r, r + W, ... of the batch. A part may be computed by itself
(``accumulate``), or parts together with batch statistics of their own (``norm_batch``, see
``ghost_norm``). What they draw is in ``robustmix.methods.step_draws``.
"""

import torch
from torch import Tensor, nn

from robustmix.data.loader import Batch


def batch_parts(batch: Batch, parts: int) -> list[Batch]:
    """Return the parts of a batch that is computed in parts; of a smaller batch fewer.

    Each has at least two images, if the batch has: batch statistics of one are no statistics.
    """
    if parts == 1 or len(batch.labels) < 2 * parts:
        return [batch]
    return [Batch(*(value[i::parts] for value in batch)) for i in range(parts)]


class NormAverage:
    """Lets each part of a batch move batch statistics from where the step began; keeps their mean.

    Args:
        method: all that is trained; its norms in training mode are averaged, its place in the run
            (``get_extra_state``) moves once a step.
    """

    def __init__(self, method: nn.Module) -> None:
        norms = [
            module
            for module in method.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
        ]
        self._buffers = [b for n in norms for b in (n.running_mean, n.running_var) if b is not None]
        self._counts = [n.num_batches_tracked for n in norms if n.num_batches_tracked is not None]
        self._start = [b.clone() for b in (*self._buffers, *self._counts)]
        self._sums = [torch.zeros_like(b) for b in self._buffers]
        self._parts = 0
        self._method = method
        placed = type(method).get_extra_state is not nn.Module.get_extra_state
        self._place = method.get_extra_state() if placed else None

    @torch.no_grad()
    def begin_part(self) -> None:
        """Go back to where the step began."""
        if not self._parts:
            return
        _copy([*self._buffers, *self._counts], self._start)
        if self._place is not None:
            self._method.set_extra_state(self._place)

    @torch.no_grad()
    def end_part(self) -> None:
        """Note where a part ended; its backward pass is done, which holds on to the buffers."""
        settle = getattr(self._method, "settle", None)
        if settle is not None:
            settle()
        self._parts += 1
        if self._sums:
            moved = torch._foreach_sub(self._buffers, self._start[: len(self._buffers)])
            torch._foreach_add_(self._sums, moved)

    @torch.no_grad()
    def end(self) -> None:
        """Put the mean of the parts in place."""
        if self._sums:
            # From the start, so that what no part moved stays the same to the bit.
            _copy(self._buffers, self._start[: len(self._buffers)])
            torch._foreach_add_(self._buffers, torch._foreach_div(self._sums, self._parts))


def _copy(to: list[Tensor], values: list[Tensor]) -> None:
    if to:
        torch._foreach_copy_(to, values)
