"""The calibration of a model on validation images: a temperature, and thresholds with a known coverage.

Sources: Guo et al. (2017) for the temperature; Sadinle et al. (2019) for sets by split-conformal prediction.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vitcli.core.errors import ModelError, UsageError

_MOST = 2000
"""The largest number of values that are kept of the validation images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Quantiles:
    """The sorted values of some images; of many images, only every nth value."""

    images: int
    values: tuple[float, ...]

    def at_least(self, rank: int) -> float:
        """Return the first kept value whose rank, counted from 1, is ``rank`` or higher; infinity if there is none."""
        place = math.ceil(rank * len(self.values) / self.images)
        return self.values[place - 1] if place <= len(self.values) else math.inf

    def at_most(self, rank: int) -> float:
        """Return the last kept value whose rank is ``rank`` or lower; minus infinity if there is none."""
        place = rank * len(self.values) // self.images
        return self.values[place - 1] if place else -math.inf


def quantiles(values: Sequence[float]) -> Quantiles:
    """Sort values, and keep all, or evenly spaced ones if there are many: every nth and the last."""
    images, ordered = len(values), sorted(values)
    kept = min(images, _MOST)
    return Quantiles(
        images=images, values=tuple(ordered[math.ceil(images * place / kept) - 1] for place in range(1, kept + 1))
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Measurements on validation images, after the logits were divided by the temperature."""

    temperature: float
    confidence: Quantiles
    """The probability of the predicted class."""
    doubt: Quantiles
    """1 minus the probability of the true class."""

    def check(self) -> None:
        """Raise ValueError if the values cannot be those of a calibration."""
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"its temperature is {self.temperature:g}")
        for each in (self.confidence, self.doubt):
            if not 0 < len(each.values) <= each.images or list(each.values) != sorted(each.values):
                raise ValueError("the values of its calibration are not sorted, or not as many as its images")

    def least_confidence(self, coverage: float) -> float:
        """Return the confidence above which a prediction is given, so that this share of new images gets one.

        Raises:
            UsageError: the share is not in (0, 1].
        """
        check_share("coverage", coverage)
        return self.confidence.at_most(math.floor((self.confidence.images + 1) * (1 - coverage) + 1e-9))

    def least_probability(self, level: float) -> float:
        """Return the lowest probability of a class in a set, so that this share of the sets contains the true class.

        Raises:
            UsageError: the share is not in (0, 1].
            ModelError: there are too few validation images for it.
        """
        check_share("sets", level)
        rank = math.ceil((self.doubt.images + 1) * level - 1e-9)
        if rank > self.doubt.images:
            most = self.doubt.images / (self.doubt.images + 1)
            raise ModelError(
                f"--sets {level:g} needs more validation images than the {self.doubt.images:,} of this model",
                hint=f"--sets {math.floor(1000 * most) / 1000:g} is the most",
            )
        return 1 - self.doubt.at_least(rank)


def check_share(name: str, share: float) -> None:
    """Raise UsageError if the value of an option is not in (0, 1]."""
    if not 0 < share <= 1:
        raise UsageError(f"--{name} {share:g} is not in (0, 1]", hint=f"--{name} 0.9 is usual")
