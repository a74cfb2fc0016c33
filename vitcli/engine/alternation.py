"""Measurements in turn, so that other work on the machine affects all of them in the same way."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratio:
    """The ratio of two measurements that alternated."""

    of_medians: float
    """The ratio of the medians."""
    least: float
    """The smallest ratio within a round."""
    most: float
    """The largest ratio within a round."""
    rounds: int
    """Number of rounds."""

    def __str__(self) -> str:
        return f"{self.of_medians:.2f} ({self.rounds} rounds: {self.least:.2f} to {self.most:.2f})"


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Compute the ratio of two measurements, one value of each per round."""
    rounds = [one / other for one, other in zip(above, below, strict=True)]
    of_medians = statistics.median(above) / statistics.median(below)
    return Ratio(of_medians=of_medians, least=min(rounds), most=max(rounds), rounds=len(rounds))


def alternate(measures: Mapping[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """Take each measurement once per round, in reverse order in every second round; a first round warms up.

    Returns:
        The values of each measurement, one per round.
    """
    measured: dict[str, list[float]] = {name: [] for name in measures}
    for number in range(rounds + 1):
        for name in list(measures)[:: -1 if number % 2 else 1]:
            value = measures[name]()
            if number:
                measured[name].append(value)
    return measured


def seconds(work: Callable[[], object]) -> float:
    """Measure the wall-clock seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
