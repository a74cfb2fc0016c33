"""How sure a mean over images is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 5000


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A mean over images, and the bounds between which the mean over all such images may lie."""

    mean: float
    low: float
    high: float


def bootstrap(values: NDArray[np.float64], *, level: float = 0.95, seed: int = 0) -> list[Interval]:
    """Percentile bootstrap of the mean of every column (Efron 1979).

    All columns see the same resampled images, so that differences between them may be columns too.

    Args:
        values: one row per image, (N, S).
        level: of confidence, of each interval.
        seed: of the resampling.
    """
    generator, count = np.random.default_rng(seed), len(values)
    draws = (generator.integers(count, size=count) for _ in range(_RESAMPLES))
    means = np.stack([np.bincount(draw, minlength=count) @ values for draw in draws]) / count
    lows, highs = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Interval(mean=float(mean), low=float(min(low, mean)), high=float(max(high, mean)))
        for mean, low, high in zip(values.mean(axis=0), lows, highs, strict=True)
    ]
