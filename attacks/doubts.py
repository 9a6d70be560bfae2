"""Faults that are looked for on the device as an attack goes on, and read together at its end."""

from collections.abc import Callable

from robustmix.later import Tensor, torch

Error = Callable[[], Exception]


class Doubts:
    """What may have gone wrong, noted without waiting for the device to say whether it has.

    Reading a number makes the host wait until the device has done all that it was asked for, and
    the device then idles until the host has asked for more. On a CPU nothing waits, so a fault
    raises as soon as it is noted.
    """

    def __init__(self) -> None:
        self._faults: dict[Error, Tensor] = {}

    def note(self, fault: Tensor, error: Error) -> None:
        """Note what may be a fault.

        Args:
            fault: one number, 0 if all is well; NaN is a fault too.
            error: makes the error of this fault. Faults of one error are read as one.

        Raises:
            Exception: that of ``error``, on a CPU, if there is a fault.
        """
        if fault.device.type == "cpu":
            if float(fault) != 0:
                raise error()
            return
        known = self._faults.get(error)
        self._faults[error] = fault if known is None else known + fault

    def settle(self) -> None:
        """Read all at once, and forget them.

        Raises:
            Exception: that of the first fault that was noted.
        """
        faults, self._faults = self._faults, {}
        if not faults:
            return
        found = torch.stack([fault.double() for fault in faults.values()]) != 0
        if int(found.sum()):
            raise next(
                error for error, is_so in zip(faults, found.tolist(), strict=True) if is_so
            )()


def doubt(fault: Tensor, error: Error, doubts: Doubts | None) -> None:
    """Note what may be a fault with the caller's doubts; without any, look at once.

    Raises:
        Exception: that of ``error``, if there is a fault and it is looked at.
    """
    own = Doubts() if doubts is None else doubts
    own.note(fault, error)
    if doubts is None:
        own.settle()


def not_finite(values: Tensor) -> Tensor:
    """Give 0 if all values are finite, else NaN, in fewer operations than asking each.

    Example:
        >>> not_finite(torch.tensor([1.0, 2.0])), not_finite(torch.tensor([1.0, torch.inf]))
        (tensor(0.), tensor(nan))
    """
    if not values.numel():
        return values.new_zeros(())
    largest: Tensor = torch.linalg.vector_norm(values.detach(), ord=torch.inf)
    return largest - largest  # infinity minus infinity is NaN
