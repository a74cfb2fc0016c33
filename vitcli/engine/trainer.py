"""The training loop: epochs of steps, judged on validation images, the best kept.

It knows batches, a model and an optimiser configuration; what is saved, and how progress is shown, is its caller's
affair (``Saver`` and ``Emit``).
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vitcli.core.config import OptimConfig
from vitcli.core.errors import TrainingError
from vitcli.core.events import Emit, EpochRecord, Note, TrainingProgress, TrainingStarted
from vitcli.core.interrupts import StopRequest
from vitcli.engine.compiling import Forward
from vitcli.engine.device import Precision
from vitcli.engine.ema import WeightAverage
from vitcli.engine.evaluate import predict_logits
from vitcli.engine.mixing import Mixing
from vitcli.engine.optim import Optimizers, build_optimizers
from vitcli.engine.schedule import learning_rate_factor

_REPORT_SECONDS = 0.2
"""Time between two looks at the loss; each look waits for the device."""


class TrainBatches(Protocol):
    """Shuffled batches of (images, labels), anew for every epoch."""

    @property
    def num_images(self) -> int:
        """Images per epoch."""

    def __len__(self) -> int:
        """Batches per epoch."""

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch."""


class Saver(Protocol):
    """What the trainer asks to be kept; ``weights`` are those that were, or would be, evaluated."""

    def save_epoch(self, weights: dict[str, Tensor], records: list[EpochRecord]) -> None:
        """After every epoch."""

    def save_interrupted(self, weights: dict[str, Tensor], epoch: int, step: int) -> None:
        """After the step that a signal interrupted."""


