"""Logits of a model over batches, and what they are worth."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.engine.device import Precision


class Score(NamedTuple):
    """The greater, the better: of equal accuracies, the one with the lower loss."""

    accuracy: float
    """0..1"""
    negative_loss: float
    """Mean cross-entropy in nats, negative."""

    @property
    def loss(self) -> float:
        """In nats."""
        return -self.negative_loss


def score(logits: Tensor, labels: Tensor) -> Score:
    """Of logits (N, K), computed in double precision."""
    accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
    return Score(accuracy, -F.cross_entropy(logits.double(), labels).item())


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: Precision,
    on_batch: Callable[[int], None] = lambda images: None,
) -> tuple[Tensor, Tensor]:
    """Run the model in evaluation mode, and put it back into the mode that it was in.

    Args:
        model: images (B, C, H, W) to logits (B, classes).
        batches: images and labels, on the model's device.
        precision: what to compute in.
        on_batch: told the number of images of each finished batch.

    Returns:
        float32 logits (N, classes) and labels (N,), on the CPU.
    """
    was_training = model.training
    model.eval()
    logits, labels = [], []
    try:
        for images, targets in batches:
            with precision.autocast():
                logits.append(model(images).float())
            labels.append(targets)
            on_batch(len(targets))
    finally:
        model.train(was_training)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()
