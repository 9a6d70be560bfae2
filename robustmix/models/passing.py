"""What a module inside a network returns, read or changed on its way to the next one.

A hook that comes and goes with a pass cannot be traced by ``torch.compile``; one that stays can,
and so can what it is told for the length of a pass. While nobody tells it anything it does nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class Passing:
    """A place behind a module; made before the first pass, it stays.

    Args:
        module: returns one tensor.
    """

    def __init__(self, module: nn.Module) -> None:
        self._change: Callable[[Tensor], Tensor] | None = None
        module.register_forward_hook(self._pass)

    @contextmanager
    def changed_by(self, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Let passes go on with ``change(output)`` in place of the module's output."""
        self._change = change
        try:
            yield
        finally:
            self._change = None

    def _pass(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output if self._change is None else self._change(output)
