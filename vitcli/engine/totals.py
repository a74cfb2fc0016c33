"""Sums over an epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vitcli.engine.stepper import Taken


@dataclass(slots=True)
class EpochTotals:
    """Sums over the steps of an epoch so far; those of each step stay on the device, so that no step waits for it."""

    loss: Tensor
    correct: Tensor
    grad_norm: Tensor
    step_loss: Tensor
    """Mean over the last step's batch."""
    images: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    """Of these, spent waiting for batches."""

    @classmethod
    def none(cls, device: torch.device) -> "EpochTotals":
        """Before the first step."""
        zero = torch.zeros((), device=device)
        return cls(loss=zero, correct=zero, grad_norm=zero, step_loss=zero)

    @property
    def mean_loss(self) -> float:
        """Per image; this waits for the device."""
        return self.loss.item() / self.images

    @property
    def accuracy(self) -> float:
        """0..1; this waits for the device."""
        return self.correct.item() / self.images

    @property
    def images_per_second(self) -> float:
        """In training, without validation."""
        return self.images / self.seconds

    def add(self, taken: Taken, images: int) -> None:
        """Take in a step over so many images."""
        self.loss, self.correct = self.loss + taken.loss, self.correct + taken.correct
        self.grad_norm = self.grad_norm + taken.grad_norm
        self.step_loss = taken.loss / images
        self.images += images

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to resume in the middle of an epoch."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        device = self.loss.device
        for name, value in state.items():
            setattr(self, name, value.to(device) if isinstance(value, Tensor) else value)
