"""The interfaces of those who give batches to the trainer, and of those who keep what it hands over."""

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor

from vitcli.engine.state import State


class TrainBatches(Protocol):
    """Batches of (images, labels), reshuffled for every epoch; of several processes, each has its share of them."""

    @property
    def num_images(self) -> int:
        """Images per epoch, of all processes."""

    @property
    def batch_size(self) -> int:
        """Images per batch, of all processes; the last one may be smaller."""

    def __len__(self) -> int:
        """Batches per epoch."""

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch, from step ``start`` on."""


class Saver(Protocol):
    """The keeper of states. Their tensors change with the next step: a saver takes copies."""

    def save_epoch(self, state: State) -> None:
        """After every epoch."""

    def save_step(self, state: State) -> None:
        """In the middle of an epoch: every so many steps, and after the step that a signal interrupted."""
