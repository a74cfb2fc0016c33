"""torch.compile where it is worth its time, and tried out before training relies on it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vitcli.core.errors import DeviceError
from vitcli.core.events import Emit, Note, Warned
from vitcli.engine.device import Precision

Forward = Callable[[Tensor], Tensor]

_WORTH_SECONDS = 300.0
"""Compiling takes about a minute, and saves about a quarter of the time."""


def is_worth_compiling(device: torch.device, *, seconds: float) -> bool:
    """Whether training that takes so many seconds would win back the time; a CPU computes ViTs no faster for it."""
    return device.type == "cuda" and seconds >= _WORTH_SECONDS


def compiled(
    model: nn.Module, example: Tensor, precision: Precision, *, required: bool, emit: Emit, **options: Any
) -> Forward | None:
    """A model through torch.compile, after a first step that leaves no trace; None: that does not work here.

    The model itself stays as it is, and so do the names of its weights. Batches of another size than the example's, such
    as the last one, are computed without compiling anew, so that nothing can fail later on.

    Args:
        model: on its device.
        example: a batch of training.
        precision: what training computes in.
        required: it is an error if it does not work, for example without a C++ compiler; else a warning.
        emit: told about it.
        options: of torch.compile.

    Raises:
        DeviceError: it does not work, and is required.
    """
    emit(Note(text="compiling the model"))
    fast: Forward = torch.compile(model, dynamic=False, **options)
    was_training = model.training
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        with torch.random.fork_rng([example.device] if example.device.type == "cuda" else []):
            model.train()
            with precision.autocast():
                loss = fast(example).float().square().mean()
            torch.autograd.grad(loss, weights, allow_unused=True)
    except Exception as error:
        reason = " ".join(str(error).split("\n")[:2]) or type(error).__name__  # the first line may only say whose fault
        if required:
            raise DeviceError(f"torch.compile does not work here: {reason}", hint="--compile off") from error
        emit(Warned(text=f"torch.compile does not work here, so training goes on without it: {reason}"))
        return None
    finally:
        model.train(was_training)

    def forward(images: Tensor) -> Tensor:
        output: Tensor = fast(images) if images.shape == example.shape else model(images)
        return output

    return forward
