"""Sums of the training figures over an epoch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from vitcli.engine.stepper import Taken


@dataclass(slots=True)
class EpochTotals:
    """Sums over the steps of an epoch so far; tensors stay on the device, so that no step waits for it."""

    loss: Tensor
    correct: Tensor
    grad_norm: Tensor
    skipped: Tensor
    """The number of steps that changed nothing, because float16 overflowed."""
    step_loss: Tensor
    """The mean loss of the last step's batch."""
    images: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    """The part of ``seconds`` that was spent waiting for batches."""

    @classmethod
    def none(cls, device: torch.device) -> "EpochTotals":
        """Return the sums before the first step."""
        zero = torch.zeros((), device=device)
        return cls(loss=zero, correct=zero, grad_norm=zero, skipped=zero, step_loss=zero)

    def mean_grad_norm(self, steps: int) -> float | None:
        """Return the mean norm of the gradients of those of the steps that changed the weights; None: none did."""
        changing = steps - int(self.skipped.item())
        return self.grad_norm.item() / changing if changing else None

    @property
    def mean_loss(self) -> float:
        """The mean loss per image; reading it waits for the device."""
        return self.loss.item() / self.images

    @property
    def accuracy(self) -> float:
        """The training accuracy, 0..1; reading it waits for the device."""
        return self.correct.item() / self.images

    @property
    def images_per_second(self) -> float:
        """The images per second in training, without validation."""
        return self.images / self.seconds

    def add(self, taken: Taken, images: int) -> None:
        """Add a step over this many images."""
        self.loss, self.correct = self.loss + taken.loss, self.correct + taken.correct
        self.grad_norm = self.grad_norm + taken.grad_norm.nan_to_num(0, 0, 0)
        self.skipped = self.skipped + ~taken.grad_norm.isfinite()
        self.step_loss = taken.loss / images
        self.images += images

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a run needs to resume in the middle of an epoch."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
        device = self.loss.device
        for name, value in state.items():
            setattr(self, name, value.to(device) if isinstance(value, Tensor) else value)
