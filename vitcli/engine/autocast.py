"""Mixed precision: the autocast context of the forward pass, and the gradient scaler for float16."""

import contextlib
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


class Precision:
    """Mixed precision for one device: an autocast context, and a gradient scaler for float16.

    Args:
        device: the device to compute on.
        amp: ``on`` or ``off``; ``trained.precision`` resolves ``auto`` to one of them.
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
        """The name of the type to compute in: float32, bfloat16 or float16."""
        return str(self.dtype if self.enabled else torch.float32).removeprefix("torch.")

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which to run the model.

        One pass converts each weight only once, so a cache would save no time and take half a model's memory.
        """
        if not self.enabled:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype, cache_enabled=False)

    def rounded(self, model: Model) -> Model:
        """Return the model for many passes of inference: its matrices are converted once, and not in every pass.

        The outputs inside ``autocast`` are the same. All that is not converted is shared with the given model.
        """
        if not self.enabled:
            return model
        shared = [*model.parameters(), *model.buffers()]
        copy = deepcopy(model, {id(tensor): tensor for tensor in shared})
        for module in copy.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                for name, parameter in list(module.named_parameters(recurse=False)):
                    converted = parameter.detach().to(self.dtype)
                    setattr(module, name, nn.Parameter(converted, requires_grad=False))
        return copy
