"""The learning-rate range test (Smith 2017): steps at an ever higher rate, until the loss diverges."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from vitcli.core.errors import TrainingError
from vitcli.engine import trial
from vitcli.engine.trainer import Trainer

STEPS = 120
_DECADES = 3
"""Below and above the peak learning rate of the configuration."""
_MEMORY, _DIVERGED = 0.9, 4.0
"""The test ends where the running mean of the loss, of which this share stays, is so many times its least."""
_WIDTH = 4.0
"""Standard deviation of the bell by which losses are smoothed, in steps."""
_SHARE = 0.75
_LEAST_FALL = 0.01
"""Of the loss; what falls less does not tell which rate is good."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RatePoint:
    """One step."""

    lr: float
    loss: float
    """Of its batch, before the step; in nats."""
    smoothed: float
    """A mean of the losses around it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RangeTest:
    """The result of a range test."""

    points: tuple[RatePoint, ...]
    suggested: float
    """The rate at which the loss has come down by three quarters of its fall.

    Where it is least, the rate is at the edge of what is stable; where it falls most steeply, and at a tenth of the former,
    it is a fraction of what training with a warm-up bears, and the steepest place hangs on the noise of a few batches.
    """
    least: float
    """The rate at which the loss is least."""
    diverged: float | None
    """The rate at which it was several times as high, or no number; None: it never was."""


def range_test(
    trainer: Trainer, *, steps: int = STEPS, on_step: Callable[[int], None] = lambda done: None
) -> RangeTest:
    """Take steps at rates that grow by the same factor each, from a thousandth to a thousand times the peak rate.

    Groups with rates of their own keep their proportions. The trainer is of no use afterwards.

    Args:
        trainer: its schedule does not count.
        steps: from the lowest rate to the highest.
        on_step: told how many are done.

    Raises:
        TrainingError: the loss falls at no rate.
    """
    factors = [10 ** (_DECADES * (2 * step / (steps - 1) - 1)) for step in range(steps)]
    trainer.factor = lambda step: factors[step]
    losses: list[float] = []
    mean, least, has_diverged = 0.0, math.inf, False
    for loss in islice(trial.losses(trainer), steps):
        losses.append(loss)
        on_step(len(losses))
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        running = mean / (1 - _MEMORY ** len(losses))  # without bias towards 0, where it starts
        has_diverged = not running <= _DIVERGED * least
        if has_diverged:
            break
        least = min(least, running)
    rates = [factor * trainer.config.peak_lr for factor in factors]
    diverged = rates[len(losses) - 1] if has_diverged else None
    finite = [loss for loss in losses if math.isfinite(loss)]
    points = tuple(
        RatePoint(lr=lr, loss=loss, smoothed=smoothed)
        for lr, loss, smoothed in zip(rates, finite, _smoothed(finite), strict=False)
    )
    suggested, best = _suggested(points)
    return RangeTest(points=points, suggested=suggested.lr, least=best.lr, diverged=diverged)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Means of all values, weighted by a bell around each: unlike a running mean, they do not come late."""
    places = torch.arange(len(values), dtype=torch.float64)
    bell = torch.exp(-((places[:, None] - places) / _WIDTH).square() / 2)
    smoothed: list[float] = (bell @ torch.tensor(values, dtype=torch.float64) / bell.sum(dim=1)).tolist()
    return smoothed


def _suggested(points: Sequence[RatePoint]) -> tuple[RatePoint, RatePoint]:
    """Find where the loss has fallen far enough, and where it is least."""
    if not points:
        raise TrainingError(
            "the loss is not a number before the first step", hint="look at the data first: `vit preview`"
        )
    best = min(points, key=lambda point: point.smoothed)
    fall = points[: points.index(best) + 1]
    highest = max(point.smoothed for point in fall)
    if highest - best.smoothed < _LEAST_FALL * highest:
        raise TrainingError(
            f"the loss falls at no learning rate from {points[0].lr:.2g} to {points[-1].lr:.2g}",
            hint="look at the data first (`vit preview`), or name another --lr, around which to look",
        )
    enough = highest - _SHARE * (highest - best.smoothed)
    top = max(at for at, point in enumerate(fall) if point.smoothed == highest)
    return next(point for point in fall[top:] if point.smoothed <= enough), best
