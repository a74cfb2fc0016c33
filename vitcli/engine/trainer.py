"""The training loop: epochs of steps, scored on validation images; the best epoch is kept.

It knows batches, a model and the optimisation settings; the caller decides what is saved and how progress is shown
(``Saver`` and ``Emit``).
"""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from vitcli.core.errors import TrainingError
from vitcli.core.events import Emit, EpochRecord, Note, TrainingProgress, TrainingStarted, Warned
from vitcli.core.interrupts import StopRequest
from vitcli.core.optim_config import OptimConfig
from vitcli.engine import sharding
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import Forward
from vitcli.engine.cores import may_divide_steps
from vitcli.engine.device import peak_memory
from vitcli.engine.distillation import Distillation
from vitcli.engine.distributed import Parallel, Processes
from vitcli.engine.doctor import Doctor
from vitcli.engine.epoch_loop import EpochLoop
from vitcli.engine.evaluate import Score, predict_logits, score
from vitcli.engine.growth import Growth
from vitcli.engine.judging import build_average, judge
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.mixing import Mixing
from vitcli.engine.objective import Objective
from vitcli.engine.protocols import Saver, TrainBatches
from vitcli.engine.state import State
from vitcli.engine.stepper import Stepper
from vitcli.engine.stopping import best_of, is_better, is_out_of_patience, is_over


