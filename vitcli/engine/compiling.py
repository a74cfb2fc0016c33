"""torch.compile for training: used if it saves time, and tested before training relies on it."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vitcli.core.errors import DeviceError, VitError
from vitcli.core.events import Emit, Note, Warned
from vitcli.engine.autocast import Precision
from vitcli.engine.micro_batches import MicroBatches

Forward = Callable[[Tensor], Tensor]
_Result = TypeVar("_Result")

_WORTH_SECONDS = 300.0
"""Seconds of the shortest training worth compiling: this takes about a minute, and saves a quarter of the time."""


def is_worth_compiling(device: torch.device, *, seconds: float) -> bool:
    """Tell whether compiling saves time in a training of this many seconds; on a CPU, ViTs do not become faster."""
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
    """Compile a model with torch.compile and test it on first steps; return None if that does not work here.

    The model and the names of its weights do not change, and the first steps have no side effects. Batches of another
    shape than the examples, such as the last batch, run without compilation, so that nothing can fail later.

    Args:
        model: the model, on its device.
        examples: one training batch for each image size, the largest first.
        precision: the precision of training.
        micro_batches: the micro-batches of each batch; their number grows if an example does not fit into memory.
        required: raise an error if it does not work, for example without a C++ compiler; otherwise only warn.
        constants: functions whose result depends only on their arguments; it is compiled in as a constant.
        emit: receives notes and warnings.
        options: options of torch.compile.

    Raises:
        DeviceError: compilation is required, but does not work.
        TrainingError: compilation is required, but there is not enough memory.
    """
    emit(Note(text="compiling the model" + (f" for {len(examples)} sizes of images" if len(examples) > 1 else "")))
    device, was_training = examples[0].device, model.training
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    asked = micro_batches.count

    def first_steps(slices: list[slice]) -> tuple[Forward, set[torch.Size]]:
        if micro_batches.count > asked:
            torch.compiler.reset()  # torch compiles only a few shapes, and counts the ones that did not fit
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
            warnings.filterwarnings("ignore", module=r"torch\.")  # about TF32 and the like, which --amp decides
            model.train()
            fast, shapes = micro_batches.fitted(partial(_all_compiled, first_steps), len(examples[0]))
    except Exception as error:
        if required and isinstance(error, VitError):
            raise
        words = error.message if isinstance(error, VitError) else str(error)
        reason = " ".join(words.split("\n")[:2]) or type(error).__name__  # line 1 may only name the backend
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


def _all_compiled(first_steps: Callable[[list[slice]], _Result], slices: list[slice]) -> _Result:
    """Take the first steps; forget the models that were compiled before if torch would not compile all of this one.

    Torch compiles only a few variants of a function in one process, and runs all others as they are.
    """
    from torch._dynamo import config
    from torch._dynamo.exc import FailOnRecompileLimitHit

    with config.patch(fail_on_recompile_limit_hit=True):
        try:
            return first_steps(slices)
        except FailOnRecompileLimitHit:
            torch.compiler.reset()
            return first_steps(slices)
