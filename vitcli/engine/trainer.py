"""The training loop: epochs of steps, judged on validation images, the best kept.

It knows batches, a model and an optimiser configuration; what is saved, and how progress is shown, is its caller's
affair (``Saver`` and ``Emit``). Every step has a seed of its own, so that its state is its place in the training and what
the steps before it have changed: a new trainer with that state goes on as if nothing had happened.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.core.config import OptimConfig
from vitcli.core.errors import TrainingError
from vitcli.core.events import Emit, EpochRecord, Note, TrainingProgress, TrainingStarted
from vitcli.core.interrupts import StopRequest
from vitcli.core.seeds import derived_seed
from vitcli.engine.compiling import Forward
from vitcli.engine.device import Precision, seed_draws
from vitcli.engine.ema import WeightAverage
from vitcli.engine.evaluate import predict_logits
from vitcli.engine.micro_batches import MicroBatches, memory_for
from vitcli.engine.mixing import Mixing
from vitcli.engine.objective import Objective, Targets
from vitcli.engine.optim import Optimizers, build_optimizers
from vitcli.engine.schedule import learning_rate_factor
from vitcli.engine.state import State
from vitcli.engine.stopping import best_of, is_better, is_out_of_patience, is_over
from vitcli.engine.totals import EpochTotals

_REPORT_SECONDS = 0.2
"""Time between two looks at the loss; each look waits for the device."""


class TrainBatches(Protocol):
    """Shuffled batches of (images, labels), anew for every epoch."""

    @property
    def num_images(self) -> int:
        """Images per epoch."""

    def __len__(self) -> int:
        """Batches per epoch."""

    def epoch(self, number: int, *, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch, from step ``start`` on."""


class Saver(Protocol):
    """What the trainer asks to be kept. The tensors of a state change with the next step: a saver takes copies."""

    def save_epoch(self, state: State) -> None:
        """After every epoch."""

    def save_step(self, state: State) -> None:
        """In the middle of an epoch: every so many steps, and after the step that a signal interrupted."""