@dataclass(slots=True)
class _Totals:
    """Sums over an epoch, kept on the device so that steps need not wait for each other."""

    loss: Tensor
    correct: Tensor
    images: int = 0
    data_seconds: float = 0.0


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
        self.optimizers: Optimizers = build_optimizers(model, config)
        self.factor = learning_rate_factor(config, len(train))
        self.average = WeightAverage(model, config.ema_decay) if config.ema else None
        self.records: list[EpochRecord] = []
        self._factor = 0.0
        self.val_precision = val_precision or precision
        self._forward: Forward = model if forward is None else forward
        self._device = next(self.model.parameters()).device
        self._class_weights = None if class_weights is None else class_weights.to(self._device)

    def fit(self) -> list[EpochRecord]:
        """Train to the end, or until patience runs out.

        Raises:
            TrainingError: the loss is no longer finite; the checkpoints of earlier epochs stay as they are.
            Interrupted: a signal asked to stop; the weights were saved.
        """
        self.emit(TrainingStarted(epochs=self.config.epochs, steps_per_epoch=len(self.train)))
        for epoch in range(1, self.config.epochs + 1):
            self._train_epoch(epoch)
            if self._out_of_patience():
                self.emit(Note(text=f"no better epoch than {self.best.epoch}: stopped after {epoch}"))
                break
            if self.stop and epoch < self.config.epochs:
                raise self.stop.error(f"after epoch {epoch}; all is saved")
        return self.records

    @property
    def saver(self) -> Saver:
        """Who keeps checkpoints and metrics."""
        assert self._saver is not None
        return self._saver

    @property
    def best(self) -> EpochRecord:
        """The epoch with the best validation accuracy; of equals, the one with the lower validation loss."""
        return next(record for record in reversed(self.records) if record.is_best)

    def _train_epoch(self, epoch: int) -> None:
        torch.manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        self.mixing.start_epoch(epoch)
        self.model.train()
        zero = torch.zeros((), device=self._device)
        totals = _Totals(loss=zero, correct=zero)
        started = reported = waited = time.perf_counter()
        for step, (images, labels) in enumerate(self.train.epoch(epoch)):
            totals.data_seconds += time.perf_counter() - waited
            self._factor = self.factor((epoch - 1) * len(self.train) + step)
            self.optimizers.set_factor(self._factor)
            self._step(images, labels, totals)
            now = time.perf_counter()
            if now - reported >= _REPORT_SECONDS:
                self._report(epoch, step + 1, totals, now - started)
                reported = now
            if self.stop:
                self._check_finite(totals, epoch, step + 1)
                self.saver.save_interrupted(self._weights(), epoch, step + 1)
                raise self.stop.error(f"in epoch {epoch}, after step {step + 1} of {len(self.train)}; all is saved")
            waited = time.perf_counter()
        seconds = time.perf_counter() - started
        self._report(epoch, len(self.train), totals, seconds)
        self._finish_epoch(epoch, totals, seconds)

    def time_steps(self) -> list[float]:
        """Take the steps of one epoch, and say how many seconds each took; nothing is judged or saved."""
        self.model.train()
        self.mixing.start_epoch(1)
        self.optimizers.set_factor(self.factor(0))
        zero = torch.zeros((), device=self._device)
        totals, seconds = _Totals(loss=zero, correct=zero), []
        started = time.perf_counter()
        for images, labels in self.train.epoch(1):
            self._step(images, labels, totals)
            totals.loss.item()  # waits for the device
            now = time.perf_counter()
            seconds.append(now - started)
            started = now
        return seconds

    def _step(self, images: Tensor, labels: Tensor, totals: _Totals) -> None:
        """One optimiser step, in ``grad_accum_steps`` parts."""
        self.optimizers.zero_grad()
        partners, share = labels, 1.0
        if self.mixing:
            images, share = self.mixing(images)
            partners = labels.flip(0)
        count = len(labels)
        part = -(-count // self.config.grad_accum_steps)
        for start in range(0, count, part):
            here = slice(start, start + part)
            with self.precision.autocast():
                logits = self._forward(images[here])
                loss = self._loss(logits, labels[here], partners[here], share) / count
            self.precision.scaler.scale(loss).backward()
            totals.loss = totals.loss + loss.detach() * count
            totals.correct = totals.correct + (logits.detach().argmax(dim=1) == labels[here]).sum()
        totals.images += count
        self.optimizers.step(self.precision.scaler, clip_grad=self.config.clip_grad)
        if self.average is not None:
            self.average.update(self.model)

    def _loss(self, logits: Tensor, labels: Tensor, partners: Tensor, share: float) -> Tensor:
        """Summed cross-entropy, of both labels where images are mixed."""

        def entropy(targets: Tensor) -> Tensor:
            return F.cross_entropy(
                logits,
                targets,
                weight=self._class_weights,
                reduction="sum",
                label_smoothing=self.config.label_smoothing,
            )

        return entropy(labels) if share == 1 else share * entropy(labels) + (1 - share) * entropy(partners)

    def _report(self, epoch: int, step: int, totals: _Totals, seconds: float) -> None:
        self._check_finite(totals, epoch, step)
        self.emit(
            TrainingProgress(
                epoch=epoch,
                step=step,
                loss=totals.loss.item() / totals.images,
                accuracy=totals.correct.item() / totals.images,
                images_per_second=totals.images / seconds,
            )
        )

    def _check_finite(self, totals: _Totals, epoch: int, step: int) -> None:
        loss = totals.loss.item()
        if loss - loss == 0:
            return
        raise TrainingError(
            f"the loss became {loss} in epoch {epoch}, by step {step} (learning rate {self._learning_rate:.3g})",
            hint=f"most often the learning rate is too high: try --lr {self.config.peak_lr / 10:.2g}",
        )

    def _finish_epoch(self, epoch: int, totals: _Totals, seconds: float) -> None:
        """Judge the epoch on the validation images and have it saved."""
        logits, labels = predict_logits(self._judged, self.val, self.val_precision)
        accuracy = (logits.argmax(dim=1) == labels).double().mean().item()
        loss = F.cross_entropy(logits.double(), labels).item()
        if loss - loss != 0:
            raise TrainingError(f"the validation loss became {loss} in epoch {epoch}", hint="try a lower --lr")
        is_best = not self.records or (accuracy, -loss) > (self.best.val_accuracy, -self.best.val_loss)
        record = EpochRecord(
            epoch=epoch,
            learning_rate=self._learning_rate,
            train_loss=totals.loss.item() / totals.images,
            train_accuracy=totals.correct.item() / totals.images,
            val_loss=loss,
            val_accuracy=accuracy,
            seconds=seconds,
            images_per_second=totals.images / seconds,
            data_share=totals.data_seconds / seconds,
            is_best=is_best,
        )
        self.records.append(record)
        self.saver.save_epoch(self._weights(), self.records)
        self.emit(record)

    @property
    def _judged(self) -> nn.Module:
        """The model that is evaluated and saved."""
        return self.model if self.average is None else self.average.model

    def _weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = self._judged.state_dict()
        return weights

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return bool(patience) and self.records[-1].epoch - self.best.epoch >= patience

    @property
    def _learning_rate(self) -> float:
        return self._factor * self.config.peak_lr
