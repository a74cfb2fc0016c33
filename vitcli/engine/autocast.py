"""Mixed precision: the context that computes in it, and the scaler that float16 needs."""

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import torch


class Precision:
    """Mixed precision for one device: an autocast context, and a gradient scaler where float16 needs one.

    Args:
        device: where it is computed.
        amp: ``on`` or ``off``; ``trained.precision`` chooses what ``auto`` means.
        dtype: ``bfloat16`` or ``float16``.
    """

    def __init__(self, device: torch.device, *, amp: str, dtype: str) -> None:
        assert amp in {"on", "off"}, amp
        self.enabled = amp == "on"
        self.dtype = torch.bfloat16 if dtype == "bfloat16" else torch.float16
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.enabled and self.dtype is torch.float16)

    @property
    def name(self) -> str:
        """float32, bfloat16 or float16."""
        return str(self.dtype if self.enabled else torch.float32).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[Any]:
        """The context in which to run the model.

        A pass casts each weight once, so that nothing is gained by keeping casts, which together are half a model.
        """
        if not self.enabled:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype, cache_enabled=False)
