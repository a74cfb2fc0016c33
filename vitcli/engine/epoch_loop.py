"""The loop that training and pretraining have in common: epochs of steps that are reported, saved, and stopped by signals.

Every step has its own draws, so its result depends only on its position and on the changes of earlier steps: a new loop with
the same state continues exactly as the old one would have.
"""

import time
from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from vitcli.core.errors import TrainingError
from vitcli.core.events import Emit, Note, TrainingStarted
from vitcli.core.interrupts import StopRequest
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.autocast import Precision
from vitcli.engine.device import reset_peak_memory
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.optim import Optimizers, build_optimizers
from vitcli.engine.protocols import Saver, TrainBatches
from vitcli.engine.schedule import learning_rate_factor
from vitcli.engine.state import State
from vitcli.engine.stepper import Stepper, Taken
from vitcli.engine.totals import EpochTotals

_REPORT_SECONDS = 0.2
"""Time between two reports of the loss; each report waits for the device."""


class EpochLoop(ABC):
    """Epochs of steps of one model; subclasses say what a step learns, and what ends an epoch.

    Args:
        model: the model, on its device; it is changed in place.
        train: shuffled training batches.
        config: the optimisation settings.
        saver: the saver of states; None: nothing is saved, and only steps can be taken.
        emit: receives the progress.
        stop: the stop request, checked after every step.
        save_steps: save the state every N steps, in addition to every epoch; 0: only after epochs.
        log_steps: report the progress every N steps, in addition to the regular times; 0: only at these.
        reports: this process reports the progress; of several, only one does.
    """

    stepper: Stepper
    precision: Precision
    micro_batches: MicroBatches
    records: list[Any]
    """The results of the finished epochs."""
    record_of: type[Any]
    """The dataclass of these results."""

    def __init__(
        self,
        model: Any,
        *,
        train: TrainBatches,
        config: OptimConfig,
        saver: Saver | None,
        emit: Emit,
        stop: StopRequest,
        save_steps: int,
        log_steps: int = 0,
        reports: bool = True,
    ) -> None:
        self.model: nn.Module = model
        self.train = train
        self.config = config
        self._saver = saver
        self.emit = emit
        self.stop = stop
        self.save_steps, self.log_steps, self._reports = save_steps, log_steps, reports
        self.optimizers: Optimizers = build_optimizers(model, config)
        self.factor = learning_rate_factor(config, len(train))
        self.epoch, self.step = 1, 0
        """The current epoch, and the number of its steps that are done."""
        self._device: torch.device = next(model.parameters()).device
        self.totals = EpochTotals.none(self._device)

    @property
    def saver(self) -> Saver:
        """The saver of states."""
        assert self._saver is not None
        return self._saver

    def state_dict(self) -> State:
        """Return all that another loop needs to resume; tensors are not copied."""
        self.optimizers.eval()
        return {
            "epoch": self.epoch,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": self.optimizers.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "totals": self.totals.state_dict(),
            "micro_batches": self.micro_batches.count,
            "records": [asdict(record) for record in self.records],
        }

    def load_state_dict(self, state: State) -> None:
        """Resume from the state that ``state_dict`` returned."""
        self.epoch, self.step = state["epoch"], state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizers.load_state_dict(state["optimizers"])
        if state["scaler"]:  # empty if the device before computed in another precision
            self.precision.scaler.load_state_dict(state["scaler"])
        self.totals.load_state_dict(state["totals"])
        self.micro_batches.count = max(state.get("micro_batches", 1), self.micro_batches.count)
        self.records = [self.record_of(**record) for record in state["records"]]

    @abstractmethod
    def take_step(self, images: Tensor, labels: Tensor) -> None:
        """Take one optimiser step: step ``self.step`` of epoch ``self.epoch``."""

    @abstractmethod
    def emit_progress(self) -> None:
        """Report the progress within the epoch."""

    @abstractmethod
    def finish_epoch(self) -> None:
        """Score the epoch, save it, and begin the next one."""

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """True if no epoch is left."""

    def begin_epoch(self) -> None:
        """Prepare for the steps of an epoch, or for the rest of them."""
        self.model.train()
        reset_peak_memory(self._device)

    def run(self, started: TrainingStarted) -> None:
        """Run all epochs that are left.

        Raises:
            TrainingError: the loss is no longer finite; what was saved stays as it is.
            Interrupted: a signal asked to stop; the saver has the state.
        """
        self.emit(started)
        while not self.is_over:
            self._run_epoch()
            if self.stop and not self.is_over:
                raise self.stop.error(f"after epoch {self.epoch - 1}; all is saved")

    def _run_epoch(self) -> None:
        """Run the remaining steps of the current epoch."""
        self.begin_epoch()
        reported = waited = time.perf_counter()
        started = waited - self.totals.seconds
        for images, labels in self.train.epoch(self.epoch, start=self.step):
            self.totals.data_seconds += time.perf_counter() - waited
            self.take_step(images, labels)
            now = time.perf_counter()
            self.totals.seconds = now - started
            is_due = now - reported >= _REPORT_SECONDS or (self.log_steps and self._steps_done % self.log_steps == 0)
            if is_due and self._reports:  # clocks of processes differ; the others check the loss when all report
                self._report()
                reported = now
            if self.stop:
                self.emit(Note(text="stopping; the training state is being saved"))
                self._save_step()
                where = f"in epoch {self.epoch}, after step {self.step} of {len(self.train)}; all is saved"
                raise self.stop.error(where)
            if self.save_steps and self._steps_done % self.save_steps == 0:
                self._save_step()
            waited = time.perf_counter()
        self._report()  # waits for the device
        self.totals.seconds = time.perf_counter() - started
        self.finish_epoch()

    def next_epoch(self) -> None:
        """Begin the next epoch."""
        self.epoch, self.step, self.totals = self.epoch + 1, 0, EpochTotals.none(self._device)

    def add_step(self, taken: Taken, images: int) -> None:
        """Count a step that was taken with a batch of images, of all processes."""
        self.totals.add(taken, images)
        self.step += 1

    def finite(self, loss: float, what: str = "the loss") -> float:
        """Return a loss.

        Raises:
            TrainingError: it is not finite.
        """
        if loss - loss == 0:
            return loss
        raise TrainingError(
            f"{what} became {loss} in epoch {self.epoch}, by step {self.step}"
            f" (learning rate {self._learning_rate:.3g})",
            hint=f"most often the learning rate is too high: try {self.config.slower}",
        )

    def _report(self) -> None:
        self.finite(self.totals.loss.item())
        self.emit_progress()

    def _save_step(self) -> None:
        self.finite(self.totals.loss.item())
        self.saver.save_step(self.state_dict())

    @property
    def _steps_done(self) -> int:
        return (self.epoch - 1) * len(self.train) + self.step

    @property
    def _factor(self) -> float:
        """The factor on all learning rates in the last step."""
        return self.factor(self._steps_done - 1)

    @property
    def _learning_rate(self) -> float:
        """The learning rate of the last step."""
        return self._factor * self.config.peak_lr
