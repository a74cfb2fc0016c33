"""Ctrl-C and SIGTERM as a question that the training loop asks, not as an exception in mid-step."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vitcli.core.errors import Interrupted

_ONE_REQUEST_SECONDS = 1.0
"""Launchers such as ``uv run`` may hand one signal on twice."""


class StopRequest:
    """Set by the first signal; another one, a second later or more, ends the training at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._received = 0.0

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._received = signal.Signals(number), now
        elif now - self._received >= _ONE_REQUEST_SECONDS:
            raise self.error("at once")

    def error(self, where: str) -> Interrupted:
        """The exception that ends the training."""
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
