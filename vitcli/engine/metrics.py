"""Metrics of a classifier, computed from its logits. Accuracies are in 0..1, losses in nats."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_TOP = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMetrics:
    """Metrics of one class: its images, the correct predictions among them, precision, recall and F1."""

    name: str
    images: int
    correct: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """Metrics of a classifier on one split; every image counts exactly once."""

    images: int
    loss: float
    top1: float
    top5: float
    """Share of the images whose class is among the five most probable (or all classes, if there are fewer)."""
    macro_f1: float
    """Mean F1 of the classes that have images or were predicted, as in scikit-learn; others have no F1."""
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    """The confusion matrix: rows are true classes, columns are predicted classes."""


def compute_metrics(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Metrics:
    """Compute all metrics of a split.

    Args:
        logits: logits of all images, (N, classes).
        labels: true classes, int64, (N,).
        classes: class names, in the order of the logits.
    """
    count = len(classes)
    predicted = logits.argmax(dim=1)
    top5 = (logits.topk(min(_TOP, count), dim=1).indices == labels[:, None]).any(dim=1)
    confusion = torch.bincount(labels * count + predicted, minlength=count * count).view(count, count)
    correct, support, answered = confusion.diagonal(), confusion.sum(dim=1), confusion.sum(dim=0)
    per_class = tuple(
        ClassMetrics(
            name=name,
            images=int(support[index]),
            correct=int(correct[index]),
            precision=_ratio(correct[index], answered[index]),
            recall=_ratio(correct[index], support[index]),
            f1=_ratio(2 * correct[index], support[index] + answered[index]),
        )
        for index, name in enumerate(classes)
    )
    seen = [each.f1 for each, has_any in zip(per_class, support + answered, strict=True) if has_any]
    return Metrics(
        images=len(labels),
        loss=F.cross_entropy(logits.double(), labels).item(),
        top1=(predicted == labels).double().mean().item(),
        top5=top5.double().mean().item(),
        macro_f1=sum(seen) / len(seen),
        classes=per_class,
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def _ratio(part: Tensor, whole: Tensor) -> float:
    """Return the ratio, or 0 if the whole is 0, as in scikit-learn."""
    return int(part) / int(whole) if whole else 0.0
