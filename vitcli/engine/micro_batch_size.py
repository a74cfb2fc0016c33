"""Find the micro-batch size: the largest that fits (GPU) or the fastest (CPU)."""

import random
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy

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
"""Seconds of a step from which on a CPU gains nothing by a larger micro-batch."""
_ROUNDS, _ROUNDS_SECONDS = 5, 5.0
_ALIKE = 1.05
"""Of sizes that differ by less than this in time, the largest is taken."""
_MARGIN = 0.9
"""Share of the memory that may be used: the last steps of a long training must fit as the first ones do."""


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
    """Find how many micro-batches a batch needs to fit into memory with something to spare: 1, 2, 4 and so on.

    Steps are taken: moments are made in the first, and the second has to find its room beside them. The trainer is of no
    use afterwards.
    """
    device = next(trainer.model.parameters()).device
    with draws_untouched(device):
        steps = losses(trainer)
        for _ in range(2):
            next(steps)
        if device.type == "cuda":
            room = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
            torch.cuda.reset_peak_memory_stats(device)  # that of tries which failed says nothing
            next(steps)
            if torch.cuda.max_memory_allocated(device) > _MARGIN * room:
                trainer.micro_batches.count *= 2
    return trainer.micro_batches.count


def seconds_by_size(model: nn.Module, images: Tensor, precision: Precision) -> dict[str, float]:
    """Time forward and backward pass per image on a CPU, by the number of images that are taken at once.

    The batch and its halves are timed, but none so small that it is not worth it. A copy of the model is; it takes some
    seconds.

    Args:
        model: images (B, C, H, W) to logits.
        images: a whole batch.
        precision: what is computed in.

    Returns:
        Median seconds per image, by micro-batch size, the smallest first.
    """
    sizes = [len(images)]
    while sizes[0] >= 2 * _LEAST:
        sizes.insert(0, -(-sizes[0] // 2))
    with draws_untouched(images.device):
        copy = deepcopy(model).train()
        step_seconds(copy, images[:1], "training", precision)  # the first step of all loads libraries
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
            for size, times in seconds.items():  # in turn, so that whatever else happens hits all alike
                times.append(step_seconds(copy, images[:size], "training", precision))
    return {str(size): statistics.median(times) / size for size, times in seconds.items()}


def fastest_size(seconds: Mapping[str, float]) -> int:
    """The number of images to take at once, given how long each takes: the largest of those that are about as fast."""
    least = min(seconds.values())
    return max(int(size) for size, value in seconds.items() if value <= _ALIKE * least)
