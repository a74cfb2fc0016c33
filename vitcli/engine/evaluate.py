"""Logits of a model over batches."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from vitcli.engine.device import Precision


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
