"""The learning-rate range test (Smith 2017): steps at increasing learning rates, until the loss diverges."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

import torch

from vitcli.core.errors import TrainingError
from vitcli.engine import trial
from vitcli.engine.trainer import Trainer

STEPS = 120
_DECADES = 3
"""Decades of rates to test, below and above the peak learning rate of the configuration."""
_MEMORY, _DIVERGED = 0.9, 4.0
"""Decay of the loss's running mean, and the multiple of its minimum at which the test ends."""
_WIDTH = 4.0
"""Standard deviation of the Gaussian that smooths the losses, in steps."""
_SHARE = 0.75
_LOST = 0.5
"""Share of the fall of the smoothed loss that is lost again when the loss counts as diverging."""
_BELOW_DIVERGENCE = 0.1
"""The highest suggested rate, as a share of the rate at which the loss diverges, if the configured rate is higher."""
_LEAST_FALL = 0.01
"""Smallest relative fall of the loss that can tell which rate is good."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatePoint:
    """One step of the range test."""

    lr: float
    """Learning rate of the step."""
    loss: float
    """Loss of the batch before the step, in nats."""
    smoothed: float
    """Weighted mean of the losses of the steps around this one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeTest:
    """The result of a range test."""

    points: tuple[RatePoint, ...]
    suggested: float
    """The rate at which the loss has completed three quarters of its fall.

    If the configured rate is higher, it is kept up to a tenth of ``diverged``, and as long as the loss is lowest but for
    noise: the test is too short to lower it. The rate with the lowest loss is at the edge of stability. A tenth of it, or
    the rate of the steepest fall, is much lower than training with a warm-up allows, and the steepest fall depends on the
    noise of a few batches.
    """
    least: float
    """The rate with the lowest loss."""
    diverged: float | None
    """The rate at which the loss has lost half of its fall again, and not by noise, or is not a number; None: it does not
    diverge."""

    @property
    def fall(self) -> float:
        """The fall of the smoothed loss until it is lowest, in nats."""
        losses = [point.smoothed for point in self.points if point.lr <= self.least]
        return max(losses) - losses[-1]

    @property
    def noise(self) -> float:
        """The root mean square difference of single batches from the smoothed loss until it is lowest, in nats."""
        return _noise([point for point in self.points if point.lr <= self.least])


def range_test(
    trainer: Trainer, preview: str, *, steps: int = STEPS, on_step: Callable[[int], None] = lambda done: None
) -> RangeTest:
    """Run a range test: each step raises the rate by the same factor, from 1/1000 to 1000 times the peak rate.

    Parameter groups with their own rates keep their proportions. The trainer cannot be used afterwards.

    Args:
        trainer: the trainer that takes the steps; its own schedule is ignored.
        preview: the command that draws the images, for advice.
        steps: the number of steps from the lowest rate to the highest.
        on_step: called with the number of steps done.

    Raises:
        TrainingError: the loss does not fall at any rate, or is not a number from the start.
    """
    factors = [10 ** (_DECADES * (2 * step / (steps - 1) - 1)) for step in range(steps)]
    trainer.factor = lambda step: factors[step]
    losses: list[float] = []
    mean, least, has_diverged = 0.0, math.inf, False
    for loss in islice(trial.losses(trainer), steps):
        losses.append(loss)
        on_step(len(losses))
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        running = mean / (1 - _MEMORY ** len(losses))  # corrects the bias towards 0, where the mean starts
        has_diverged = not running <= _DIVERGED * least
        if has_diverged:
            break
        least = min(least, running)
    rates = [factor * trainer.config.peak_lr for factor in factors]
    finite = [loss for loss in losses if math.isfinite(loss)]
    points = tuple(
        RatePoint(lr=lr, loss=loss, smoothed=smoothed)
        for lr, loss, smoothed in zip(rates, finite, _smoothed(finite), strict=False)
    )
    enough, best, still_good, lost = _turns(points, preview)
    ends = [*([lost.lr] if lost else []), *([rates[len(losses) - 1]] if has_diverged else [])]
    diverged = min(ends, default=None)
    suggested = max(enough.lr, min(trainer.config.peak_lr, _BELOW_DIVERGENCE * (diverged or math.inf), still_good.lr))
    return RangeTest(points=points, suggested=suggested, least=best.lr, diverged=diverged)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Smooth values by a Gaussian around each; unlike a running mean, the result has no delay."""
    places = torch.arange(len(values), dtype=torch.float64)
    bell = torch.exp(-((places[:, None] - places) / _WIDTH).square() / 2)
    smoothed: list[float] = (bell @ torch.tensor(values, dtype=torch.float64) / bell.sum(dim=1)).tolist()
    return smoothed


def _noise(points: Sequence[RatePoint]) -> float:
    return math.sqrt(sum((point.loss - point.smoothed) ** 2 for point in points) / len(points))


def _turns(points: Sequence[RatePoint], preview: str) -> tuple[RatePoint, RatePoint, RatePoint, RatePoint | None]:
    """Find where the loss has fallen far enough, is lowest, is so but for noise for the last time, and has risen again."""
    if not points:
        raise TrainingError(
            "the loss is not a number before the first step", hint=f"look at the data first: `{preview}`"
        )
    best = min(points, key=lambda point: point.smoothed)
    fall = points[: points.index(best) + 1]
    highest = max(point.smoothed for point in fall)
    if highest - best.smoothed < _LEAST_FALL * highest:
        raise TrainingError(
            f"the loss does not fall at any learning rate from {points[0].lr:.2g} to {points[-1].lr:.2g}",
            hint=f"look at the data first (`{preview}`), or try another --lr: the search is around it",
        )
    enough = highest - _SHARE * (highest - best.smoothed)
    top = max(at for at, point in enumerate(fall) if point.smoothed == highest)
    noise, rise = _noise(fall), points[len(fall) :]
    too_much = best.smoothed + max(_LOST * (highest - best.smoothed), noise)
    still_good = list(takewhile(lambda point: point.smoothed <= best.smoothed + noise, rise))
    return (
        next(point for point in fall[top:] if point.smoothed <= enough),
        best,
        still_good[-1] if still_good else best,
        next((point for point in rise if point.smoothed > too_much), None),
    )
