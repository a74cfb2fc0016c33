"""Progress as plain lines, for logs and pipes."""

import time

from rich.console import Console
from rich.markup import escape

from vitcli.cli.words import (
    TRIAL_HEADER,
    epoch_header,
    epoch_line,
    figures,
    pretraining_line,
    search_figures,
    trial_line,
)
from vitcli.core.errors import counted
from vitcli.core.events import (
    EpochRecord,
    Event,
    Note,
    PretrainingEpoch,
    PretrainingProgress,
    SearchProgress,
    TaskProgress,
    TrainingAhead,
    TrainingProgress,
    TrainingStarted,
    TrialEnded,
    Warned,
)
from vitcli.core.words import duration

_PLAIN_SECONDS = 60.0
"""Seconds between two lines about one task."""


class PlainListener:
    """A listener that prints events as plain lines."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.epochs = self.steps = 1
        self.keeps_best = True
        self._has_trials = False
        self._last: dict[str, float] = {}
        self._began, self._done_before = time.monotonic(), 0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case Note():
                self.console.print(f"[dim]{escape(event.text)}[/]")
            case Warned():
                self.console.print(f"[yellow]warning:[/] {escape(event.text)}")
            case TrainingAhead():
                work = f"{counted(event.epochs, 'epoch')} of {counted(event.images, 'image')}"
                runs = f"{event.runs} runs of " if event.runs > 1 else ""
                self.console.print(f"time: about {duration(event.runs * event.seconds)} for {runs}{work}")
            case TrainingStarted():
                self.epochs, self.steps, self.keeps_best = event.epochs, event.steps_per_epoch, event.keeps_best
                self._began, self._done_before = time.monotonic(), event.steps_done
                self.console.print(epoch_header(event.epochs, labelled=event.labelled))
            case EpochRecord() | PretrainingEpoch():
                self.show_epoch(event)
            case TaskProgress():
                self.show_task(event)
            case TrainingProgress() | PretrainingProgress():
                self.show_training(event)
            case SearchProgress():
                self.show_search(event)
            case TrialEnded():
                self.show_trial(event)

    def show_task(self, event: TaskProgress) -> None:
        """Print a line about a task from time to time."""
        if 0 < event.done < event.total and self._is_due(event.task):
            self.console.print(f"{event.task}: {event.done:,} of {event.total:,}")

    def show_training(self, event: TrainingProgress | PretrainingProgress) -> None:
        """Print a line about the current epoch from time to time; ``show_epoch`` prints every finished epoch."""
        if self._is_due("training"):
            eta = self._eta(event.epoch, event.step)
            where = f"epoch {event.epoch}/{self.epochs}, step {event.step}/{self.steps}"
            self.console.print(f"{where}: {figures(event)}{eta}")

    def show_search(self, event: SearchProgress) -> None:
        """Print a line about the current training of a search from time to time."""
        if self._is_due("search"):
            self.console.print(f"{event.task}, epoch {event.epoch}/{event.epochs}: {search_figures(event)}")

    def show_trial(self, event: TrialEnded) -> None:
        """Print the line of a trial that has ended, after the labels if it is the first one."""
        if not self._has_trials:
            self.console.print(TRIAL_HEADER)
        self._has_trials = True
        self._last["search"] = time.monotonic()
        self.console.print(trial_line(event, columns=self.console.width), soft_wrap=True)

    def show_epoch(self, record: EpochRecord | PretrainingEpoch) -> None:
        """Print a line for a finished epoch."""
        self._last["training"] = time.monotonic()
        self.console.print(self.epoch_line(record) + self._eta(record.epoch, self.steps))

    def epoch_line(self, record: EpochRecord | PretrainingEpoch) -> str:
        """Format a finished epoch for the width of the console."""
        if isinstance(record, PretrainingEpoch):
            return pretraining_line(record, self.epochs)
        mark = "best" * (record.is_best and self.keeps_best)
        return epoch_line(record, self.epochs, mark=mark, columns=self.console.width)

    def _eta(self, epoch: int, step: int) -> str:
        """Format the time left at the speed so far, including validation; empty if training is finished."""
        done = (epoch - 1) * self.steps + step
        left = self.epochs * self.steps - done
        seconds = (time.monotonic() - self._began) * left / max(done - self._done_before, 1)
        return f"  ETA {duration(seconds)}" if left else ""

    def _is_due(self, task: str) -> bool:
        """Tell whether it is time for another line about this task."""
        now = time.monotonic()
        if now - self._last.setdefault(task, now) < _PLAIN_SECONDS:
            return False
        self._last[task] = now
        return True
