"""Stopping a run between two steps: SIGINT, SIGTERM, SIGHUP and SIGUSR2 become a request."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_CAUGHT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""Ctrl-C, what schedulers and containers send, what a closed terminal sends, and what Slurm sends
some time before it ends a job."""


class StopRequest:
    """Whether, and why, the run is to stop after the step it is in."""

    def __init__(self, also: Callable[[], bool] | None = None) -> None:
        self.signal: int | None = None
        self._also = also

    def __call__(self) -> bool:
        """Return whether a signal came, or the caller's own condition holds."""
        return self.signal is not None or (self._also is not None and self._also())


@contextlib.contextmanager
def stop_on_signals(also: Callable[[], bool] | None = None) -> Iterator[StopRequest]:
    """Turn the first of the signals into a request to stop; a second SIGINT stops at once.

    SIGHUP stays ignored where the process was started so, as ``nohup`` does.
    Outside the main thread Python allows no handlers; then only ``also`` can ask for a stop.

    Args:
        also: asked after every step; true stops the run as a signal does.
    """
    request = StopRequest(also)

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        request.signal = request.signal or number

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    detached = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    heard = [number for number in _CAUGHT if number != signal.SIGHUP or not detached]
    previous = {number: signal.signal(number, note) for number in heard}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            # None stands for a handler that was not installed from Python; it cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
