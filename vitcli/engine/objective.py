"""The training loss, with or without mixed images, and with or without a teacher."""

from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from vitcli.engine.distillation import Distillation


class Targets(NamedTuple):
    """The targets of a batch: the classes that the model should predict."""

    labels: Tensor
    """The class of each image, (B,)."""
    partners: Tensor
    """The class of the image that each image is mixed with, (B,)."""
    share: float = 1.0
    """Share of each mixed image that is its own; 1: nothing is mixed."""

    @property
    def main(self) -> Tensor:
        """The class that has the larger share of each image, (B,)."""
        return self.labels if self.share >= 0.5 else self.partners

    def at(self, here: slice) -> "Targets":
        """Return the targets of a slice of the images."""
        return Targets(self.labels[here], self.partners[here], self.share)


def answers(logits: Tensor) -> Tensor:
    """Return the predicted classes (B,) of logits (B, K), or of the mean of two heads' logits (B, 2, K)."""
    return (logits if logits.ndim == 2 else logits.mean(dim=1)).argmax(dim=1)


class Objective:
    """The training loss: cross-entropy, with both labels of mixed images, and optionally distillation.

    Args:
        label_smoothing: share of each label that is spread over all classes (Szegedy et al. 2016).
        class_weights: the weight of each class, (K,), by which the loss of its images is multiplied, that of smoothed labels
            too; None: all are equal. (PyTorch would weigh the smoothed share of every class by that class's weight, so
            that frequent images are drawn to rare classes.)
        distillation: the teacher; None: there is none.
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
        """Compute the loss, summed over the batch, in nats.

        Args:
            logits: (B, K), or (B, 2, K) of two heads: the first learns from labels, the second from the teacher.
            targets: the targets of the batch.
            taught: the teacher's logits, (B, K), if there is a teacher.
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
        if self.class_weights is None:
            return F.cross_entropy(logits, labels, reduction="sum", label_smoothing=self.label_smoothing)
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.label_smoothing)
        return (losses * self.class_weights[labels]).sum()
