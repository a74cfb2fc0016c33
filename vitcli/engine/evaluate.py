"""Logits of a model over batches."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.engine.device import Precision
from vitcli.engine.distributed import Processes


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
    if not labels:  # so few images that this process has none
        return torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()


def judged(logits: Tensor, labels: Tensor, processes: Processes) -> tuple[float, float]:
    """Accuracy (0..1) and mean cross-entropy (nats), over the images of all processes.

    Args:
        logits: (N, classes), of this process.
        labels: int64, (N,).
        processes: each of them has other images.
    """
    loss = F.cross_entropy(logits.double(), labels, reduction="sum")
    correct = (logits.argmax(dim=1) == labels).sum()
    loss, correct, count = processes.sum(loss, correct, torch.tensor(len(labels)))
    return correct.item() / count.item(), loss.item() / count.item()
