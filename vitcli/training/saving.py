"""Write checkpoints, states and metrics while training continues."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
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


class RunSaver:
    """Keeps what the trainer hands over, in the run's directory.

    The training thread makes a copy and continues; another one writes it, one save at a time. What the disk refuses is
    raised by the next save, or by ``wait``; what was written before stays whole.

    Args:
        run: where it is kept.
        config: how the model is trained.
        model: what it is.
        facts: what it is trained on.
        preprocessing: how images become its input.
        computed: in what precision, and where.
        seconds: that the run has taken so far.
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
        """Weights that are not trained, and not handed over, but belong into every checkpoint."""
        self._began = time.perf_counter() - seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: Future[None] | None = None

    @property
    def seconds(self) -> float:
        """The time that the run has taken, before it was resumed included."""
        return time.perf_counter() - self._began

    def save_epoch(self, state: State) -> None:
        """After every epoch: ``last``, the state, and what follows from it."""
        self._in_background(self._write_epoch, state)

    def save_step(self, state: State) -> None:
        """In the middle of an epoch: ``last`` and the state."""
        self._in_background(self._write_step, state)

    def publish(self, state: State) -> None:
        """Write what follows from a state: ``best`` if it is, one of its own every ``save_every`` epochs, and the metrics.

        It comes after the state, and once more when a run is resumed that was killed in between.
        """
        records = state["records"]
        every = self.config.run.save_every
        with self._writing_to_disk():
            if records and not state["step"]:
                epoch = records[-1]["epoch"]
                if records[-1]["is_best"] and not self._has_better(records[-1]):
                    self._write("best", state)
                if every and epoch % every == 0:
                    self._write(epoch, state)
            self.run.save_metrics(records)

    def wait(self) -> None:
        """Until all is written.

        Raises:
            RunError: it could not be.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Let the write under way end, whatever becomes of it."""
        self._thread.shutdown()

    def _in_background(self, write: Callable[[State], None], state: State) -> None:
        self.wait()
        self._writing = self._thread.submit(write, copied({**state, "seconds": self.seconds}))

    def _write_epoch(self, state: State) -> None:
        self._write_step(state)
        self.publish(state)

    def _write_step(self, state: State) -> None:
        """``last`` first: it has the weights that are not trained, which a state lacks."""
        with self._writing_to_disk():
            self._write("last", state)
            path, before = self.run.states
            save_state(path, state, before=before)

    def _writing_to_disk(self) -> AbstractContextManager[None]:
        then = f"then `{resume_command(self.run, self.config.run)}` continues the run"
        return writing_in(self.run.path, fault=RunError, what_then=then)

    def _has_better(self, record: Mapping[str, Any]) -> bool:
        """Tell whether the best checkpoint is at least as good, as it is where a run went back to an earlier state."""
        try:
            kept = load_checkpoint(self.run.best_checkpoint).provenance
            return bool((kept["val_accuracy"], -kept["val_loss"]) >= (record["val_accuracy"], -record["val_loss"]))
        except (ModelError, KeyError):
            return False

    def _write(self, name: str | int, state: State) -> None:
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
        save_checkpoint(self.run.checkpoint(name), checkpoint)


class NoSaver:
    """A saver that keeps nothing: of several processes that train together, only the first one saves."""

    backbone: Mapping[str, Tensor] = MappingProxyType({})

    def save_epoch(self, state: State) -> None:
        """Nothing."""

    def save_step(self, state: State) -> None:
        """Nothing."""


def resume_command(run: Run, config: RunConfig) -> str:
    """Return the command that resumes a run; its name is enough where runs usually are."""
    is_usual = config.output_dir == RunConfig().output_dir
    return f"vit train --resume {run.name if is_usual else run.path}"
