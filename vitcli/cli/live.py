"""Progress bars, for terminals."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vitcli.cli.progress import PlainListener
from vitcli.cli.words import epoch_line, figures
from vitcli.core.events import Emit, EpochRecord, Event, TaskProgress, TrainingProgress, TrainingStarted


@contextmanager
def live_listener(console: Console) -> Iterator[Emit]:
    """A listener that draws a bar while the block runs, and takes it away at its end."""
    counted = BarColumn(bar_width=12), MofNCompleteColumn(), TextColumn("{task.fields[figures]}")
    columns = map(_Counted, (*counted, TextColumn("ETA"), TimeRemainingColumn()))
    progress = Progress(TextColumn("{task.description}"), *columns, console=console, transient=True)
    with progress:
        yield LiveListener(console, progress)


class _Counted(ProgressColumn):
    """A column that is empty for what cannot be counted."""

    def __init__(self, column: ProgressColumn) -> None:
        super().__init__()
        self.column = column

    def render(self, task: Task) -> RenderableType:
        return Text() if task.total is None else self.column(task)


class LiveListener(PlainListener):
    """The same lines above a progress bar."""

    def __init__(self, console: Console, progress: Progress) -> None:
        super().__init__(console)
        self.progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._show("loading torch", 0, None, task="loading torch")  # seconds pass before the first event

    def __call__(self, event: Event) -> None:
        """Show one event; the first one says that loading is over, and training that starts has a bar of its own."""
        self._remove("loading torch")
        if isinstance(event, TrainingStarted):
            self._remove("training")
        super().__call__(event)

    def show_training(self, event: TrainingProgress) -> None:
        """One bar, and one ETA, for all epochs."""
        done = (event.epoch - 1) * self.steps + event.step
        self._show(f"epoch {event.epoch}/{self.epochs}", done, self.epochs * self.steps, figures(event))

    def show_epoch(self, record: EpochRecord) -> None:
        """The line of an epoch; the bar has the ETA."""
        self.console.print(epoch_line(record, self.epochs))

    def show_task(self, event: TaskProgress) -> None:
        """A bar until the task is done."""
        self._show(event.task, event.done, event.total, task=event.task)
        if event.done == event.total:
            self._remove(event.task)

    def _show(self, text: str, done: int, total: int | None, figures: str = "", *, task: str = "training") -> None:
        if task not in self._tasks:
            # What was done before, as of a transfer that is resumed, says nothing of the speed.
            self._tasks[task] = self.progress.add_task(text, total=total, completed=done, figures=figures)
        self.progress.update(self._tasks[task], description=escape(text), completed=done, figures=figures)

    def _remove(self, task: str) -> None:
        if task in self._tasks:
            self.progress.remove_task(self._tasks.pop(task))
