"""The images of a batch divided among the cores of a CPU: each takes some of them through the whole model.

torch divides every single operation among all cores, and each time waits for the slowest one. A small model has hundreds
of short operations per step, so the waiting takes a large share of the time. Each core takes its images in pieces: then
the output of a layer is still in the core's cache when the next layer reads it.
"""

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from itertools import pairwise
from typing import TypeAlias, TypeVar

import torch
from torch import distributed, nn

from vitcli.core.own_cores import set_own_cores
from vitcli.engine.autocast import Precision

_MOST_THREADS = 8
"""Only one thread at a time can run Python code; each may use several cores."""
_EVEN_BELOW = 4
"""The number of images per thread below which all shares must have the same size."""
_MOST_WEIGHTS = 30_000_000
"""Each thread has its own gradients, and larger models gain little."""
_IN_CACHE = 4 << 20
"""Bytes of the largest output of a layer, for the images that a core takes at once. Measured on an AMD EPYC with 1 MiB of
second-level cache per core and a third level of 16: 2 to 4 MiB are about equally fast, and more is slower."""
_TIMES_MATRIX = 8
"""The same bytes are at least so many times those of the largest matrix, which is read anew for each piece: pieces of 4 MiB
make ViT-B 7 % slower."""

Pieces: TypeAlias = list[slice]
"""The images of one core, in the order in which it computes them."""
Share = TypeVar("Share")
Result = TypeVar("Result")
_pool: ThreadPoolExecutor | None = None
_this_thread = threading.local()


def _forget_pool() -> None:
    global _pool  # noqa: PLW0603 - the pool belongs to the process
    _pool = None


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_forget_pool)


def may_divide_steps(model: nn.Module, precision: Precision) -> bool:
    """Tell whether training may divide images among cores: if the model is not large, and draws no random numbers.

    Threads would draw random numbers in an order that is by chance, and in float16 all need one scale of the loss.
    """
    if precision.scaler.is_enabled():
        return False
    return not getattr(model, "draws", True) and sum(map(torch.Tensor.numel, model.parameters())) <= _MOST_WEIGHTS


def shares_of_cores(images: int, device: torch.device, model: object = None) -> list[Pieces]:
    """Divide a number of images among the cores of the device: one share of one piece on a GPU.

    Processes that train together are not divided: a part of the model in one of them may wait for the others.

    Args:
        images: the number of images.
        device: the device that computes them.
        model: the model; if it has no ``widest_bytes`` and ``matrix_bytes``, each share is one piece.
    """
    if device.type != "cpu" or (distributed.is_available() and distributed.is_initialized()):
        return [[slice(0, images)]]
    threads = torch.get_num_threads()
    count = max(number for number in range(1, _MOST_THREADS + 1) if threads % number == 0)
    is_uneven = images % count and images < _EVEN_BELOW * count
    if count > 1 and (is_uneven or getattr(_this_thread, "is_one_of_several", False) or not _can_divide()):
        count = 1
    room = max(_IN_CACHE * (threads // count), _TIMES_MATRIX * getattr(model, "matrix_bytes", 0))
    at_once = room // max(getattr(model, "widest_bytes", 0), 1)
    return [
        [
            slice(start + first, start + end)
            for first, end in _evenly(stop - start, -(-(stop - start) // max(at_once, 1)))
        ]
        for start, stop in _evenly(images, count)
    ]


def _evenly(images: int, parts: int) -> list[tuple[int, int]]:
    """Return the starts and ends of parts that differ by at most one image, without empty ones; no images are one part."""
    ends = [images * part // max(parts, 1) for part in range(max(parts, 1) + 1)]
    return [(start, end) for start, end in pairwise(ends) if start < end] or [(0, images)]


@functools.cache
def _can_divide() -> bool:
    """Tell whether threads of this process can have numbers of cores of their own."""

    def probe() -> bool:
        return torch.get_num_threads() > 0 and set_own_cores(1) and torch.get_num_threads() == 1

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(probe).result()


def on_cores(compute: Callable[[Share], Result], shares: Sequence[Share]) -> list[Result]:
    """Compute several shares at once, each in a thread of its own, and return the results in their order.

    ``compute`` runs with the same gradient mode as the caller. If a share fails, or the caller is interrupted, all
    threads end before the error is raised.
    """
    if len(shares) == 1:
        return [compute(shares[0])]
    cores = max(torch.get_num_threads() // len(shares), 1)
    grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    changed, computing, stopped = threading.Condition(), 0, False

    def compute_share(share: Share) -> Result:
        nonlocal computing
        with changed:
            if stopped:
                raise CancelledError
            computing += 1
        try:
            _this_thread.is_one_of_several = True
            torch.get_num_threads()  # the first call in a thread sets its number
            set_own_cores(cores)
            with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                return compute(share)
        finally:
            with changed:
                computing -= 1
                changed.notify()

    global _pool  # noqa: PLW0603 - threads are made once, because each costs as much as a small step
    _pool = _pool or ThreadPoolExecutor(_MOST_THREADS)
    try:
        futures = [_pool.submit(compute_share, share) for share in shares]
        wait(futures)
    except BaseException:  # an interrupt, perhaps before the pool knows of its thread: nothing may still compute
        with changed:
            stopped = True
            changed.wait_for(lambda: computing == 0)
        _pool.shutdown(wait=False)  # else such a thread would keep the process from ending
        _pool = None
        raise
    return [future.result() for future in futures]
