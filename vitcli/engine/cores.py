"""The images of a batch divided among the cores of a CPU: each takes some of them through the whole model.

torch divides every single operation among all cores, and each time waits for the slowest one. A small model has hundreds
of short operations per step, so the waiting takes a large share of the time (``benchmarks/training_step.py``).
"""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import TypeVar

import torch

from vitcli.core.own_cores import set_own_cores

_MOST = 8
"""The largest number of threads, because only one at a time can run Python code; each may use several cores."""
_MANY = 4
"""The number of images per thread from which on shares may differ in size."""

Share = TypeVar("Share")
Result = TypeVar("Result")
_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool  # noqa: PLW0603 - the pool belongs to the process
    _pool = None


if hasattr(os, "register_at_fork"):  # a forked process has none of the threads
    os.register_at_fork(after_in_child=_forget_pool)


def shares_of_cores(images: int, device: torch.device) -> list[slice]:
    """Divide a number of images among the cores of the device: one share on a GPU, or for few images."""
    count = min(torch.get_num_threads(), _MOST) if device.type == "cpu" else 1
    if count == 1 or (images % count and images < _MANY * count) or not _can_divide():
        return [slice(0, images)]
    ends = [images * part // count for part in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(ends) if start < end] or [slice(0, images)]


@functools.cache
def _can_divide() -> bool:
    """Tell whether threads of this process can have numbers of cores of their own."""

    def probe() -> bool:
        return torch.get_num_threads() > 0 and set_own_cores(1) and torch.get_num_threads() == 1

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(probe).result()


def on_cores(compute: Callable[[Share], Result], shares: Sequence[Share]) -> list[Result]:
    """Compute several shares at once, each in a thread of its own, and return the results in their order.

    ``compute`` runs with the same gradient mode as the caller. If it fails, the other threads end before the first error
    is raised.
    """
    if len(shares) == 1:
        return [compute(shares[0])]
    threads, grad, inference = torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def alone(share: Share) -> Result:
        torch.get_num_threads()  # the first call in a thread sets its number
        set_own_cores(max(threads // len(shares), 1))
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            return compute(share)

    global _pool  # noqa: PLW0603 - threads are made once, because each costs as much as a small step
    _pool = _pool or ThreadPoolExecutor(_MOST)
    futures = [_pool.submit(alone, share) for share in shares]
    wait(futures)
    return [future.result() for future in futures]
