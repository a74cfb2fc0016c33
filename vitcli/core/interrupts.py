"""Ctrl-C and SIGTERM as a question that the training loop asks, not as an exception in mid-step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vitcli.core.errors import Interrupted


class StopRequest:
    """Set by the first signal; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    def error(self, where: str) -> Interrupted:
        """The exception to raise once everything is saved."""
        assert self.signal is not None
        how = "Ctrl-C" if self.signal is signal.SIGINT else self.signal.name
        return Interrupted(f"stopped by {how} {where}", exit_code=128 + self.signal)


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Catch SIGINT and SIGTERM while the block runs (in the main thread; elsewhere Python allows no handlers)."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
