"""Interfaces of the trainer: the batches that it reads, and the saver that stores its states."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from vitcli.engine.state import State


class TrainBatches(Protocol):
    """Training batches of (images, labels), reshuffled for every epoch; each of several processes gets its share."""

    @property
    def num_images(self) -> int:
        """Number of images per epoch, of all processes."""

    @property
    def batch_size(self) -> int:
        """Number of images per batch, of all processes; the last batch may be smaller."""

    def __len__(self) -> int:
        """Return the number of batches per epoch."""

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch, from step ``start`` on."""


class Saver(Protocol):
    """A saver of training states; it has to copy the tensors, because the next step changes them."""

    def save_epoch(self, state: State) -> None:
        """Save the state after an epoch."""

    def save_step(self, state: State) -> None:
        """Save the state in the middle of an epoch: after every N steps, or when a signal stops the training."""
