"""The answers of a classifier to the images of a split: for each image, what later numbers and tables need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitcli.judging.scores import ClassScores, ScoreCollector

TOP = 5
"""The number of most probable classes that are kept of an image."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answers:
    """The answers to N images, in the order of the data set; memory is linear in the images."""

    classes: tuple[str, ...]
    truth: Ints
    """True classes, (N,)."""
    top: Ints
    """The most probable classes, the first one first, (N, K); K is 5, or the number of classes if that is smaller."""
    probability: Floats
    """The probabilities of these, 0..1, (N, K)."""
    loss: Floats
    """The negative logarithm of the true class's probability, in nats, (N,)."""
    rank: Ints
    """The place of the true class among all, by falling probability, from 1, (N,)."""
    squares: Floats
    """The sum over classes of the squared difference between probability and truth, 0..2, (N,)."""
    scores: ClassScores
    """The probabilities of each class, for its ROC-AUC and average precision."""

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def predicted(self) -> Ints:
        """The most probable class of each image, (N,)."""
        return self.top[:, 0]

    @property
    def confidence(self) -> Floats:
        """The probability of the predicted class, (N,)."""
        return self.probability[:, 0]

    @property
    def margin(self) -> Floats:
        """The probability of the most probable class minus that of the second one, (N,)."""
        return self.probability[:, 0] - (self.probability[:, 1] if self.top.shape[1] > 1 else 0)

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """Tell for each image whether the predicted class is the true one, (N,)."""
        right: NDArray[np.bool_] = self.predicted == self.truth
        return right

    def confusion(self) -> tuple[tuple[int, int, int], ...]:
        """Count the images by true and predicted class: true class, predicted class, number, without zeros."""
        count = len(self.classes)
        pairs, counts = np.unique(self.truth * count + self.predicted, return_counts=True)
        return tuple(zip((pairs // count).tolist(), (pairs % count).tolist(), counts.tolist(), strict=True))


class AnswerCollector:
    """A collector of answers, batch by batch.

    Args:
        classes: class names, in the order of the logits.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._parts: list[tuple[Tensor, ...]] = []
        self._scores = ScoreCollector(len(classes))

    def add(self, logits: Tensor, truth: Tensor) -> None:
        """Add a batch: logits, float, (B, classes), and true classes, int64, (B,)."""
        logits = logits.double() if self._scores.is_exact else logits.float()  # float32 halves the time of large tables
        values, top = logits.topk(min(TOP, len(self.classes)), dim=1)
        of_truth = logits.gather(1, truth[:, None])
        place = (top == truth[:, None]).int()
        outside = (logits > of_truth).sum(dim=1).clamp(min=top.shape[1])  # of equal logits, those in the top come first
        rank = torch.where(place.any(dim=1), place.argmax(dim=1), outside) + 1
        powers = (logits - values[:, :1]).exp_()
        total = powers.sum(dim=1, keepdim=True, dtype=torch.float64)
        normaliser = values[:, :1] + total.log()
        loss = (normaliser - of_truth)[:, 0]
        squares = powers.square_().sum(dim=1, dtype=torch.float64) / total[:, 0].square() - 2 * (-loss).exp() + 1
        self._scores.add(logits - normaliser.to(logits.dtype), truth)
        self._parts.append((truth, top, (values - normaliser).exp(), loss, rank, squares))

    def answers(self) -> Answers:
        """Return the answers of all batches so far."""
        truth, top, probability, loss, rank, squares = (
            torch.cat(column).numpy() for column in zip(*self._parts, strict=True)
        )
        return Answers(
            classes=self.classes,
            truth=truth,
            top=top,
            probability=probability,
            loss=loss,
            rank=rank,
            squares=squares,
            scores=self._scores.scores(),
        )


def collect(batches: Sequence[tuple[Tensor, Tensor]], classes: tuple[str, ...]) -> Answers:
    """Collect the answers of batches of logits and true classes, as for ``AnswerCollector.add``."""
    collector = AnswerCollector(classes)
    for logits, truth in batches:
        collector.add(logits, truth)
    return collector.answers()
