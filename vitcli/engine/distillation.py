"""Knowledge distillation: learning from the predictions of a teacher model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True, slots=True)
class Distillation:
    """A teacher model, and how its predictions enter the loss."""

    teacher: Callable[[Tensor], Tensor]
    """Function from the student's input (B, C, H, W) to logits of the student's classes (B, K), without gradients."""
    kind: Literal["soft", "hard"]
    alpha: float
    """Share of the distillation loss in the whole loss, in (0, 1]."""
    temperature: float = 1.0

    def loss(self, logits: Tensor, taught: Tensor) -> Tensor:
        """Compute the distillation loss, summed over the batch, in nats.

        Soft: T^2 KL(softmax(taught / T) || softmax(logits / T)), whose gradients are as large as those of labels
        for every T (Hinton et al. 2015). Hard: cross-entropy with the teacher's class (Touvron et al. 2021).

        Args:
            logits: the student's logits, (B, K).
            taught: the teacher's logits, (B, K).
        """
        if self.kind == "hard":
            return F.cross_entropy(logits, taught.argmax(dim=1), reduction="sum")
        student, teacher = ((each / self.temperature).log_softmax(dim=1) for each in (logits, taught))
        return self.temperature**2 * F.kl_div(student, teacher, reduction="sum", log_target=True)
