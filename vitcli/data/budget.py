"""A budget of memory for decoded images, shared by all threads of this process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

BUDGET = 10**9
"""Bytes of decoded images at a time."""
_free = BUDGET
_changed = threading.Condition()


@contextmanager
def reserved(size: int) -> Iterator[None]:
    """Reserve bytes while the block runs; wait until other threads have freed enough.

    Args:
        size: the number of bytes, at most ``BUDGET``.
    """
    global _free  # noqa: PLW0603 - one budget for the process
    with _changed:
        _changed.wait_for(lambda: _free >= size)
        _free -= size
    try:
        yield
    finally:
        with _changed:
            _free += size
            _changed.notify_all()
