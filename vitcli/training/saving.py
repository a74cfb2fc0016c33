"""Saving of checkpoints, training states and metrics, while training continues."""

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from torch import Tensor

from vitcli.core.config import RunConfig, TrainConfig
from vitcli.core.errors import ModelError, RunError
from vitcli.core.files import writing_in
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.core.runs import Run
from vitcli.data.dataset import Facts
from vitcli.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitcli.engine.state import State, copied, judged_weights, save_state
from vitcli.models.finetune import merged
from vitcli.training.study import continue_command, study_of


class RunSaver:
    """A saver that writes training states, checkpoints and metrics to the run's directory, in the background.

    The training thread makes a copy and continues; another thread writes the copy, one save at a time. If the disk
    refuses a write, the next save, or ``wait``, raises the error; files that were written before stay complete.

    Args:
        run: the run to save in.
        config: the complete configuration.
        model: the architecture.
        facts: the facts about the data set.
        preprocessing: the preprocessing of the images.
        computed: ``Computing.record`` of the training.
        seconds: the time that the run has taken so far.
    """

    def __init__(
        self,
        run: Run,
        config: TrainConfig,
        model: ModelConfig,
        facts: Facts,
        preprocessing: Preprocessing,
        *,
        computed: Mapping[str, Any],
        seconds: float,
    ) -> None:
        self.run = run
        self.config = config
        self.model = model
        self.classes = facts.classes
        self.fingerprint = facts.fingerprint
        self.preprocessing = preprocessing
        self.computed = computed
        self.backbone: Mapping[str, Tensor] = {}
        """Weights of a frozen backbone: they are in every checkpoint, but not in the states that the trainer saves."""
        self._began = time.perf_counter() - seconds
        run.checkpoint("last").parent.mkdir(exist_ok=True)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: Future[None] | None = None

    @property
    def seconds(self) -> float:
        """The time that the run has taken, including the time before it was resumed."""
        return time.perf_counter() - self._began

    def save_epoch(self, state: State) -> None:
        """Save after an epoch: the ``last`` checkpoint, the state, and the files of ``publish``."""
        self._in_background(self._write_epoch, state)

    def save_step(self, state: State) -> None:
        """Save in the middle of an epoch: the ``last`` checkpoint and the state."""
        self._in_background(self._write_step, state)

    def publish(self, state: State) -> None:
        """Write the metrics, the checkpoint ``best`` if the epoch is the best, and one every ``save_every`` epochs.

        This follows the saving of the state, and is done again when a run is resumed, because it may have been killed
        in between.
        """
        records = state["records"]
        every = self.config.run.save_every
        with self._writing_to_disk():
            if records and not state["step"]:
                epoch = records[-1]["epoch"]
                is_last_kept = self.config.optim.keep == "last"
                if records[-1]["is_best"] and (is_last_kept or not self._has_better(records[-1])):
                    self._write("best", state)
                if every and epoch % every == 0:
                    self._write(epoch, state)
            self.run.save_metrics(records)

    def wait(self) -> None:
        """Wait until everything is written.

        Raises:
            RunError: the disk refused a write.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Wait for the current write to end, and ignore its errors."""
        self._thread.shutdown()

    def _in_background(self, write: Callable[[State], None], state: State) -> None:
        self.wait()
        self._writing = self._thread.submit(write, copied({**state, "seconds": self.seconds}))

    def _write_epoch(self, state: State) -> None:
        self._write_step(state)
        self.publish(state)

    def _write_step(self, state: State) -> None:
        """Write the ``last`` checkpoint, then the state: resuming needs both, because a state lacks frozen weights."""
        with self._writing_to_disk():
            self._write("last", state)
            path, before = self.run.states
            self.run.require_folder()
            save_state(path, state, before=before, makes_folder=False)

    @contextmanager
    def _writing_to_disk(self) -> Iterator[None]:
        then = f"then `{resume_command(self.run, self.config.run)}` continues the run"
        try:
            with writing_in(self.run.path, fault=RunError, what_then=then):
                yield
        except RunError:
            self.run.require_folder()  # a folder that is gone is the better reason
            raise

    def _has_better(self, record: Mapping[str, Any]) -> bool:
        """Tell whether the best checkpoint is at least as good; it may be, after resuming from an earlier state."""
        try:
            kept = load_checkpoint(self.run.best_checkpoint).provenance
            return bool((kept["val_accuracy"], -kept["val_loss"]) >= (record["val_accuracy"], -record["val_loss"]))
        except (ModelError, KeyError):
            return False

    def _write(self, name: str | int, state: State) -> None:
        self.run.require_folder()
        where = {"epoch": state["epoch"], "step": state["step"]}
        if not state["step"]:
            where = {name: state["records"][-1][name] for name in ("epoch", "val_accuracy", "val_loss")}
        checkpoint = Checkpoint(
            model=self.model,
            classes=self.classes,
            preprocessing=self.preprocessing,
            provenance={
                "run": self.run.name,
                "data": asdict(self.config.data),
                "fingerprint": self.fingerprint,
                "seed": self.config.run.seed,
                "amp": self.config.run.amp,
                "amp_dtype": self.config.run.amp_dtype,
                "computed": self.computed,
                **where,
            },
            weights=merged({**self.backbone, **judged_weights(state)}),
        )
        save_checkpoint(self.run.checkpoint(name), checkpoint, makes_folder=False)


class NoSaver:
    """A saver that saves nothing, for all processes except the first one."""

    backbone: Mapping[str, Tensor] = MappingProxyType({})

    def save_epoch(self, state: State) -> None:
        """Do nothing."""

    def save_step(self, state: State) -> None:
        """Do nothing."""


def resume_command(run: Run, config: RunConfig) -> str:
    """Return the command that resumes a run, or its search; the name is enough if the run is in the usual folder."""
    if study := study_of(run.path):
        return continue_command(study)
    is_usual = config.output_dir == RunConfig().output_dir
    return f"vit train --resume {shlex.quote(run.name if is_usual else str(run.path))}"
