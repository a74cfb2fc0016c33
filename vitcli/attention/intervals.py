"""Confidence intervals of means over images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 5000
_AT_ONCE = 2**20
"""Images drawn at once, over several resamples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean over images, and the bounds of its confidence interval."""

    mean: float
    """The mean."""
    low: float
    """The lower bound."""
    high: float
    """The upper bound."""


def bootstrap(values: NDArray[np.float64], *, level: float = 0.95, seed: int = 0) -> list[Interval]:
    """Compute a confidence interval of the mean of every column, by the percentile bootstrap (Efron 1979).

    All columns use the same resampled images, so that a column can also be the difference of two others.

    Args:
        values: the values of each image, one row per image, (N, S).
        level: the confidence level of each interval.
        seed: the seed for the resampling.
    """
    generator, count = np.random.default_rng(seed), len(values)
    rows = max(_AT_ONCE // count, 1)
    sizes = [min(rows, _RESAMPLES - start) for start in range(0, _RESAMPLES, rows)]
    means = np.concatenate([_how_often(size, count, generator) @ values for size in sizes]) / count
    lows, highs = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Interval(mean=float(mean), low=float(min(low, mean)), high=float(max(high, mean)))
        for mean, low, high in zip(values.mean(axis=0), lows, highs, strict=True)
    ]


def _how_often(resamples: int, count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw how often each image is in each resample, (resamples, N)."""
    drawn = generator.integers(count, size=(resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)
