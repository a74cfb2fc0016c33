"""torch.compile where it is worth its time, and tried out before training relies on it."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vitcli.core.errors import DeviceError, VitError
from vitcli.core.events import Emit, Note, Warned
from vitcli.engine.autocast import Precision
from vitcli.engine.micro_batches import MicroBatches

Forward = Callable[[Tensor], Tensor]

_WORTH_SECONDS = 300.0
"""Compiling takes about a minute, and saves about a quarter of the time."""


def is_worth_compiling(device: torch.device, *, seconds: float) -> bool:
    """Tell whether training of so many seconds would win back the time; a CPU computes ViTs no faster for it."""
    return device.type == "cuda" and seconds >= _WORTH_SECONDS


def compiled(
    model: nn.Module,
    examples: Sequence[Tensor],
    precision: Precision,
    *,
    micro_batches: MicroBatches,
    required: bool,
    constants: Iterable[Callable[..., Any]] = (),
    emit: Emit,
    **options: Any,
) -> Forward | None:
    """A model through torch.compile, after first steps that leave no trace; None: that does not work here.

    The model itself stays as it is, and so do the names of its weights. Batches of another size than the examples', such
    as the last one, are computed without compiling again, so that nothing can fail later on.

    Args:
        model: on its device.
        examples: a batch of training in every size of images, the largest first.
        precision: what training computes in.
        micro_batches: of each batch; there are more of them afterwards where an example does not fit into memory.
        required: it is an error if it does not work, for example without a C++ compiler; else a warning.
        constants: functions whose result depends on their arguments alone; it becomes a part of what is compiled.
        emit: told about it.
        options: of torch.compile.

    Raises:
        DeviceError: it does not work, and is required.
        TrainingError: likewise, for want of memory.
    """
    emit(Note(text="compiling the model" + (f" for {len(examples)} sizes of images" if len(examples) > 1 else "")))
    device, was_training = examples[0].device, model.training
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    asked = micro_batches.count

    def first_steps(slices: list[slice]) -> tuple[Forward, set[torch.Size]]:
        if micro_batches.count > asked:
            torch.compiler.reset()  # torch compiles for a few shapes only, and counts those that did not fit
        fast: Forward = torch.compile(model, dynamic=False, **options)
        first_slices = [example[slices[0]] for example in examples]
        for images in first_slices:
            with precision.autocast():
                loss = fast(images).float().square().mean()
            torch.autograd.grad(loss, weights, allow_unused=True)
        return fast, {images.shape for images in first_slices}

    try:
        for function in constants:
            torch.compiler.assume_constant_result(function)
        with torch.random.fork_rng([device] if device.type == "cuda" else []), warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"torch\.")  # of TF32 and the like, which --amp decides
            model.train()
            fast, shapes = micro_batches.fitted(first_steps, len(examples[0]))
    except Exception as error:
        if required and isinstance(error, VitError):
            raise
        reason = " ".join(str(error).split("\n")[:2]) or type(error).__name__  # the first line may only say whose fault
        if required:
            raise DeviceError(f"torch.compile does not work here: {reason}", hint="--compile off") from error
        emit(Warned(text=f"torch.compile does not work here, so training continues without it: {reason}"))
        return None
    finally:
        model.train(was_training)

    def forward(images: Tensor) -> Tensor:
        output: Tensor = fast(images) if images.shape in shapes else model(images)
        return output

    return forward
