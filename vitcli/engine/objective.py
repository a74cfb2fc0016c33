"""What training makes small: the loss of a batch, mixed or not."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F


class Targets(NamedTuple):
    """What a batch of images shows."""

    labels: Tensor
    """(B,)."""
    partners: Tensor
    """Labels of what each image is mixed with, (B,)."""
    share: float = 1.0
    """Of each image that is its own; 1: nothing is mixed."""

    def part(self, here: slice) -> "Targets":
        """Those of some of the images."""
        return Targets(self.labels[here], self.partners[here], self.share)


class Objective:
    """Cross-entropy, of both labels where images are mixed.

    Args:
        label_smoothing: share of each label that is spread over all classes (Szegedy et al. 2016).
        class_weights: what mistakes about each class cost, (K,); None: all alike.
    """

    def __init__(self, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights

    def __call__(self, logits: Tensor, targets: Targets) -> Tensor:
        """The sum over the batch, of logits (B, K), in nats."""
        loss = self._cross_entropy(logits, targets.labels)
        if targets.share == 1:
            return loss
        return targets.share * loss + (1 - targets.share) * self._cross_entropy(logits, targets.partners)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, labels, weight=self.class_weights, reduction="sum", label_smoothing=self.label_smoothing
        )
