"""Confidence intervals of 95 %: Wilson's for shares of images, bootstraps for other metrics, standard errors for means.

Sources: Wilson (1927), Probable inference, the law of succession, and statistical inference; Clopper and Pearson (1934),
The use of confidence or fiducial limits; Efron and Tibshirani (1993), An introduction to the bootstrap.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitcli.judging.counts import ClassCounts, summary

Interval = tuple[float, float]
"""The lower and the upper end."""

_DRAWS, _LEAST_DRAWS, _MOST_NUMBERS = 1000, 200, 20_000_000
"""Draws of the bootstrap, fewer for a large confusion matrix, and the random numbers for which all are drawn."""
ERROR = 0.05
"""The share of intervals that may miss the true value."""
_QUANTILE = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""


def accuracy_intervals(
    confusion: Sequence[tuple[int, int, int]], support: NDArray[np.int64], in_top5: int, *, seed: int
) -> dict[str, Interval]:
    """Compute intervals of ``top1``, ``top5`` and the metrics of ``summary``.

    ``top1`` and ``top5`` are shares of the images: they get the interval of Wilson, or at 0 and 1 the exact one of Clopper
    and Pearson. The others are functions of the confusion matrix, so to draw the images of each class again, with
    replacement, is to draw each row of the matrix from a multinomial distribution (percentile bootstrap). Where every class
    is all right or all wrong, the bootstrap has no spread, and they get no interval.

    Args:
        confusion: true class, predicted class and number of images, without zeros, sorted.
        support: images of each class, (classes,).
        in_top5: images whose class is among the five most probable.
        seed: the seed of the draws.
    """
    random = np.random.default_rng(seed)
    classes, images = len(support), int(support.sum())
    draws = int(np.clip(_MOST_NUMBERS // len(confusion), _LEAST_DRAWS, _DRAWS))
    predicted = np.zeros((draws, classes), dtype=np.int64)
    correct = np.zeros((draws, classes), dtype=np.int64)
    table = np.array(confusion, dtype=np.int64)
    for row in np.split(table, np.flatnonzero(np.diff(table[:, 0])) + 1):
        true, columns, numbers = row[0, 0], row[:, 1], row[:, 2]
        times = random.multinomial(numbers.sum(), numbers / numbers.sum(), size=draws)
        predicted[:, columns] += times
        correct[:, true] = times[:, columns == true].sum(axis=1)
    counts = ClassCounts(support=np.broadcast_to(support, correct.shape), predicted=predicted, correct=correct)
    drawn = summary(counts, without_images=(support == 0) & np.isin(np.arange(classes), table[:, 1]))
    ends = {name: percentiles(values) for name, values in drawn.items() if not np.isnan(values).all()}
    right = int(table[table[:, 0] == table[:, 1], 2].sum())
    shares = {"top1": _of_share(right, images), "top5": _of_share(in_top5, images)}
    return {name: (low, high) for name, (low, high) in ends.items() if low < high} | shares


def mean_interval(values: NDArray[np.float64]) -> Interval:
    """Compute the interval of the mean of two values or more by its standard error, (N,)."""
    mean, half = float(values.mean()), _QUANTILE * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean - half, mean + half


def percentiles(values: NDArray[np.float64]) -> Interval:
    """Return the interval that leaves out 2.5 % of the values at each end; NaN does not count."""
    low, high = np.nanquantile(values, (ERROR / 2, 1 - ERROR / 2))
    return float(low), float(high)


def method_of_share(ends: Interval, right: int, images: int) -> str:
    """Name the formula of an interval of ``top1`` or ``top5``; empty: a bootstrap, as earlier versions of vit took."""
    if tuple(ends) != _of_share(right, images):
        return ""
    return "the exact formula of Clopper and Pearson" if right in {0, images} else "the formula of Wilson"


def _of_share(right: int, images: int) -> Interval:
    """Compute the interval of a share of images: Wilson's, or if it is 0 or 1 the exact one of Clopper and Pearson."""
    reached = (ERROR / 2) ** (1 / images)
    if right in {0, images}:
        return (reached, 1.0) if right else (0.0, 1 - reached)
    share, z = right / images, _QUANTILE**2 / images
    half = (z * share * (1 - share) + z**2 / 4) ** 0.5
    return (share + z / 2 - half) / (1 + z), (share + z / 2 + half) / (1 + z)
