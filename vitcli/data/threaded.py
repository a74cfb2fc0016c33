"""Change a batch on the threads of the CPU: each thread takes whole images through all changes.

That way pixels stay in a core's cache from one change to the next, and threads wait for each other once per batch.
torch's own way, all threads on each operation, has them wait after every one: with small images that is most of the
time, and many times it on cores that other processes use as well.
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

Positions = slice | Tensor
"""The positions of some images in their batch."""
Change = Callable[[Tensor, Positions], Tensor]
"""What has been drawn for a batch, applied to some of its images: called with those and their positions."""

_FEW = 2**15
"""Values of a result up to which torch uses one thread, too."""
_CHUNK = 2**19
"""Values of a result that a thread works on at once: 2 MiB of float32, what a core's cache may hold."""

_HEAP = 2**25
"""Bytes up to which malloc keeps freed memory for the next request."""


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to the device where a batch is changed.

    A plain copy to a GPU waits until the GPU has done all it was given, so every step would begin with an idle GPU.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def change_threaded(change: Change, images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The change of a whole batch; on another device than the CPU it is made at once.

    Args:
        change: from (b, C, h, w) to (b, *shape), float32; each image by itself.
        images: (B, C, h, w).
        shape: of one result.
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
        pass  # asking for the outcome raises what a thread has raised
    return result


def _memory(*shape: int) -> Tensor:
    """An empty float32 tensor; a large one in large pages, where there are any.

    What exceeds 32 MiB the C library takes from the system again, page by page: for photos a third of the work.
    """
    size = 4 * math.prod(shape)
    if size <= _HEAP or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(shape)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel built without them
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.float32).view(shape)  # keeps the memory as long as it lives


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads in which torch uses one thread, kept: starting them takes longer than a small batch."""
    started = Barrier(threads)

    def start() -> None:
        torch.get_num_threads()  # the number is each thread's own; before it is first asked for, none can be set
        torch.set_num_threads(1)
        started.wait()

    pool = ThreadPoolExecutor(threads, initializer=start)
    list(pool.map(lambda _: None, range(threads)))
    torch.set_num_threads(threads)  # new threads inherit what was set last
    return pool
