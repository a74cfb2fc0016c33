"""Find the micro-batch size: the largest that fits (GPU) or the fastest (CPU)."""

import random
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitcli.core.memory import is_out_of_memory
from vitcli.engine.autocast import Precision
from vitcli.engine.timing import step_seconds
from vitcli.engine.trainer import Trainer
from vitcli.engine.trial import losses

_LEAST = 8
"""The smallest micro-batch that is worth timing on a CPU."""
_LONG = 1.0
"""Seconds of a step: if it takes longer on a CPU, a larger micro-batch is not faster."""
_ROUNDS, _ROUNDS_SECONDS = 5, 5.0
_ALIKE = 1.05
"""Sizes whose times differ by less than this factor count as equally fast; the largest of them is chosen."""
MEMORY_MARGIN = 0.9
"""Share of the memory that may be used, so that the last steps of a long training fit as the first ones do."""


@contextmanager
def draws_untouched(device: torch.device) -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch after the block."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - libraries may draw from it
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def micro_batches_that_fit(trainer: Trainer) -> int:
    """Find how many micro-batches a batch needs to fit into memory with some room to spare: 1, 2, 4 ... or one per image.

    The trainer takes real steps: the first one creates the moments, and the second one has to fit beside them. The
    trainer cannot be used afterwards.
    """
    device = next(trainer.model.parameters()).device
    with draws_untouched(device):
        steps = losses(trainer)
        for _ in range(2):
            next(steps)
        if device.type == "cuda":
            room = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
            torch.cuda.reset_peak_memory_stats(device)  # the peak of failed tries does not count
            next(steps)
            if torch.cuda.max_memory_allocated(device) > MEMORY_MARGIN * room:
                trainer.micro_batches.count *= 2
    return min(trainer.micro_batches.count, trainer.train.batch_size)


def kept_bytes(model: nn.Module, images: Tensor, precision: Precision) -> int:
    """Count the bytes that a training step keeps for its backward pass, each tensor once: of the images, and constants.

    A copy of the model is used, without gradient checkpointing.
    """
    copy: Any = deepcopy(model).train()
    copy.grad_checkpointing = False
    weights = {parameter.untyped_storage().data_ptr() for parameter in copy.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with draws_untouched(images.device), hooks, precision.autocast():
        output = copy(images)  # holds the kept tensors, so that no two have the same address
    assert output.requires_grad
    return sum(kept.values())


def seconds_by_size(model: nn.Module, images: Tensor, precision: Precision) -> dict[str, float]:
    """Time forward and backward pass per image on a CPU, for several micro-batch sizes.

    The sizes are the whole batch, its half, and so on, down to the smallest that is worth timing. A copy of the model
    is used; this takes some seconds.

    Args:
        model: the model, images (B, C, H, W) -> logits.
        images: a whole batch.
        precision: the precision to compute in.

    Returns:
        Median seconds per image, by micro-batch size, the smallest first.
    """
    sizes = [len(images)]
    while sizes[0] >= 2 * _LEAST:
        sizes.insert(0, -(-sizes[0] // 2))
    with draws_untouched(images.device):
        copy = deepcopy(model).train()
        step_seconds(copy, images[:1], "training", precision)  # the very first step loads libraries
        seconds: dict[int, list[float]] = {}
        for size in sizes:
            try:
                first = step_seconds(copy, images[:size], "training", precision)
            except (RuntimeError, MemoryError) as error:
                if seconds and is_out_of_memory(error):
                    break
                raise
            seconds[size] = []
            if first > _LONG:
                break
        started = time.perf_counter()
        for rounds in range(_ROUNDS):
            if rounds and time.perf_counter() - started > _ROUNDS_SECONDS:
                break
            for size, times in seconds.items():  # in turn, so that other load on the machine affects all equally
                times.append(step_seconds(copy, images[:size], "training", precision))
    return {str(size): statistics.median(times) / size for size, times in seconds.items()}


def fastest_size(seconds: Mapping[str, float]) -> int:
    """Choose the micro-batch size from the seconds per image: the largest of those that are about as fast."""
    least = min(seconds.values())
    return max(int(size) for size, value in seconds.items() if value <= _ALIKE * least)
