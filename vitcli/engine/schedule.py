"""Learning-rate schedules: a factor on the peak learning rate for every optimiser step, counted from 0."""

import math
from collections.abc import Callable

from vitcli.core.optim_config import OptimConfig

_ONE_CYCLE_WARMUP = 0.3
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = 1 / 25 / 1e4


def learning_rate_factor(config: OptimConfig, steps_per_epoch: int) -> Callable[[int], float]:
    """Return the schedule of a configuration as a function from step to factor.

    - constant: 1 after the warm-up.
    - step: ``gamma ** (epoch // step_size)``.
    - cosine: from 1 to ``min_lr`` (Loshchilov & Hutter 2017), after the warm-up.
    - one-cycle: from 1/25 up to 1 in 30 % of the steps, then down to 1/250,000 (Smith & Topin 2018).

    All except one-cycle begin with ``warmup_epochs`` of linear warm-up, at most half of the training. If the weights of
    the last epochs are averaged, the rate is constant during these epochs (Izmailov et al. 2018), after the warm-up.
    """
    first = (config.epochs - config.swa_epochs) * steps_per_epoch
    factor = _whole_schedule(config, steps_per_epoch, most_warmup=first)
    return (lambda step: factor(min(step, first))) if config.swa_epochs else factor


def _whole_schedule(config: OptimConfig, steps_per_epoch: int, *, most_warmup: int) -> Callable[[int], float]:
    total = config.epochs * steps_per_epoch
    if config.schedule == "one-cycle":
        return lambda step: _one_cycle(step, total)
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total // 2, most_warmup)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        if config.schedule == "step":
            return float(config.gamma ** (step // steps_per_epoch // config.step_size))
        if config.schedule == "cosine":
            return _cosine(1, config.min_lr, (step - warmup) / max(total - warmup, 1))
        return 1.0

    return factor


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _one_cycle(step: int, total: int) -> float:
    peak = _ONE_CYCLE_WARMUP * total - 1
    if step <= peak:
        return _cosine(_ONE_CYCLE_START, 1, step / peak if peak > 0 else 1)
    return _cosine(1, _ONE_CYCLE_END, (step - peak) / max(total - 1 - peak, 1))