class Trainer(EpochLoop):
    """The training loop of one model.

    Args:
        model: the model, on its device; it is changed in place.
        train: shuffled training batches.
        val: validation batches, by which the best epoch is chosen.
        config: the optimisation settings.
        mixing: MixUp and CutMix.
        precision: the precision of training.
        saver: the saver of checkpoints and metrics; None: nothing is saved, and only steps can be taken (``trial``).
        emit: receives the progress.
        stop: the stop request, checked after every step.
        seed: the seed of dropout and stochastic depth.
        save_steps: save the state every N steps, in addition to every epoch; 0: only after epochs.
        log_steps: report the progress every N steps, in addition to the regular times; 0: only at these.
        class_weights: the weight of each class in the training loss, (K,); None: all are equal.
        val_precision: the precision of validation; None: as in training.
        forward: the function that calls the model in training, for example compiled; None: the model itself.
        distillation: the teacher; None: there is none.
        growth: the image size of every epoch; None: the size of the batches.
        processes: the processes that train together, of which only the first one saves; None: this one alone.
        shard: each process holds a shard of the model, which does not have to be on its device before.
        preview: the command that draws the images, for advice.
    """

    record_of = EpochRecord

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
        log_steps: int = 0,
        class_weights: Tensor | None = None,
        val_precision: Precision | None = None,
        forward: Forward | None = None,
        distillation: Distillation | None = None,
        growth: Growth | None = None,
        processes: Processes | None = None,
        shard: bool = False,
        preview: str = "vit preview",
    ) -> None:
        # The trained weights, on their device
        self.average = build_average(model, config)
        if shard:
            sharding.shard([model, self.average.model] if self.average else [model], precision.device)
        self.processes = processes or Processes()
        super().__init__(
            model,
            train=train,
            config=config,
            saver=saver,
            emit=emit,
            stop=stop,
            save_steps=save_steps,
            log_steps=log_steps,
            reports=not self.processes.rank,
        )
        self.val = val
        self.precision, self.val_precision = precision, val_precision or precision
        self.keeps_average = config.ema
        """True if the average's weights are kept as the model."""

        # The progress of training
        self.records: list[EpochRecord] = []
        self._doctor = Doctor(config, steps_per_epoch=len(train), preview=preview)

        # The parts of a step
        count, together, is_compiled = max(config.grad_accum_steps, 1), self.processes.size > 1, forward is not None
        self.micro_batches = MicroBatches(count, emit=emit, training=True, together=together, compiled=is_compiled)
        self._judging = MicroBatches(count if shard else 1, emit=emit, together=shard)
        weights = None if class_weights is None else class_weights.to(self._device)
        smoothing = config.label_smoothing
        self.stepper = Stepper(
            Parallel(model, model if forward is None else forward, self.processes),
            self.optimizers,
            objective=Objective(label_smoothing=smoothing, class_weights=weights, distillation=distillation),
            precision=precision,
            micro_batches=self.micro_batches,
            mixing=mixing,
            growth=growth,
            config=config,
            seed=seed,
            uses_cores=not is_compiled and may_divide_steps(model, precision),
        )

    def fit(self) -> list[EpochRecord]:
        """Train to the end, or until patience runs out; return the records of all epochs.

        Raises:
            TrainingError: the loss is no longer finite; the checkpoints of earlier epochs stay as they are.
            Interrupted: a signal asked to stop; the saver has the state.
        """
        self.run(
            TrainingStarted(
                epochs=self.config.epochs,
                steps_per_epoch=len(self.train),
                steps_done=self._steps_done,
                keeps_best=self.config.keep == "best",
            )
        )
        if is_out_of_patience(self.records, self.config):
            best, last = best_of(self.records).epoch, self.records[-1].epoch
            self.emit(Note(text=f"no better epoch than {best}: stopped after {last}"))
        return self.records

    def state_dict(self) -> State:
        """Return all that another trainer needs to resume.

        Tensors are not copied. Those of a sharded model are whole in the first process.
        """
        state = {
            **super().state_dict(),
            "average": self.average.state_dict() if self.average else {},
            "keeps_average": self.keeps_average,
        }
        return sharding.whole_state(state, kept=not self.processes.rank)

    def load_state_dict(self, state: State) -> None:
        """Resume from the state that ``state_dict`` returned."""
        super().load_state_dict(state)
        if self.average:
            self.average.load_state_dict(state["average"])
        self.keeps_average = state.get("keeps_average", self.config.ema)

    @property
    def is_over(self) -> bool:
        """True if no epoch is left, or patience has run out."""
        return is_over(self.records, self.config)

    def begin_epoch(self) -> None:
        """Prepare for the steps of an epoch, or for the rest of them."""
        super().begin_epoch()
        self.keeps_average = self.config.ema

    def take_step(self, images: Tensor, labels: Tensor) -> None:
        """Take one optimiser step: step ``self.step`` of epoch ``self.epoch``."""
        batch_images = min(self.train.batch_size, self.train.num_images - self.step * self.train.batch_size)
        taken = self.stepper.take(
            images,
            labels,
            epoch=self.epoch,
            step=self.step,
            factor=self.factor(self._steps_done),
            batch_images=batch_images,
        )
        if self.average is not None:
            self.average.after_step(self.model)
        self.add_step(taken, batch_images)

    def emit_progress(self) -> None:
        """Report the progress within the epoch."""
        self.emit(
            TrainingProgress(
                epoch=self.epoch,
                step=self.step,
                loss=self.totals.mean_loss,
                accuracy=self.totals.accuracy,
                images_per_second=self.totals.images_per_second,
                step_loss=self.totals.step_loss.item(),
                learning_rate=self._learning_rate,
            )
        )

    def finish_epoch(self) -> None:
        """Score the epoch on the validation images, and save it."""
        if self.average is not None:
            self.average.after_epoch(self.model, self.epoch)
        self.optimizers.eval()
        verdict = judge(self.model, self.average, score=self._score)
        self.keeps_average = verdict.keeps_average
        record = EpochRecord(
            epoch=self.epoch,
            learning_rate=self._learning_rate,
            train_loss=self.totals.mean_loss,
            train_accuracy=self.totals.accuracy,
            **verdict.figures,
            seconds=self.totals.seconds,
            images_per_second=self.totals.images_per_second,
            data_share=self.totals.data_seconds / self.totals.seconds,
            is_best=self.config.keep == "last" or is_better(verdict.kept.accuracy, verdict.kept.loss, self.records),
            grad_norm=self.totals.mean_grad_norm(self.step),
            learning_rates={kind: self._factor * peak for kind, peak in self.config.peak_lrs.items()},
            peak_memory=peak_memory(self._device),
        )
        self.records.append(record)
        self.next_epoch()
        self.saver.save_epoch(self.state_dict())
        self.emit(record)
        for finding in self._doctor.examine(self.records, verdict.kept):
            self.emit(Warned(text=finding))

    def _score(self, model: nn.Module) -> Score:
        """Score a model on the validation images."""
        judged = predict_logits(model, self.val, self.val_precision, micro_batches=self._judging)
        loss = (found := score(*judged, self.processes)).loss
        if loss - loss != 0:
            hint = f"try {self.config.slower}"
            raise TrainingError(f"the validation loss became {loss} in epoch {self.epoch}", hint=hint)
        return found
