"""Progress bars, for terminals."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from vitcli.cli.console import PlainListener, figures
from vitcli.core.events import Emit, Event, TaskProgress, TrainingProgress


@contextmanager
def live_listener(console: Console) -> Iterator[Emit]:
    """A listener that draws a bar while the block runs, and takes it away at its end."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with progress:
        yield LiveListener(console, progress)


class LiveListener(PlainListener):
    """The same lines above a progress bar."""

    def __init__(self, console: Console, progress: Progress) -> None:
        super().__init__(console)
        self.progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._show("loading torch", 0, None, task="loading torch")  # seconds pass before the first event

    def __call__(self, event: Event) -> None:
        """Show one event; the first one says that loading is over."""
        loading = self._tasks.pop("loading torch", None)
        if loading is not None:
            self.progress.remove_task(loading)
        super().__call__(event)

    def show_training(self, event: TrainingProgress) -> None:
        """One bar, and one ETA, for all epochs."""
        done = (event.epoch - 1) * self.steps + event.step
        self._show(f"epoch {event.epoch}/{self.epochs}", done, self.epochs * self.steps, figures(event))

    def show_task(self, event: TaskProgress) -> None:
        """A bar until the task is done."""
        self._show(event.task, event.done, event.total, task=event.task)
        if event.done == event.total:
            self.progress.remove_task(self._tasks.pop(event.task))

    def _show(self, text: str, done: int, total: int | None, figures: str = "", *, task: str = "training") -> None:
        if task not in self._tasks:
            self._tasks[task] = self.progress.add_task(text, total=total, figures=figures)
        self.progress.update(self._tasks[task], description=escape(text), completed=done, figures=figures)
