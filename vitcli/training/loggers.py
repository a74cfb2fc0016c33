"""Loggers that write the progress of a training as curves: TensorBoard, and Weights & Biases.

A logger listens to events, as the command line does; an error in a logger never ends a training. The x axis counts
steps over all epochs: the point of a step is at its number, counted from 0, and the point of an epoch at the number of
steps done by its end. So a resumed run logs again only points at or after the number of steps done so far.
"""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, Protocol

from vitcli.core.addresses import without_secrets
from vitcli.core.config import RunConfig, TrainConfig
from vitcli.core.config_files import settings_of
from vitcli.core.errors import InstallError, VitError
from vitcli.core.events import Emit, EpochRecord, Event, Note, TrainingProgress, TrainingStarted, Warned
from vitcli.core.files import flat
from vitcli.core.runs import Run

_PROJECT = "vit"


class Logger(Protocol):
    """A destination for the points of curves."""

    def log(self, values: Mapping[str, float], *, at: int) -> None:
        """Log one point for each of several curves."""

    def close(self, *, failed: bool) -> None:
        """Finish logging; ``failed`` tells whether training ended with an error."""


def require_loggers(config: RunConfig) -> None:
    """Check that the requested loggers can be used, before anything is written.

    Raises:
        InstallError: a package is not installed, or the user is not logged in.
    """
    for name in _LOGGERS:
        if getattr(config, name) and find_spec(name) is None:
            raise InstallError(f"--{name} needs {name}, which is not installed", hint=f"uv pip install {name}")
    if config.wandb:
        import wandb

        if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False, verify=False):
            raise InstallError("--wandb: you are not logged in to W&B", hint="`wandb login`, or WANDB_MODE=offline")


def mind_useless_steps(config: RunConfig, emit: Emit) -> None:
    """Warn if ``log_steps`` is set without any logger."""
    if config.log_steps != RunConfig().log_steps and not any(getattr(config, name) for name in _LOGGERS):
        flags = " or ".join(f"--{name}" for name in _LOGGERS)
        emit(Warned(text=f"without {flags} no curves are logged, so --log-steps changes nothing"))


@contextmanager
def logged(run: Run, config: TrainConfig, emit: Emit) -> Iterator[Emit]:
    """Yield an ``emit`` that also passes events to the loggers of the configuration while the block runs."""
    listeners = [_Listener(name, run, config, emit) for name in _LOGGERS if getattr(config.run, name)]

    def pass_on(event: Event) -> None:
        for listener in listeners:
            listener(event)
        emit(event)

    failed = True
    try:
        yield pass_on
        failed = False
    finally:
        for listener in listeners:
            listener.close(failed=failed)


class _Listener:
    """A listener that turns events into points for one logger, until that logger fails."""

    def __init__(self, name: str, run: Run, config: TrainConfig, emit: Emit) -> None:
        self.name = name
        self.run = run
        self.config = config
        self.emit = emit
        self._logger: Logger | None = None
        self._steps, self._done = 1, 0
        """The steps per epoch; the steps over all epochs whose points are already logged."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, TrainingStarted):
            self._steps, self._done = event.steps_per_epoch, event.steps_done
            with self._without_fault():
                self._logger = _LOGGERS[self.name](self.run, self.config, event.steps_done, self.emit)
                for record in self.run.metrics.get("epochs", ())[-1:]:
                    if record["epoch"] * self._steps == event.steps_done:  # the epoch was saved, but perhaps not logged
                        self._log_epoch(record)
        elif isinstance(event, TrainingProgress):
            with self._without_fault():
                self._log_step(event)
        elif isinstance(event, EpochRecord):
            with self._without_fault():
                self._log_epoch(asdict(event))

    def close(self, *, failed: bool) -> None:
        if self._logger:
            with self._without_fault():
                self._logger.close(failed=failed)

    def _log_step(self, event: TrainingProgress) -> None:
        done = (event.epoch - 1) * self._steps + event.step
        if self._logger and done > self._done and done % self.config.run.log_steps == 0:
            self._done = done
            names = {"loss": "step_loss", "learning_rate": "learning_rate", "images_per_second": "images_per_second"}
            self._logger.log({f"step/{name}": getattr(event, field) for name, field in names.items()}, at=done - 1)

    def _log_epoch(self, record: Mapping[str, Any]) -> None:
        if self._logger:
            known = {name: value for name, value in flat(record).items() if name != "is_best" and value is not None}
            self._logger.log(
                {f"epoch/{name}": value for name, value in known.items()}, at=record["epoch"] * self._steps
            )

    @contextmanager
    def _without_fault(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - libraries, disks and networks fail in many ways
            self._logger = None
            reason = error.message if isinstance(error, VitError) else error
            self.emit(Warned(text=f"--{self.name} has failed, and training continues without it: {reason}"))


class _TensorBoard:
    """A logger that writes event files in the run's folder; ``tensorboard --logdir experiments`` shows all runs."""

    def __init__(self, run: Run, config: TrainConfig, start: int, _emit: Emit) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run.tensorboard_dir), purge_step=start)
        settings = json.dumps(settings_of(config), indent=2)
        self._writer.add_text("settings", "".join(f"    {line}\n" for line in settings.splitlines()), start)

    def log(self, values: Mapping[str, float], *, at: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, at)
        self._writer.flush()  # if the process is killed, points up to the saved training state must not be lost

    def close(self, *, failed: bool) -> None:  # noqa: ARG002 - the run's own files have the status
        self._writer.close()


class _Wandb:
    """A logger to the W&B project ``vit``, online or in files; a resumed run continues the same W&B run."""

    def __init__(self, run: Run, config: TrainConfig, _start: int, emit: Emit) -> None:
        import wandb

        identity = run.info.get("wandb") or secrets.token_hex(4)
        run.note(wandb=identity)
        folder, _, fold = run.name.partition("/")
        self._run = wandb.init(
            project=_PROJECT,
            id=identity,
            name=run.name,
            group=folder if fold else None,
            config=without_secrets(settings_of(config)),
            dir=str(run.path),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", save_code=False),
        )
        if not self._run.offline:
            emit(Note(text=f"W&B: {self._run.url}"))

    def log(self, values: Mapping[str, float], *, at: int) -> None:
        self._run.log(dict(values), step=at)  # W&B ignores a step that it already has

    def close(self, *, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


_LOGGERS: dict[str, Callable[[Run, TrainConfig, int, Emit], Logger]] = {"tensorboard": _TensorBoard, "wandb": _Wandb}
"""Loggers by name, which is the name of their setting and of their package."""
