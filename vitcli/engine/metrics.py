"""Metrics of a classifier, computed from its logits. Accuracies are in 0..1, losses in nats."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
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
    confusion: tuple[tuple[int, int, int], ...]
    """The confusion matrix without its zeros: true class, predicted class, number of images, in the order of classes."""

    def __repr__(self) -> str:
        return f"<Metrics: top-1 {100 * self.top1:.2f} % of {self.images:,} images, loss {self.loss:.4f}>"


class Tally:
    """The metrics of a classifier over batches; its memory is linear in images and classes.

    Args:
        classes: class names, in the order of the logits.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._loss, self._top5 = 0.0, 0
        self._labels: list[Tensor] = []
        self._predicted: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: logits, (B, classes), and true classes, int64, (B,)."""
        best = logits.topk(min(_TOP, len(self.classes)), dim=1).indices
        self._top5 += int((best == labels[:, None]).any(dim=1).sum())
        self._loss += F.cross_entropy(logits.double(), labels, reduction="sum").item()
        self._labels.append(labels.cpu())
        self._predicted.append(logits.argmax(dim=1).cpu())

    def metrics(self) -> Metrics:
        """Return the metrics of all batches so far."""
        count = len(self.classes)
        labels, predicted = (torch.cat(each).numpy() for each in (self._labels, self._predicted))
        pairs, counts = np.unique(labels * count + predicted, return_counts=True)
        support, answered = (np.bincount(each, minlength=count) for each in (labels, predicted))
        correct = np.bincount(labels[labels == predicted], minlength=count)
        f1 = _ratios(2 * correct, support + answered)
        columns = (support, correct, _ratios(correct, answered), _ratios(correct, support), f1)
        return Metrics(
            images=len(labels),
            loss=self._loss / len(labels),
            top1=float(correct.sum() / len(labels)),
            top5=self._top5 / len(labels),
            macro_f1=float(f1[support + answered > 0].mean()),
            classes=tuple(
                ClassMetrics(name=name, images=images, correct=right, precision=precision, recall=recall, f1=each)
                for name, images, right, precision, recall, each in zip(
                    self.classes, *(column.tolist() for column in columns), strict=True
                )
            ),
            confusion=tuple(zip((pairs // count).tolist(), (pairs % count).tolist(), counts.tolist(), strict=True)),
        )


def compute_metrics(logits: Tensor, labels: Tensor, classes: tuple[str, ...]) -> Metrics:
    """Compute all metrics of a split.

    Args:
        logits: logits of all images, (N, classes).
        labels: true classes, int64, (N,).
        classes: class names, in the order of the logits.
    """
    tally = Tally(classes)
    tally.add(logits, labels)
    return tally.metrics()


def _ratios(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the ratios, or 0 where the whole is 0, as in scikit-learn."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)
