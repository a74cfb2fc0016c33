"""Facts about the machine of a run, and the versions of its libraries."""

import os
import platform
import sys
import time
from typing import Any

import torch
from torch import Tensor

from vitcli.engine.device import processor, synchronize

_MODULES = {name: name for name in ("torch", "torchvision", "numpy", "safetensors", "simplejpeg")} | {"pillow": "PIL"}

_PRODUCTS, _PEAK_SECONDS = 3, 0.5
"""Products between two looks at the clock, and the least number of such looks; the least seconds of all."""
_LONGEST = 0.3
"""The most seconds that one product may take, as far as a smaller one tells."""


def hardware() -> dict[str, Any]:
    """Return the system, the processor, cores, torch's threads, memory in bytes and visible GPUs; None: not known."""
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": processor()[0],
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "memory": _memory(),
        "gpus": [{"name": gpu.name, "memory": gpu.total_memory} for gpu in gpus],
    }


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries in use; ``cuda`` is the CUDA version that torch was built for."""
    loaded = {name: sys.modules[module] for name, module in _MODULES.items() if module in sys.modules}
    versions = {name: str(module.__version__) for name, module in loaded.items() if hasattr(module, "__version__")}
    return versions | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the peak operations per second of a device in a type, with a large matrix product.

    A small product comes first, and its size doubles as long as the next one does not take too long: some CPUs are 50
    times as slow in float16 as in float32.
    """
    largest = 8192 if device.type == "cuda" else 1024
    size = largest // 4
    left, right = torch.randn(2, largest, largest, device=device).to(dtype).unbind()
    # Time each size, because on a busy machine most of the time of a small product is waiting
    while size < largest and 2**3 * min(_product_seconds(left, right, size) for _ in range(_PRODUCTS)) <= _LONGEST:
        size *= 2
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < _PRODUCTS or time.perf_counter() - began < _PEAK_SECONDS:
        seconds.append(_product_seconds(left, right, size, count=_PRODUCTS))
    return 2 * size**3 / min(seconds)


def _product_seconds(left: Tensor, right: Tensor, size: int, *, count: int = 1) -> float:
    """Measure the mean seconds of the product of two square matrices, cut to a size."""
    left, right = left[:size, :size].contiguous(), right[:size, :size].contiguous()
    synchronize(left.device)
    started = time.perf_counter()
    for _ in range(count):
        left @ right
    synchronize(left.device)
    return (time.perf_counter() - started) / count


def usable_cores() -> int | None:
    """Count the cores that this process may use, or all cores if the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
