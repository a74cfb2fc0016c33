"""Training steps whose result is discarded: nothing is scored or saved."""

import time
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from torch import nn

from vitcli.core.config import TrainConfig
from vitcli.core.events import ignore
from vitcli.core.interrupts import StopRequest
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import Forward
from vitcli.engine.distillation import Distillation
from vitcli.engine.mixing import Mixing
from vitcli.engine.protocols import TrainBatches
from vitcli.engine.totals import EpochTotals
from vitcli.engine.trainer import Trainer

_UPDATES = 3


class StepTime(NamedTuple):
    """The seconds of training steps, in two parts."""

    image: float
    """The time for the gradients of an image of full size."""
    update: float
    """The time for an update of the weights, which does not depend on the number of images."""

    @classmethod
    def of(cls, step: float, update: float, *, images: int) -> "StepTime":
        """Divide the seconds of a step with so many images."""
        return cls(max(step - update, 0) / images, update)


def losses(trainer: Trainer) -> Iterator[float]:
    """Take steps, epoch after epoch, and yield the mean loss of each batch before its step."""
    trainer.model.train()
    device = next(trainer.model.parameters()).device
    while True:
        trainer.step = 0
        for images, labels in trainer.train.epoch(trainer.epoch):
            trainer.totals = EpochTotals.none(device)
            trainer.take_step(images, labels)
            yield trainer.totals.mean_loss  # waits for the device
        trainer.epoch += 1


def step_times(trainer: Trainer) -> Iterator[float]:
    """Take steps, epoch after epoch, and yield the seconds that each took."""
    started = time.perf_counter()
    for _ in losses(trainer):
        now = time.perf_counter()
        yield now - started
        started = time.perf_counter()


def time_update(trainer: Trainer) -> float:
    """Update the weights with the gradients of the last step again, and return the fewest seconds that this took."""
    stepper, seconds = trainer.stepper, []
    for _ in range(_UPDATES):
        started = time.perf_counter()
        norm = stepper.optimizers.step(stepper.precision.scaler, clip_grad=stepper.config.clip_grad)
        norm.item()  # waits for the device
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def time_steps(trainer: Trainer) -> list[float]:
    """Take the steps of one epoch, and return the seconds that each took."""
    return list(islice(step_times(trainer), len(trainer.train)))


def trial_trainer(
    model: nn.Module,
    config: TrainConfig,
    batches: TrainBatches,
    precision: Precision,
    *,
    distillation: Distillation | None,
    forward: Forward | None = None,
) -> Trainer:
    """Build a trainer whose steps are discarded."""
    return Trainer(
        model,
        train=batches,
        val=(),
        config=config.optim,
        mixing=Mixing(mixup=config.augment.mixup, cutmix=config.augment.cutmix, seed=config.run.seed),
        precision=precision,
        saver=None,
        emit=ignore,
        stop=StopRequest(),
        seed=config.run.seed,
        distillation=distillation,
        forward=forward,
    )
