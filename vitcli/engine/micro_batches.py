"""Batches cut into micro-batches that fit into memory: if one does not fit, all are halved and computed again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from vitcli.core.errors import DeviceError, TrainingError, VitError, counted
from vitcli.core.events import Emit, Warned
from vitcli.core.memory import is_out_of_memory

_Result = TypeVar("_Result")


@contextmanager
def memory_for(what: str, *, hint: str) -> Iterator[None]:
    """Name what needs the memory, if the block runs out of memory.

    Raises:
        TrainingError: the block ran out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(f"there is not enough memory for {what}", hint=hint) from None


class MicroBatches:
    """The number of micro-batches that each batch is cut into.

    Args:
        count: the number of micro-batches at first.
        emit: receives a warning when the number has to grow.
        training: the batches are training steps; otherwise they are only evaluated.
        together: other processes compute their share of the same batch, and would wait for a process that repeats it or
            has fewer micro-batches.
        compiled: the model is compiled for micro-batches of this size.
    """

    def __init__(
        self, count: int, *, emit: Emit, training: bool = False, together: bool = False, compiled: bool = False
    ) -> None:
        assert count > 0
        self.count = count
        self._emit = emit
        self._training = training
        self._together = together
        self._compiled = compiled

    def fitted(self, compute: Callable[[list[slice]], _Result], images: int) -> _Result:
        """Return ``compute(slices)`` for a batch of ``images`` images; halve its micro-batches until they fit.

        A failed try must not affect the next one. Later batches keep the larger number of micro-batches.

        Raises:
            TrainingError, DeviceError: an image does not fit into memory, or, if ``together``, a micro-batch.
        """
        before = self.count
        while True:
            size = max(-(-images // self.count), 1)
            number = self.count if self._together else max(-(-images // size), 1)
            try:
                result = compute([slice(start * size, (start + 1) * size) for start in range(number)])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._together:
                    raise self._not_in_more(size) from None
                if size == 1:
                    raise self._not_even_one() from None
            else:
                break
            # The error is gone here, and with it the stack frames that held the tensors of the failed try.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.count *= 2
        if self.count != before:
            too_many = -(-images // before)
            same = "; batch size and learning rate stay the same" if self._training else ""
            slow = ", but this size is not compiled: Ctrl-C, then --resume compiles it" if self._compiled else ""
            self._emit(
                Warned(text=f"not enough memory for {too_many:,} images at once: from here on {size:,}{same}{slow}")
            )
        return result

    def _not_in_more(self, size: int) -> VitError:
        text = f"not enough memory for {counted(size, 'image')} at once on each device"
        return TrainingError(text, hint=f"--grad-accum-steps {2 * self.count}, also with --resume RUN")

    def _not_even_one(self) -> VitError:
        text = "there is not enough memory for a single image"
        if self._training:
            hint = "--grad-checkpointing needs much less; otherwise --amp on, or a smaller --image-size or --model"
            return TrainingError(text, hint=hint)
        return DeviceError(text, hint="--device cpu, or end other programs that use memory")