class Trainer:
    """Trains one model.

    Args:
        model: on its device; it is changed in place.
        train: shuffled training batches.
        val: validation batches, which choose the best epoch.
        config: the optimisation.
        mixing: MixUp and CutMix.
        precision: what training computes in.
        saver: keeps checkpoints and metrics; None: nobody does, and only ``time_steps`` can be called.
        emit: told about the progress.
        stop: asked after every step whether a signal wants the training to end.
        seed: of dropout and stochastic depth.
        save_steps: have the state saved every so many steps, besides every epoch; 0: not.
        class_weights: what mistakes about each class cost in training, (K,); None: all alike.
        val_precision: what validation computes in; None: the same.
        forward: how the model is called in training, for example compiled; None: as it is.
    """

    def __init__(
        self,
        model: Any,
        *,
        train: TrainBatches,
        val: Iterable[tuple[Tensor, Tensor]],
        config: OptimConfig,
        mixing: Mixing,
        precision: Precision,
        saver: Saver | None,
        emit: Emit,
        stop: StopRequest,
        seed: int,
        save_steps: int = 0,
        class_weights: Tensor | None = None,
        val_precision: Precision | None = None,
        forward: Forward | None = None,
    ) -> None:
        self.model: nn.Module = model
        self.train = train
        self.val = val
        self.config = config
        self.mixing = mixing
        self.precision = precision
        self._saver = saver
        self.emit = emit
        self.stop = stop
        self.seed = seed
        self.save_steps = save_steps
        self.optimizers: Optimizers = build_optimizers(model, config)
        self.factor = learning_rate_factor(config, len(train))
        self.average = WeightAverage(model, config.ema_decay) if config.ema else None
        self.records: list[EpochRecord] = []
        self.epoch, self.step = 1, 0
        """The epoch under way, and how many of its steps are done."""
        self.val_precision = val_precision or precision
        self.micro_batches = MicroBatches(max(config.grad_accum_steps, 1), emit=emit, training=True)
        self._judging = MicroBatches(1, emit=emit)
        self._forward: Forward = model if forward is None else forward
        self._device = next(self.model.parameters()).device
        self.totals = EpochTotals.none(self._device)
        weights = None if class_weights is None else class_weights.to(self._device)
        self.objective = Objective(label_smoothing=config.label_smoothing, class_weights=weights)

    def fit(self) -> list[EpochRecord]:
        """Train to the end, or until patience runs out.

        Raises:
            TrainingError: the loss is no longer finite; the checkpoints of earlier epochs stay as they are.
            Interrupted: a signal asked to stop; the state was given to the saver.
        """
        self.emit(TrainingStarted(epochs=self.config.epochs, steps_per_epoch=len(self.train)))
        while not is_over(self.records, self.config):
            self._train_epoch()
            if self.stop and not is_over(self.records, self.config):
                raise self.stop.error(f"after epoch {self.epoch - 1}; all is saved")
        if is_out_of_patience(self.records, self.config):
            self.emit(Note(text=f"no better epoch than {self.best.epoch}: stopped after {self.records[-1].epoch}"))
        return self.records

    def state_dict(self) -> State:
        """All that another trainer of the same configuration needs to go on; tensors are those in use."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "optimizers": self.optimizers.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "totals": self.totals.state_dict(),
            "micro_batches": self.micro_batches.count,
            "records": [asdict(record) for record in self.records],
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from what ``state_dict`` gave."""
        self.epoch, self.step = state["epoch"], state["step"]
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizers.load_state_dict(state["optimizers"])
        if state["scaler"]:  # there is none where another device computes in another precision
            self.precision.scaler.load_state_dict(state["scaler"])
        self.totals.load_state_dict(state["totals"])
        self.micro_batches.count = state.get("micro_batches", self.micro_batches.count)
        self.records = [EpochRecord(**record) for record in state["records"]]

    @property
    def saver(self) -> Saver:
        """Who keeps checkpoints and metrics."""
        assert self._saver is not None
        return self._saver

    @property
    def best(self) -> EpochRecord:
        """The epoch with the best validation accuracy; of equals, the one with the lower validation loss."""
        return best_of(self.records)

    def _train_epoch(self) -> None:
        """What is left of the epoch under way."""
        self.model.train()
        reported = waited = time.perf_counter()
        started = waited - self.totals.seconds
        for images, labels in self.train.epoch(self.epoch, start=self.step):
            self.totals.data_seconds += time.perf_counter() - waited
            self._step(images, labels)
            now = time.perf_counter()
            self.totals.seconds = now - started
            if now - reported >= _REPORT_SECONDS:
                self._report()
                reported = now
            if self.stop:
                self._save_step()
                where = f"in epoch {self.epoch}, after step {self.step} of {len(self.train)}"
                raise self.stop.error(f"{where}; all is saved")
            if self.save_steps and self._steps_done % self.save_steps == 0:
                self._save_step()
            waited = time.perf_counter()
        self._report()
        self._finish_epoch()

    def time_steps(self) -> list[float]:
        """Take the steps of one epoch, and say how many seconds each took; nothing is judged or saved."""
        seconds = []
        started = time.perf_counter()
        for _ in islice(self.losses(), len(self.train)):
            now = time.perf_counter()
            seconds.append(now - started)
            started = now
        return seconds

    def losses(self) -> Iterator[float]:
        """Take steps, epoch after epoch; each batch's mean loss, as it was before its step. Nothing is judged or saved."""
        self.model.train()
        while True:
            for images, labels in self.train.epoch(self.epoch):
                self.totals = EpochTotals.none(self._device)
                self._step(images, labels)
                yield self.totals.mean_loss  # which waits for the device
            self.epoch, self.step = self.epoch + 1, 0

    def _step(self, images: Tensor, labels: Tensor) -> None:
        """One optimiser step, in ``grad_accum_steps`` parts, or more where memory does not suffice."""
        self.optimizers.set_factor(self.factor(self._steps_done))
        targets = Targets(labels, partners=labels)
        if self.mixing:
            images, share = self.mixing(images, epoch=self.epoch, step=self.step)
            targets = Targets(labels, partners=labels.flip(0), share=share)
        loss, correct = self.micro_batches.fitted(partial(self._backward, images, targets), len(images))
        with memory_for("the moments of the optimizer", hint="--opt sgd keeps fewer of them than --opt adamw"):
            self.optimizers.step(self.precision.scaler, clip_grad=self.config.clip_grad)
        if self.average is not None:
            self.average.update(self.model)
        totals = self.totals
        totals.loss, totals.correct = totals.loss + loss, totals.correct + correct
        totals.images += len(labels)
        self.step += 1

    def _backward(self, images: Tensor, targets: Targets, part: int) -> tuple[Tensor, Tensor]:
        """Gradients of the batch's mean loss, gathered part by part; its summed loss, and how many are right."""
        seed_draws(derived_seed("step", self.seed, self.epoch, self.step), self._device)
        self.optimizers.zero_grad()
        count = len(images)
        total, correct = self.totals.loss.new_zeros(()), self.totals.correct.new_zeros(())
        for start in range(0, count, part):
            here = slice(start, start + part)
            with self.precision.autocast():
                logits = self._forward(images[here])
                loss = self.objective(logits, targets.part(here))
            self.precision.scaler.scale(loss / count).backward()
            total = total + loss.detach()
            correct = correct + (logits.detach().argmax(dim=1) == targets.labels[here]).sum()
        return total, correct

    def _report(self) -> None:
        self._check_finite()
        self.emit(
            TrainingProgress(
                epoch=self.epoch,
                step=self.step,
                loss=self.totals.mean_loss,
                accuracy=self.totals.accuracy,
                images_per_second=self.totals.images_per_second,
            )
        )

    def _save_step(self) -> None:
        self._check_finite()
        self.saver.save_step(self.state_dict())

    def _check_finite(self) -> None:
        loss = self.totals.loss.item()
        if loss - loss == 0:
            return
        raise TrainingError(
            f"the loss became {loss} in epoch {self.epoch}, by step {self.step}"
            f" (learning rate {self._learning_rate:.3g})",
            hint=f"most often the learning rate is too high: try --lr {self.config.peak_lr / 10:.2g}",
        )

    def _finish_epoch(self) -> None:
        """Judge the epoch on the validation images and have it saved."""
        logits, labels = predict_logits(self._judged, self.val, self.val_precision, parts=self._judging)
        accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
        loss = F.cross_entropy(logits.double(), labels).item()
        if loss - loss != 0:
            raise TrainingError(f"the validation loss became {loss} in epoch {self.epoch}", hint="try a lower --lr")
        record = EpochRecord(
            epoch=self.epoch,
            learning_rate=self._learning_rate,
            train_loss=self.totals.mean_loss,
            train_accuracy=self.totals.accuracy,
            val_loss=loss,
            val_accuracy=accuracy,
            seconds=self.totals.seconds,
            images_per_second=self.totals.images_per_second,
            data_share=self.totals.data_seconds / self.totals.seconds,
            is_best=is_better(accuracy, loss, self.records),
        )
        self.records.append(record)
        self.epoch, self.step, self.totals = self.epoch + 1, 0, EpochTotals.none(self._device)
        self.saver.save_epoch(self.state_dict())
        self.emit(record)

    @property
    def _judged(self) -> nn.Module:
        """The model that is evaluated and saved."""
        return self.model if self.average is None else self.average.model

    @property
    def _steps_done(self) -> int:
        return (self.epoch - 1) * len(self.train) + self.step

    @property
    def _learning_rate(self) -> float:
        """Of the step that was taken last."""
        return self.factor(self._steps_done - 1) * self.config.peak_lr
