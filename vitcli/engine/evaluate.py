"""Logits of a model over batches, and what they are worth."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.core.events import ignore
from vitcli.engine.device import Precision
from vitcli.engine.distributed import Processes
from vitcli.engine.micro_batches import MicroBatches


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


def score(logits: Tensor, labels: Tensor, processes: Processes) -> Score:
    """Over the images of all processes, in double precision.

    Args:
        logits: (N, K), of this process.
        labels: int64, (N,).
        processes: each of them has other images.
    """
    loss = F.cross_entropy(logits.double(), labels, reduction="sum")
    correct = (logits.argmax(dim=1) == labels).sum()
    loss, correct, count = processes.sum(loss, correct, torch.tensor(len(labels)))
    return Score(correct.item() / count.item(), -loss.item() / count.item())


@torch.inference_mode()
def predict_logits(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: Precision,
    on_batch: Callable[[int], None] = lambda images: None,
    *,
    parts: MicroBatches | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the model in evaluation mode, and put it back into the mode that it was in.

    Args:
        model: images (B, C, H, W) to logits (B, classes).
        batches: images and labels, on the model's device.
        precision: what to compute in.
        on_batch: told the number of images of each finished batch.
        parts: into which batches are cut, and further where memory does not suffice; None: at first into one.

    Returns:
        float32 logits (N, classes) and labels (N,), on the CPU.

    Raises:
        DeviceError: there is not enough memory for a single image.
    """
    was_training = model.training
    model.eval()
    parts = parts or MicroBatches(1, emit=ignore)
    logits, labels = [], []
    try:
        for images, targets in batches:
            logits.append(in_parts(model, images, precision, parts))
            labels.append(targets)
            on_batch(len(targets))
    finally:
        model.train(was_training)
    if not labels:  # so few images that this process has none
        return torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()


def in_parts(model: Callable[[Tensor], Tensor], images: Tensor, precision: Precision, parts: MicroBatches) -> Tensor:
    """What a model makes of images (B, C, H, W), as float32, in as many parts as memory asks for."""

    def compute(part: int) -> Tensor:
        with precision.autocast():
            return torch.cat([model(some).float() for some in images.split(part)])

    return parts.fitted(compute, len(images))
