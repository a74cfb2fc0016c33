"""Facts about the machine of a run, and the versions of its libraries."""

import os
import platform
import sys
from typing import Any

import torch

from vitcli.engine.device import processor

_MODULES = {name: name for name in ("torch", "torchvision", "numpy", "safetensors", "simplejpeg")} | {"pillow": "PIL"}


def hardware() -> dict[str, Any]:
    """Return the system, the processor, cores, torch's threads, memory in bytes and visible GPUs; None: not known."""
    gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": processor()[0],
        "cores": _usable_cores(),
        "threads": torch.get_num_threads(),
        "memory": _memory(),
        "gpus": [{"name": gpu.name, "memory": gpu.total_memory} for gpu in gpus],
    }


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries in use; ``cuda`` is the CUDA version that torch was built for."""
    loaded = {name: sys.modules[module] for name, module in _MODULES.items() if module in sys.modules}
    versions = {name: str(module.__version__) for name, module in loaded.items() if hasattr(module, "__version__")}
    return versions | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


def _usable_cores() -> int | None:
    """Count the cores that this process may use, or all cores if the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None
