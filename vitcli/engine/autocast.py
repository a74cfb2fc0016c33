"""Mixed precision: the autocast context of the forward pass, and the gradient scaler for float16."""

import contextlib
import functools
import math
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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

        The outputs inside ``autocast`` are the same but for rounding. All that is not converted is shared with the given
        model. On a CPU, the matrices are also put in the order in which oneDNN's kernels read them, which would otherwise
        be done in every pass; such a model has no gradients, and cannot be copied.
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
        if self.device.type == "cpu" and self.dtype is torch.bfloat16 and _can_pack():
            for module in list(copy.modules()):
                for name, layer in module.named_children():
                    if type(layer) is nn.Linear:  # LoRA's have a matrix that is computed in every pass
                        setattr(module, name, _PackedLinear(layer.weight, layer.bias))
        return copy


class _PackedLinear(nn.Module):
    """A linear layer in bfloat16 whose matrix lies in the order of oneDNN's kernels; only for inference on a CPU."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.bias = bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)  # noqa: SLF001 - as torch.compile does

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the layer's output, (..., in) -> (..., out), in bfloat16."""
        assert not (torch.is_grad_enabled() and inputs.requires_grad), "the gradient would be lost"
        multiply = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001
        output: Tensor = multiply(inputs.to(torch.bfloat16), self.packed, self.bias, "none", [], "")
        return output


@functools.cache
@torch.inference_mode()
def _can_pack() -> bool:
    """Tell whether this processor and this version of torch have such kernels, whose outputs are those of others."""
    weight, inputs, bias = (
        torch.linspace(-1, 1, math.prod(shape)).view(shape).bfloat16() for shape in ((96, 48), (5, 48), (96,))
    )
    try:
        outputs = _PackedLinear(weight, bias)(inputs)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(outputs, F.linear(inputs, weight, bias), rtol=0.02, atol=0.02)
