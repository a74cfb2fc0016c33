"""One-vs-rest scores of classes: ROC-AUC and average precision, exact for what fits into memory, else from histograms.

Sources: Fawcett (2006), An introduction to ROC analysis; average precision as in scikit-learn, the sum of precisions
weighted by the increase of recall.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MOST = 50_000_000
"""The largest number of probabilities that are kept, in float32; with more, they are counted in bins."""
_AT_ONCE = 4_000_000
"""The number of scores from which on they are counted."""
_BINS, _LEAST = 2048, -16.0
"""Bins of equal width in the score, from this value to its negative."""

Counts = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Images of the class and of other classes by falling probability; equal probabilities (or one bin) in one entry."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScores:
    """The probabilities of each class, kept or counted in bins."""

    scores: NDArray[np.float32] | None
    """Scores that rise with the probability, and tell apart those near 1, (N, classes); None: counted in bins."""
    truth: NDArray[np.int64]
    bins: NDArray[np.int64] | None
    """Images by membership (0: others, 1: the class), class and bin, (2, classes, bins); None: nothing is binned."""

    @property
    def is_exact(self) -> bool:
        """Tell whether the scores are exact; in bins, probabilities that differ by 2 % or less count as equal."""
        return self.scores is not None

    def by_class(self) -> Iterator[tuple[float | None, float | None]]:
        """Yield ROC-AUC and average precision of each class; None without images of it, or AUC without others."""
        if self.scores is not None:
            for at in range(self.scores.shape[1]):
                yield _scores(_counts(self.scores[:, at], self.truth == at))
        elif self.bins is not None:
            for others, own in zip(*self.bins, strict=True):
                yield _scores((own[::-1], others[::-1]))


class ScoreCollector:
    """A collector of probabilities, batch by batch.

    Args:
        classes: the number of classes.
    """

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._size = 0
        self._kept: list[Tensor] = []
        self._truth: list[Tensor] = []
        self._counted = 0  # batches
        self._bins: Tensor | None = None

    @property
    def is_exact(self) -> bool:
        """Tell whether all scores are kept so far."""
        return self._size <= _MOST

    def add(self, logs: Tensor, truth: Tensor) -> None:
        """Add a batch: logarithms of probabilities, which are overwritten, (B, classes), and true classes, (B,)."""
        self._size += logs.numel()
        self._kept.append(_spread(logs).float())
        self._truth.append(truth)
        if not self.is_exact and sum(map(len, self._kept)) * self._classes > _AT_ONCE:
            self._count()

    def scores(self) -> ClassScores:
        """Return the scores of all batches so far."""
        if self._kept and not self.is_exact:
            self._count()
        return ClassScores(
            scores=torch.cat(self._kept).numpy() if self._bins is None else None,
            truth=torch.cat(self._truth).numpy(),
            bins=None if self._bins is None else self._bins.view(2, self._classes, _BINS).numpy(),
        )

    def _count(self) -> None:
        """Count the kept scores in bins, and keep them no longer."""
        if self._bins is None:
            self._bins = torch.zeros(2 * self._classes * _BINS, dtype=torch.int64)
        scores, truth = torch.cat(self._kept), torch.cat(self._truth[self._counted :])
        self._counted += len(self._kept)
        self._kept.clear()
        scaled = scores.clamp_(_LEAST, -_LEAST).sub_(_LEAST).mul_((_BINS - 1) / (-2 * _LEAST))
        places = scaled.round_().int()
        places += _BINS * torch.arange(self._classes, dtype=torch.int32)
        places[torch.arange(len(truth)), truth] += _BINS * self._classes
        self._bins += places.view(-1).bincount(minlength=len(self._bins))


def _spread(logs: Tensor) -> Tensor:
    """Turn log p into scores: log p up to p = 1/2, above it log p / (1 - p) - log 2; only one class of an image is."""
    best, at = logs.max(dim=1, keepdim=True)
    best = best.double()
    odds = best - torch.log(-torch.expm1(best)) - math.log(2)
    return logs.scatter_(1, at, torch.where(best > -math.log(2), odds, best).to(logs.dtype))


def _counts(scores: NDArray[np.float32], is_own: NDArray[np.bool_]) -> Counts:
    order = np.argsort(-scores, kind="stable")
    sorted_ = scores[order]
    ends = np.append(np.flatnonzero(sorted_[1:] != sorted_[:-1]), len(scores) - 1)
    own = np.diff(np.cumsum(is_own[order], dtype=np.int64)[ends], prepend=0)
    return own, np.diff(ends + 1, prepend=0) - own


def _scores(counts: Counts) -> tuple[float | None, float | None]:
    own, others = counts
    all_own, all_others = int(own.sum()), int(others.sum())
    if not all_own:
        return None, None
    before_own, before_others = np.cumsum(own), np.cumsum(others)
    seen = before_own + before_others
    precision = np.divide(before_own, seen, out=np.zeros(len(seen)), where=seen > 0)
    average = float((own / all_own) @ precision)
    if not all_others:
        return None, average
    # Each pair counts 1 if the own image has the higher score, and 1/2 if both are equal
    worse = all_others - before_others + others / 2
    return float(own @ worse) / (all_own * all_others), average
