"""Logits of a model over batches, and the scores that they get."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.core.events import ignore
from vitcli.engine.autocast import Precision
from vitcli.engine.cores import Pieces, on_cores, shares_of_cores
from vitcli.engine.distributed import Processes
from vitcli.engine.micro_batches import MicroBatches


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The scores of a model's predictions; the accuracy and the shares of images are in 0..1."""

    images: int
    accuracy: float
    loss: float
    """Mean cross-entropy, in nats."""
    majority_share: float
    """Share of the images in the most frequent class: the accuracy of always predicting this class."""
    favourite_share: float
    """Share of the images for which the most frequent prediction was made."""

    def is_better_than(self, other: "Score") -> bool:
        """Tell whether the accuracy is higher or, if it is equal, the loss is lower."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


def score(logits: Tensor, labels: Tensor, processes: Processes) -> Score:
    """Compute the score over the images of all processes, in double precision.

    Args:
        logits: logits of this process, (N, K).
        labels: labels of this process, int64, (N,).
        processes: the processes, each with its own images.
    """
    answers = logits.argmax(dim=1)
    loss = F.cross_entropy(logits.double(), labels, reduction="sum")
    loss, correct, count = processes.sum(loss, (answers == labels).sum(), torch.tensor(len(labels)))
    most, favourite = (
        max(sum(processes.gathered(Counter(classes.tolist())), Counter[int]()).values())
        for classes in (labels, answers)
    )
    images = int(count.item())
    return Score(
        images=images,
        accuracy=correct.item() / images,
        loss=loss.item() / images,
        majority_share=most / images,
        favourite_share=favourite / images,
    )


@torch.no_grad()  # weights gathered in inference mode (sharded models) could not be trained afterwards
def predict_logits(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: Precision,
    on_batch: Callable[[int], None] = lambda images: None,
    *,
    micro_batches: MicroBatches | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the logits of a model in evaluation mode, and restore its previous mode.

    Args:
        model: the model, images (B, C, H, W) -> logits (B, classes).
        batches: images and labels, on the model's device.
        precision: the precision to compute in.
        on_batch: called with the number of images of each finished batch.
        micro_batches: the micro-batches of each batch; their number grows if memory is too small; None: begin with one.

    Returns:
        float32 logits (N, classes) and labels (N,), on the CPU.

    Raises:
        DeviceError: there is not enough memory for a single image.
    """
    was_training = model.training
    model.eval()
    micro_batches = micro_batches or MicroBatches(1, emit=ignore)
    logits, labels = [], []
    try:
        for images, targets in batches:
            logits.append(in_micro_batches(model, images, precision, micro_batches))
            labels.append(targets)
            on_batch(len(targets))
    finally:
        model.train(was_training)
    return torch.cat(logits).cpu(), torch.cat(labels).cpu()


def in_micro_batches(
    model: nn.Module,
    images: Tensor,
    precision: Precision,
    micro_batches: MicroBatches,
    *,
    forward: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Apply a model to images (B, C, H, W) in micro-batches that fit into memory, and return its output in float32.

    ``forward`` is the method of the model to call; None: the model itself.
    """
    forward = forward or model

    def output(batch: Tensor, pieces: Pieces) -> list[Tensor]:
        with precision.autocast():
            return [forward(batch[piece]).float() for piece in pieces]

    def compute(slices: list[slice]) -> Tensor:
        outputs = []
        for here in slices:
            batch = images[here]
            outputs += on_cores(partial(output, batch), shares_of_cores(len(batch), batch.device, model))
        return torch.cat([piece for share in outputs for piece in share])

    return micro_batches.fitted(compute, len(images))
