"""Choice of the faster precision for a model on a device, by timing the model itself.

bfloat16 makes large matrix products several times as fast if the processor has instructions for it, but small ones
slower, because every operand has to be converted first. A table of processors cannot tell which case a model is.
"""

import statistics
import time
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.core.memory import is_out_of_memory
from vitcli.engine.autocast import Precision
from vitcli.engine.cores import Pieces, may_divide_steps, on_cores, shares_of_cores
from vitcli.engine.device import synchronize

Work = Literal["training", "inference"]

_CLEARLY = 1.1
"""The least speed of another precision, as a multiple of float32's, which is more exact."""
_LONG_ENOUGH = 0.04
"""Seconds that a step has to take for a reliable timing."""
_LEAST_ROUNDS, _MOST_ROUNDS = 3, 30
_ROUNDS_SECONDS = 0.5


class LeftOut(nn.Module):
    """A module in the place of one that is left out."""

    def forward(self, tensor: Tensor, *_others: object) -> Tensor:
        """Return the first argument."""
        return tensor


def mixed_dtype(kind: str, asked: str, *, has_bfloat16: bool) -> str | None:
    """Return the type that may be faster than float32 on a kind of device; None: there is nothing to measure.

    It is the type that was asked for, but float16 on GPUs without bfloat16.
    """
    if kind == "cuda":
        return asked if has_bfloat16 else "float16"
    return asked if kind == "cpu" and asked == "bfloat16" and has_bfloat16 else None


def clearly_faster(seconds: Mapping[str, float]) -> str:
    """Choose the precision from the seconds that each takes: float32, unless another one is clearly faster."""
    fastest = min(seconds, key=seconds.__getitem__)
    return fastest if seconds["float32"] >= _CLEARLY * seconds[fastest] else "float32"


def seconds_per_image(
    model: nn.Module,
    *,
    work: Work,
    dtype: str,
    image_shape: tuple[int, int, int],
    most_images: int,
    left_out: Iterable[nn.Module] = (),
) -> dict[str, float]:
    """Time a model in float32 and in another precision; this takes about a second, more with large models.

    A copy is timed: the model, its gradients, its mode and torch's random state do not change.

    Args:
        model: the model, images (B, C, H, W) -> logits, on its device.
        work: training is forward and backward; the optimiser's time does not depend on the precision.
        dtype: the other precision.
        image_shape: the shape of an image, (C, H, W).
        most_images: the batch size; a smaller batch is timed if its timing is reliable.
        left_out: modules to skip because similar ones are timed, so that large models are timed quickly; the output of
            each has the shape of its input.

    Returns:
        Median seconds per image, by precision.
    """
    device = next(model.parameters()).device
    precisions = {"float32": Precision(device, amp="off", dtype=dtype), dtype: Precision(device, amp="on", dtype=dtype)}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        copy = deepcopy(model, {id(module): LeftOut() for module in left_out}).train(work == "training")
        copies = {
            name: precision.rounded(copy) if work == "inference" else copy for name, precision in precisions.items()
        }
        images = torch.randn(1, *image_shape, device=device)
        for name, precision in precisions.items():  # the very first step loads libraries and allocates memory
            step_seconds(copies[name], images, work, precision)
        while len(images) < most_images and step_seconds(copy, images, work, precisions["float32"]) < _LONG_ENOUGH:
            more = min(2 * len(images), most_images)
            try:
                images = torch.randn(more, *image_shape, device=device)
                for name, precision in precisions.items():
                    step_seconds(copies[name], images, work, precision)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                most_images = more // 2  # training finds out by itself what fits into memory
                images = images[:most_images].clone()
        seconds: dict[str, list[float]] = {name: [] for name in precisions}
        started = time.perf_counter()
        for rounds in range(_MOST_ROUNDS):
            if rounds >= _LEAST_ROUNDS and time.perf_counter() - started > _ROUNDS_SECONDS:
                break
            for name, precision in precisions.items():  # in turn, so that other load on the machine affects both
                seconds[name].append(step_seconds(copies[name], images, work, precision))
    return {name: statistics.median(times) / len(images) for name, times in seconds.items()}


def step_seconds(model: nn.Module, images: Tensor, work: Work, precision: Precision) -> float:
    """Time one forward pass, or forward and backward for training; a CPU divides the images among its cores."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def compute(pieces: Pieces) -> None:
        for piece in pieces:
            if work == "inference":
                with torch.inference_mode(), precision.autocast():
                    model(images[piece])
                continue
            with torch.enable_grad(), precision.autocast():
                logits = model(images[piece]).flatten(end_dim=-2)  # from one head, or two
                loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64, device=images.device))
            torch.autograd.grad(loss, weights, allow_unused=True)

    divides = work == "inference" or may_divide_steps(model, precision)
    shares = shares_of_cores(len(images), images.device, model) if divides else [[slice(None)]]
    synchronize(images.device)
    started = time.perf_counter()
    on_cores(compute, shares)
    synchronize(images.device)
    return time.perf_counter() - started
