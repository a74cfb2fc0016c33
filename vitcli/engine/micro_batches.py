"""Batches in parts that fit into memory: where one does not, the parts are halved, and nothing is lost."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from vitcli.core.errors import DeviceError, TrainingError, VitError
from vitcli.core.events import Emit, Warned

_Result = TypeVar("_Result")
_WORDS = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "could not create a primitive")
"""Of RuntimeErrors that mean it: those of the CPU's allocator, of MPS, of CUDA's libraries, and of oneDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice; on GPUs it is a type, elsewhere some words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


@contextmanager
def memory_for(what: str, *, hint: str) -> Iterator[None]:
    """Where memory does not suffice for the block, say for what.

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
    """Into how many parts batches are cut.

    Args:
        count: parts at first.
        emit: told when there have to be more.
        training: it is steps of training that are cut; else batches of images to be judged.
        together: other processes take their share of the same step, and would wait for one that takes it again.
    """

    def __init__(self, count: int, *, emit: Emit, training: bool = False, together: bool = False) -> None:
        assert count > 0
        self.count = count
        self._emit = emit
        self._training = training
        self._together = together

    def fitted(self, compute: Callable[[int], _Result], images: int) -> _Result:
        """What ``compute(part)`` gives for a batch that is taken in parts of so many images, halved until they fit.

        A try that fails must leave nothing behind that the next one minds; from then on, batches have more parts.

        Raises:
            TrainingError, DeviceError: there is not enough memory for a single image.
        """
        before = self.count
        while True:
            part = -(-images // self.count)
            try:
                result = compute(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._together:
                    raise self._not_in_parts(part) from None
                if part == 1:
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
            self._emit(Warned(text=f"not enough memory for {too_many:,} images at once: from here on {part:,}{same}"))
        return result

    def _not_in_parts(self, part: int) -> VitError:
        text = f"not enough memory for {part:,} images at once, which each of several devices takes"
        return TrainingError(text, hint=f"--grad-accum-steps {2 * self.count}, with --resume RUN too")

    def _not_even_one(self) -> VitError:
        text = "there is not enough memory for a single image"
        if self._training:
            hint = "--grad-checkpointing takes a fraction of it; else --amp on, or a smaller --image-size or --model"
            return TrainingError(text, hint=hint)
        return DeviceError(text, hint="--device cpu, or end what else takes memory")
