"""Calibration: a comparison of probabilities with the share of right answers.

Sources: Naeini et al. (2015) for the expected calibration error; Nixon et al. (2019) for bins of equal size; Brier
(1950).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitcli.judging.answers import Answers

BINS = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityBin:
    """Images with similar confidence."""

    images: int
    confidence: float
    """The mean probability of the predicted classes, 0..1."""
    accuracy: float
    """The share of right answers, 0..1."""


def reliability(answers: Answers, *, equal_sizes: bool = False) -> tuple[ReliabilityBin, ...]:
    """Sort images by confidence into bins, without empty ones.

    Args:
        answers: the answers.
        equal_sizes: bins with the same number of images (up to one), instead of bins of the same width, (0, 1/15] and so on.
    """
    confidence, right = answers.confidence, answers.is_right
    if equal_sizes:
        order = np.argsort(confidence, kind="stable")
        groups = [part for part in np.array_split(order, BINS) if len(part)]
    else:
        places = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        order = np.argsort(places, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(places[order])) + 1)
    return tuple(
        ReliabilityBin(
            images=len(group), confidence=float(confidence[group].mean()), accuracy=float(right[group].mean())
        )
        for group in groups
    )


def expected_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """Return the mean difference between confidence and accuracy over the images of all bins, 0..1."""
    images = sum(each.images for each in bins)
    return sum(each.images * abs(each.confidence - each.accuracy) for each in bins) / images


def accuracy_by_coverage(answers: Answers) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the accuracy of the surest images.

    Returns:
        The share of images that are answered, rising, (N,), and the accuracy of these, (N,); the surest come first.
    """
    order = np.argsort(-answers.confidence, kind="stable")
    number = np.arange(1, len(order) + 1)
    return number / len(order), np.cumsum(answers.is_right[order]) / number
