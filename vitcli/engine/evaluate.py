"""Logits of a model over batches, and what they are worth."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.core.events import ignore
from vitcli.engine.autocast import Precision
from vitcli.engine.distributed import Processes
from vitcli.engine.micro_batches import MicroBatches


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """The scores of a model's answers; shares are of the images, 0..1."""

    accuracy: float
    loss: float
    """Mean cross-entropy, in nats."""
    majority_share: float
    """Those that belong to the most frequent class: what always answering it would score."""
    favourite_share: float
    """Those that got the answer given most often."""

    def is_better_than(self, other: "Score") -> bool:
        """More answers are right; of as many, the loss is lower."""
        return (self.accuracy, -self.loss) > (other.accuracy, -other.loss)


def score(logits: Tensor, labels: Tensor, processes: Processes) -> Score:
    """Over the images of all processes, in double precision.

    Args:
        logits: (N, K), of this process.
        labels: int64, (N,).
        processes: each of them has other images.
    """
    answers = logits.argmax(dim=1)
    loss = F.cross_entropy(logits.double(), labels, reduction="sum")
    loss, correct, count = processes.sum(loss, (answers == labels).sum(), torch.tensor(len(labels)))
    most, favourite = (
        max(sum(processes.gathered(Counter(classes.tolist())), Counter[int]()).values())
        for classes in (labels, answers)
    )
    images = count.item()
    return Score(
        accuracy=correct.item() / images,
        loss=loss.item() / images,
        majority_share=most / images,
        favourite_share=favourite / images,
    )


@torch.no_grad()  # what a sharded model gathers in inference mode could not be trained afterwards
def predict_logits(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: Precision,
    on_batch: Callable[[int], None] = lambda images: None,
    *,
    micro_batches: MicroBatches | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the model in evaluation mode, and put it back into the mode that it was in.

    Args:
        model: images (B, C, H, W) to logits (B, classes).
        batches: images and labels, on the model's device.
        precision: what to compute in.
        on_batch: told the number of images of each finished batch.
        micro_batches: of each batch, and more where memory does not suffice; None: at first one.

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
    model: Callable[[Tensor], Tensor], images: Tensor, precision: Precision, micro_batches: MicroBatches
) -> Tensor:
    """Apply a model to images (B, C, H, W), as float32, in as many micro-batches as memory asks for."""

    def compute(slices: list[slice]) -> Tensor:
        with precision.autocast():
            return torch.cat([model(images[here]).float() for here in slices])

    return micro_batches.fitted(compute, len(images))
