"""Intervals of means and of differences of a few values, by Student's t distribution, from the standard library alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, mean, stdev

_ERROR = 0.05
"""The share of intervals that may miss the true value."""


def interval_of_mean(values: Sequence[float]) -> tuple[float, float] | None:
    """Compute the 95 % interval of the mean of shares in 0..1, cut off at 0 and 1.

    Returns:
        The interval; None: fewer than two values, or all are equal, which says nothing of how much others would differ.
    """
    if len({*values}) < 2:
        return None
    half = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return max(0.0, mean(values) - half), min(1.0, mean(values) + half)


@dataclass(frozen=True, kw_only=True, slots=True)
class MeanDifference:
    """The mean difference of two accuracies over the same seeds."""

    mean: float
    """The mean difference, from -1 to 1; above 0 if the other one is better."""
    interval: tuple[float, float]
    """Its 95 % interval."""


def differences_from_first(rows: Sequence[Sequence[float]], *, images: int) -> list[MeanDifference]:
    """Compare several rows of accuracies with the first one; a column has the same seed and the same images.

    The noise is estimated from all rows together: it is what is left of each accuracy after the means of its row and of
    its column are taken away (a design of randomised blocks, Fisher 1935). With two rows, this is the paired t-test. All
    intervals hold together with 95 %, because each of K leaves out 5 % / K (Bonferroni; Dunn 1961). A few seeds may agree by
    chance, so that an interval is never narrower than the images allow: if a difference comes from K of N images, its
    variance is at least that of K images that may change sides.

    Args:
        rows: two rows or more, with two accuracies or more each, 0..1.
        images: the number of different images that a row was scored on.
    """
    seeds, others = len(rows[0]), len(rows) - 1
    means, columns = [mean(row) for row in rows], [mean(column) for column in zip(*rows, strict=True)]
    freedom = others * (seeds - 1)
    noise = sum(
        (value - row_mean - column + mean(means)) ** 2
        for row, row_mean in zip(rows, means, strict=True)
        for value, column in zip(row, columns, strict=True)
    )
    error = _ERROR / others
    from_seeds = t_quantile(freedom, error=error) * math.sqrt(2 * noise / freedom / seeds)
    found = []
    for each in means[1:]:
        difference = each - means[0]
        changed = max(abs(difference) * (1 - abs(difference)), 1 / images)
        from_images = NormalDist().inv_cdf(1 - error / 2) * math.sqrt(changed / images)
        half = max(from_seeds, from_images)
        found.append(
            MeanDifference(mean=difference, interval=(max(-1.0, difference - half), min(1.0, difference + half)))
        )
    return found


def t_quantile(freedom: int, *, error: float = _ERROR) -> float:
    """Compute the quantile of Student's t distribution that leaves out a share of ``error``, half at each end."""
    low, high = 0.0, 2.0
    while _share_within(high, freedom) < 1 - error:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _share_within(middle, freedom) > 1 - error else (middle, high)
    return low


def _share_within(t: float, freedom: int) -> float:
    """Compute the probability of a value between -t and t (Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, square = math.sin(angle), math.cos(angle) ** 2
    term = total = math.cos(angle) if freedom % 2 else 1.0
    for number in range(3 if freedom % 2 else 2, freedom - 1, 2):
        term *= square * (number - 1) / number
        total += term
    if freedom % 2:
        return 2 / math.pi * (angle + (sine * total if freedom > 1 else 0.0))
    return sine * total
