"""The loop of pretraining without labels: epochs of steps that predict hidden patches."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vitcli.core.events import Emit, PretrainingEpoch, PretrainingProgress, TrainingStarted
from vitcli.core.interrupts import StopRequest
from vitcli.core.optim_config import OptimConfig
from vitcli.core.seeds import derived_seed
from vitcli.engine.autocast import Precision
from vitcli.engine.cores import may_divide_steps
from vitcli.engine.distributed import Parallel, Processes
from vitcli.engine.epoch_loop import EpochLoop
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.mixing import Mixing
from vitcli.engine.objective import Objective, Targets
from vitcli.engine.optim import Optimizers
from vitcli.engine.protocols import Saver, TrainBatches
from vitcli.engine.stepper import Stepper

Hide = Callable[[int, torch.Generator], Tensor]
"""Function from a number of images to what is hidden of each: a boolean tensor (B, P), drawn from the generator."""


class _MaskedStepper(Stepper):
    """Steps of a model that computes the losses of images from what is hidden of them, which takes the place of labels."""

    def __init__(self, model: nn.Module, optimizers: Optimizers, **options: Any) -> None:
        super().__init__(
            Parallel(model, model, Processes()),
            optimizers,
            objective=Objective(),
            mixing=Mixing(mixup=0, cutmix=0, seed=0),
            growth=None,
            **options,
        )
        self._model = model

    def _loss(self, images: Tensor, targets: Targets, *, is_last: bool) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        with self.precision.autocast():
            loss = self._model(images, targets.labels).sum()
        return loss, torch.zeros((), device=loss.device)


class Pretrainer(EpochLoop):
    """The pretraining of one model.

    Args:
        model: the model, images (B, C, H, W) and what is hidden (B, P) -> losses (B,); it is changed in place.
        train: shuffled training batches, whose labels are not read.
        val: images that are not trained on, whose loss is computed after each epoch.
        hide: draws what is hidden.
        config: the optimisation settings.
        precision: the precision of training.
        val_precision: the precision in which held-out images are computed.
        saver: the saver of states.
        emit: receives the progress.
        stop: the stop request, checked after every step.
        seed: the seed of what is hidden, and of dropout.
        save_steps: save the state every N steps, in addition to every epoch; 0: only after epochs.
    """

    record_of = PretrainingEpoch

    def __init__(
        self,
        model: Any,
        *,
        train: TrainBatches,
        val: Iterable[tuple[Tensor, Tensor]],
        hide: Hide,
        config: OptimConfig,
        precision: Precision,
        val_precision: Precision,
        saver: Saver,
        emit: Emit,
        stop: StopRequest,
        seed: int,
        save_steps: int = 0,
    ) -> None:
        super().__init__(model, train=train, config=config, saver=saver, emit=emit, stop=stop, save_steps=save_steps)
        self.val, self.hide, self.seed = val, hide, seed
        self.precision, self.val_precision = precision, val_precision
        self.records: list[PretrainingEpoch] = []
        self.micro_batches = MicroBatches(max(config.grad_accum_steps, 1), emit=emit, training=True)
        self._judging = MicroBatches(1, emit=emit)
        self.stepper = _MaskedStepper(
            model,
            self.optimizers,
            precision=precision,
            micro_batches=self.micro_batches,
            config=config,
            seed=seed,
            uses_cores=may_divide_steps(model, precision),
        )

    def fit(self) -> list[PretrainingEpoch]:
        """Train to the end, and return the records of all epochs.

        Raises:
            TrainingError: the loss is no longer finite; the weights of earlier epochs stay as they are.
            Interrupted: a signal asked to stop; the saver has the state.
        """
        self.run(
            TrainingStarted(
                epochs=self.config.epochs,
                steps_per_epoch=len(self.train),
                steps_done=self._steps_done,
                keeps_best=False,
                labelled=False,
            )
        )
        return self.records

    @property
    def is_over(self) -> bool:
        """True if no epoch is left."""
        return self.epoch > self.config.epochs

    def finish_epoch(self) -> None:
        """Compute the loss of held-out images, save the epoch, and begin the next one."""
        record = PretrainingEpoch(
            epoch=self.epoch,
            learning_rate=self._learning_rate,
            train_loss=self.totals.mean_loss,
            val_loss=self._held_out_loss(),
            seconds=self.totals.seconds,
            images_per_second=self.totals.images_per_second,
        )
        self.records.append(record)
        self.next_epoch()
        self.saver.save_epoch(self.state_dict())
        self.emit(record)

    def take_step(self, images: Tensor, labels: Tensor) -> None:  # noqa: ARG002
        """Take one optimiser step, which reads no labels."""
        generator = torch.Generator().manual_seed(derived_seed("hidden", self.seed, self.epoch, self.step))
        taken = self.stepper.take(
            images,
            self.hide(len(images), generator).to(images.device),
            epoch=self.epoch,
            step=self.step,
            factor=self.factor(self._steps_done),
            batch_images=len(images),
        )
        self.add_step(taken, len(images))

    def emit_progress(self) -> None:
        """Report the progress within the epoch."""
        self.emit(
            PretrainingProgress(
                epoch=self.epoch,
                step=self.step,
                loss=self.totals.mean_loss,
                images_per_second=self.totals.images_per_second,
            )
        )

    @torch.no_grad()
    def _held_out_loss(self) -> float:
        """Compute the mean loss of images that are not trained on, of which the same patches are hidden in every epoch."""
        total, count, generator = 0.0, 0, torch.Generator().manual_seed(derived_seed("hidden", self.seed))
        self.model.eval()
        self.optimizers.eval()
        for images, _ in self.val:
            hidden = self.hide(len(images), generator).to(images.device)
            total += self._judging.fitted(partial(self._losses, images, hidden), len(images))
            count += len(images)
        self.model.train()
        return self.finite(total / count, "the loss of held-out images")

    def _losses(self, images: Tensor, hidden: Tensor, slices: list[slice]) -> float:
        """Compute the summed loss of images by micro-batches."""
        total = 0.0
        with self.val_precision.autocast():
            for here in slices:
                total += self.model(images[here], hidden[here]).float().sum().item()
        return total
