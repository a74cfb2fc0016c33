"""Stop requests by Ctrl-C, SIGTERM and a closed terminal: a flag that the training loop checks, not an exception."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, ClassVar

from vitcli.core.errors import Interrupted

_ONE_REQUEST_SECONDS = 1.0
"""Later signals within this time count as the same request: launchers such as ``uv run`` may pass one on twice."""


def _raise(error: Interrupted) -> None:
    raise error


class StopRequest:
    """A flag that the first signal sets; a further signal, a second later or more, ends the training at once.

    Args:
        hint: the hint of the error that ends the training, for example how to resume.
    """

    end: ClassVar[Callable[[Interrupted], None]] = staticmethod(_raise)
    """The function that ends the training at once; the usual one raises the error."""

    def __init__(self, hint: str = "") -> None:
        self.hint = hint
        self.signal: signal.Signals | None = None
        self._received = 0.0

    def __bool__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._received = signal.Signals(number), now
        elif now - self._received >= _ONE_REQUEST_SECONDS:
            StopRequest.end(self.error("at once"))

    def error(self, where: str) -> Interrupted:
        """Return the exception that ends the training.

        Args:
            where: the place where it stops, the end of the message.
        """
        assert self.signal is not None
        how = "Ctrl-C" if self.signal is signal.SIGINT else self.signal.name
        return Interrupted(f"stopped by {how} {where}", hint=self.hint, exit_code=128 + self.signal)


class LateRequest(StopRequest):
    """A request that came too late for a block of ``stop_requests`` within; other signals do what they did before."""

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[signal.Signals, Any] = {}

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; that of a block within comes without a frame."""
        handler = self.before.get(signal.Signals(number))
        if frame is None:
            super().receive(number, frame)
        elif callable(handler):
            handler(number, frame)
        else:
            signal.signal(number, handler or signal.SIG_DFL)
            signal.raise_signal(number)


@contextmanager
def stop_requests(hint: str = "") -> Iterator[StopRequest]:
    """Catch signals while the block runs, in the main thread only: Python allows no handlers elsewhere.

    A process that ignores SIGHUP, as ``nohup`` makes it, goes on doing so. A block within such a block passes its signal on
    at its end: what it does may be over before it looks at the request.
    """
    request = StopRequest(hint)
    before: dict[signal.Signals, Any] = {}
    try:
        with _receiving(request) as before:
            yield request
    finally:
        outer = getattr(before.get(request.signal), "__self__", None) if request.signal else None
        if request.signal and isinstance(outer, StopRequest):
            outer.receive(request.signal, None)


@contextmanager
def late_requests() -> Iterator[LateRequest]:
    """Keep a signal that a block of ``stop_requests`` within receives, but does not act on any more."""
    request = LateRequest()
    with _receiving(request) as before:
        request.before = before
        yield request


@contextmanager
def _receiving(request: StopRequest) -> Iterator[dict[signal.Signals, Any]]:
    """Have a request receive the signals that end a program; yield their handlers from before."""
    if threading.current_thread() is not threading.main_thread():
        yield {}
        return
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield before
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ending_at_once_by(end: Callable[[Interrupted], None]) -> Iterator[None]:
    """Have a further signal call ``end`` while the block runs; an exception would wait for writes to a slow disk."""
    before, StopRequest.end = StopRequest.end, staticmethod(end)
    try:
        yield
    finally:
        StopRequest.end = before
