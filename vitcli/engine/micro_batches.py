"""Batches cut into micro-batches that fit into memory: where one does not fit, all are halved, and nothing is lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from vitcli.core.errors import DeviceError, TrainingError, VitError
from vitcli.core.events import Emit, Warned
from vitcli.core.memory import is_out_of_memory

_Result = TypeVar("_Result")


@contextmanager
def memory_for(what: str, *, hint: str) -> Iterator[None]:
    """Say for what memory does not suffice, if it does not suffice for the block.

    Raises:
        TrainingError: it does not.
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
        count: micro-batches at first.
        emit: told when there have to be more.
        training: it is steps of training that are cut; else batches of images to be judged.
        together: other processes take their share of the same batch, and would wait for one that takes it again, or in
            fewer micro-batches.
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
        """Compute ``compute(slices)`` for a batch of so many images, whose micro-batches are halved until they fit.

        A try that fails must leave nothing behind that the next one minds; from then on, batches have more of them.

        Raises:
            TrainingError, DeviceError: there is not enough memory for a single image.
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
            # Here the error is gone, and with it the frames that kept the tensors of the try.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.count *= 2
        if self.count != before:
            too_many = -(-images // before)
            same = "; batch size and learning rate stay the same" if self._training else ""
            slow = ", but these are not compiled: Ctrl-C, then --resume compiles them" if self._compiled else ""
            self._emit(
                Warned(text=f"not enough memory for {too_many:,} images at once: from here on {size:,}{same}{slow}")
            )
        return result

    def _not_in_more(self, size: int) -> VitError:
        text = f"not enough memory for {size:,} images at once, which each of several devices takes"
        return TrainingError(text, hint=f"--grad-accum-steps {2 * self.count}, with --resume RUN too")

    def _not_even_one(self) -> VitError:
        text = "there is not enough memory for a single image"
        if self._training:
            hint = "--grad-checkpointing takes a fraction of it; else --amp on, or a smaller --image-size or --model"
            return TrainingError(text, hint=hint)
        return DeviceError(text, hint="--device cpu, or end what else takes memory")
