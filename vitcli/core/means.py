"""The interval of the mean of a few values, by Student's t distribution, from the standard library alone."""

import math
from collections.abc import Sequence
from statistics import mean, stdev


def interval_of_mean(values: Sequence[float]) -> tuple[float, float] | None:
    """Compute the 95 % interval of the mean of shares in 0..1, cut off at 0 and 1; None: fewer than two values."""
    if len(values) < 2:
        return None
    half = t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return max(0.0, mean(values) - half), min(1.0, mean(values) + half)


def t_quantile(freedom: int) -> float:
    """Compute the 97.5 % quantile of Student's t distribution with so many degrees of freedom, by bisection."""
    low, high = 0.0, 13.0  # one degree of freedom has 12.7
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if _share_within(middle, freedom) > 0.95 else (middle, high)
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
