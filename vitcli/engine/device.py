"""Which device, which precision, and seeds."""

import contextlib
import functools
import os
import random
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from vitcli.core.errors import DeviceError, did_you_mean

_KINDS = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """The device of a name: auto (the best there is), cpu, cuda, cuda:N or mps.

    Raises:
        DeviceError: an unknown name, or a device that this machine lacks.
    """
    kind, _, index = name.partition(":")
    if kind not in _KINDS or (index and not (kind == "cuda" and index.isdecimal())):
        meant = "cuda" if kind.lower() in {"gpu", "nvidia"} else kind
        hint = did_you_mean(meant, _KINDS, otherwise="auto, cpu, cuda, cuda:N or mps")
        raise DeviceError(f"unknown device {name!r}", hint=hint)
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[kind]:
        raise DeviceError(f"this machine has no {kind} device that torch can use", hint="--device cpu")
    if index and int(index) >= torch.cuda.device_count():
        raise DeviceError(f"there is no {name}", hint=f"this machine has {torch.cuda.device_count()} CUDA device(s)")
    return torch.device(f"{kind}:{index}" if index else kind)


def describe(device: torch.device) -> str:
    """A device as a person would name it."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    threads = torch.get_num_threads()
    return f"cpu ({threads} thread{'s' if threads > 1 else ''})" if device.type == "cpu" else str(device)


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed Python, NumPy, torch and one device, in microseconds: ``torch.manual_seed`` is far too slow for every step."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries may draw from the global generator
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


def seed_everything(seed: int, *, deterministic: bool = False) -> None:
    """Seed Python, NumPy and torch, and refuse operations that are not deterministic if asked to."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries may draw from the global generator
    torch.manual_seed(seed)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True)
        torch.backends.cudnn.benchmark = False


@functools.cache
def has_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16, and does not merely emulate it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


class Precision:
    """Mixed precision for one device: an autocast context, and a gradient scaler where float16 needs one."""

    def __init__(self, device: torch.device, *, amp: str, dtype: str) -> None:
        self.enabled = amp == "on" or (amp == "auto" and has_bfloat16(device))
        self.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float16
        self._device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.enabled and self.dtype is torch.float16)

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which to run the model."""
        if not self.enabled:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self.dtype)
