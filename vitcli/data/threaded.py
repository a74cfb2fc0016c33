"""Threaded changes of a batch on the CPU: each thread takes whole images through all changes.

In this way, pixels stay in a core's cache from one change to the next, and threads wait for each other once per batch.
torch itself uses all threads for each operation, so they wait after every operation: with small images, waiting takes
most of the time, and many times as long on cores that other processes also use.
"""

import itertools
import math
import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from threading import Barrier

import torch
from torch import Tensor

from vitcli.core.own_cores import set_own_cores

Positions = slice | Tensor
"""The positions of some images in their batch."""
Change = Callable[[Tensor, Positions], Tensor]
"""The change that was drawn for a batch: called with some of its images and their positions."""

_FEW = 2**15
"""Number of values in a result up to which one thread is used, as in torch."""
_CHUNK = 2**19
"""Number of values in a result that a thread computes at once: 2 MiB of float32, which may fit a core's cache."""

_HEAP = 2**25
"""Bytes up to which malloc keeps freed memory for the next request."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to the device where a batch is changed.

    A plain copy to a GPU waits until the GPU has finished all its work, so every step would begin with an idle GPU.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def change_threaded(change: Change, images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Apply a change to a whole batch: in threads if it is on the CPU and large, otherwise in one call.

    Args:
        change: a function from (b, C, h, w) to (b, *shape), float32, that treats each image separately.
        images: (B, C, h, w).
        shape: the shape of one result.
    """
    batch = len(images)
    values = batch * math.prod(shape)
    if images.device.type != "cpu" or values <= _FEW:
        return change(images, slice(0, batch))
    threads = torch.get_num_threads()
    number = min(batch, max(threads, math.ceil(values / _CHUNK)))
    bounds = [batch * chunk // number for chunk in range(number + 1)]
    result = _memory(batch, *shape)

    def fill(start: int, stop: int) -> None:
        result[start:stop] = change(images[start:stop], slice(start, stop))

    run = map if threads == 1 else _pool(threads).map
    for _ in run(fill, *zip(*itertools.pairwise(bounds), strict=True)):
        pass  # taking the results raises the exceptions of the threads
    return result


def _memory(*shape: int) -> Tensor:
    """Allocate a float32 tensor without values; a large one in huge pages, if the system has them.

    The C library requests more than 32 MiB from the system each time, page by page: for photos, a third of the work.
    """
    size = 4 * math.prod(shape)
    if size <= _HEAP or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel built without huge pages
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).view(shape)  # the tensor keeps the memory alive


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads that use one torch thread each; kept, because starting them takes longer than a small batch."""
    started = Barrier(threads)

    def start() -> None:
        torch.get_num_threads()  # the first call in a thread sets its number
        if not set_own_cores(1):
            torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, initializer=start)
    list(pool.map(lambda _: None, range(threads)))
    if torch.get_num_threads() != threads:  # new threads inherit the number that ``torch.set_num_threads`` set last
        torch.set_num_threads(threads)
    return pool
