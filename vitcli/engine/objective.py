"""The loss that training minimises: mixed or not, with a teacher or without."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from vitcli.engine.distillation import Distillation


class Targets(NamedTuple):
    """The answers that a batch should get."""

    labels: Tensor
    """(B,)."""
    partners: Tensor
    """Labels of what each image is mixed with, (B,)."""
    share: float = 1.0
    """Of each image that is its own; 1: nothing is mixed."""

    def at(self, here: slice) -> "Targets":
        """Return the targets of some of the images."""
        return Targets(self.labels[here], self.partners[here], self.share)


def answers(logits: Tensor) -> Tensor:
    """The classes (B,) that logits (B, K) say, or the mean of two heads' (B, 2, K)."""
    return (logits if logits.ndim == 2 else logits.mean(dim=1)).argmax(dim=1)


class Objective:
    """Cross-entropy, of both labels where images are mixed.

    Args:
        label_smoothing: share of each label that is spread over all classes (Szegedy et al. 2016).
        class_weights: what mistakes about each class cost, (K,); None: all alike.
        distillation: what else there is to learn from.
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        class_weights: Tensor | None = None,
        distillation: Distillation | None = None,
    ) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights
        self.distillation = distillation

    def __call__(self, logits: Tensor, targets: Targets, taught: Tensor | None = None) -> Tensor:
        """The sum over the batch, in nats.

        Args:
            logits: (B, K); of two heads (B, 2, K), of which the first learns from labels, the second from the teacher.
            targets: the labels.
            taught: the teacher's logits, (B, K), with distillation.
        """
        labelled, distilled = (logits, logits) if logits.ndim == 2 else logits.unbind(dim=1)
        loss = self._of_labels(labelled, targets)
        if self.distillation is None or taught is None:
            return loss
        alpha = self.distillation.alpha
        return (1 - alpha) * loss + alpha * self.distillation.loss(distilled, taught)

    def _of_labels(self, logits: Tensor, targets: Targets) -> Tensor:
        loss = self._cross_entropy(logits, targets.labels)
        if targets.share == 1:
            return loss
        return targets.share * loss + (1 - targets.share) * self._cross_entropy(logits, targets.partners)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(
            logits, labels, weight=self.class_weights, reduction="sum", label_smoothing=self.label_smoothing
        )
