"""Devices: their choice, identification, memory and random seeds."""

import contextlib
import functools
import gc
import hashlib
import os
import platform
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitcli.core.devices import parse_device, stated_bfloat16
from vitcli.core.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """Return the device with a name: auto (the best available one), cpu, cuda, cuda:N or mps.

    Raises:
        DeviceError: the name is not known, or this machine does not have the device.
    """
    kind, index = parse_device(name)
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[kind]:
        raise DeviceError(f"this machine has no {kind} device that torch can use", hint="--device cpu")
    if index and int(index) >= torch.cuda.device_count():
        raise DeviceError(
            f"there is no cuda:{index}", hint=f"this machine has {torch.cuda.device_count()} CUDA device(s)"
        )
    return torch.device(f"{kind}:{index}" if index else kind)


def describe(device: torch.device) -> str:
    """Describe a device for a reader, for example ``cpu (4 threads)``."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' if threads > 1 else ''})" if device.type == "cpu" else str(device)


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed Python, NumPy, torch and one device within microseconds.

    ``torch.manual_seed`` is far too slow to be called in every step.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries may draw from the global generator
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def seed_everything(seed: int, *, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch; if ``deterministic``, torch refuses operations that are not deterministic."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries may draw from the global generator
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
        torch.backends.cudnn.benchmark = False


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def reset_peak_memory(device: torch.device) -> None:
    """Reset the peak memory of a CUDA device; the peak memory of a process cannot be reset."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes: of a CUDA device since the last reset, else of this process; 0: not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def watch_memory(device: torch.device) -> Callable[[], int | None]:
    """Begin to watch the memory of a device, and return a function that tells how far its peak rose since then.

    Returns:
        The function returns bytes of tensors above the beginning; None: not a CUDA device. On a CPU, it is not known: the
        process keeps memory that earlier work has freed, so that later work seems to take less.
    """
    if device.type != "cuda":
        return lambda: None
    gc.collect()  # what earlier work has left does not count as memory at the beginning
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    return lambda: torch.cuda.max_memory_allocated(device) - before


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device computes in bfloat16 natively, without emulation.

    ``$VIT_BFLOAT16`` (``yes`` or ``no``) overrides what torch detects, because a virtual machine may hide the
    abilities of the processor.

    Raises:
        DeviceError: ``$VIT_BFLOAT16`` has another value.
    """
    if device.type == "cuda":
        return _gpu_has_bfloat16(device)
    if device.type != "cpu":
        return False
    if (stated := stated_bfloat16()) is not None:
        return stated
    return torch.backends.mkldnn.is_available() and _processor_has_bfloat16()


def computes_in(device: torch.device, precision: str) -> bool:
    """Tell whether a device has instructions for float32, bfloat16 or float16; else it emulates them, slowly."""
    if precision == "bfloat16":
        return has_bfloat16(device) or device.type not in {"cpu", "cuda"}
    if precision == "float16" and device.type == "cpu":
        return any(_capabilities().get(name) for name in ("avx512_fp16", "amx_fp16", "fp16_arith"))
    return True


@functools.cache
def _gpu_has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _processor_has_bfloat16() -> bool:
    """Tell whether the CPU has AVX-512-BF16 or AMX (x86) or BF16 (ARM); False if this version of torch cannot tell."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) or any(
        getattr(torch.cpu, probe, lambda: False)() for probe in probes
    )


def _capabilities() -> Mapping[str, Any]:
    """Return the instructions of the CPU by name; empty if this version of torch cannot tell."""
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return found


@functools.cache
def processor() -> tuple[str, str]:
    """Return the processor's model, and a fingerprint (hash) of its abilities."""
    facts: dict[str, str] = {}
    with contextlib.suppress(OSError):  # only Linux has it
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            facts.setdefault(name.strip(), value.strip())
    model = facts.get("model name") or facts.get("CPU part") or platform.processor() or platform.machine()
    flags = facts.get("flags") or facts.get("Features") or ""
    able = f"{torch.backends.cpu.get_cpu_capability()} {' '.join(sorted(flags.split()))}"
    return model, hashlib.sha256(able.encode()).hexdigest()[:16]


def fingerprint(device: torch.device) -> dict[str, str | int]:
    """Return all that the speed of a device depends on: its model, torch's version, threads, and ``$VIT_BFLOAT16``."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "torch": torch.__version__}
    model, flags = processor()
    return {
        "device": f"{device.type} {model}",
        "flags": flags,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        **({} if stated_bfloat16() is None else {"bfloat16": bool(stated_bfloat16())}),
    }
