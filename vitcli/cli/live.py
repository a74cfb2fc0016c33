"""Progress bars, for terminals."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

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
from vitcli.cli.words import figures, search_figures
from vitcli.core.errors import visible
from vitcli.core.events import (
    Emit,
    EpochRecord,
    Event,
    PretrainingEpoch,
    PretrainingProgress,
    SearchProgress,
    TaskProgress,
    TrainingProgress,
    TrainingStarted,
)


@contextmanager
def live_listener(console: Console) -> Iterator[Emit]:
    """Yield a listener that draws progress bars while the block runs, and removes them at its end."""
    progress = Progress(*columns(console), console=console, transient=True)
    with progress:
        yield LiveListener(console, progress)


_WIDE, _MEDIUM = 100, 80
"""Columns of a terminal from which on the line of training has the speed; the step and the bar."""
_PARTS = 10_000
"""Parts of the bar of a search."""


def columns(console: Console) -> list[ProgressColumn]:
    """Return the columns: description, bar, count (of training: its step), figures, ETA; a narrow terminal gets fewer."""
    text = TextColumn("{task.fields[figures]}"), TextColumn("ETA"), TimeRemainingColumn()
    return [
        TextColumn("{task.description}"),
        _Counted(BarColumn(bar_width=12), console, least=_MEDIUM),
        _Counted(MofNCompleteColumn(), console, least=inf),
        *(_Counted(column, console) for column in text),
    ]


class _Counted(ProgressColumn):
    """A column that is empty for tasks without a total, and for tasks with figures if the terminal is too narrow."""

    def __init__(self, column: ProgressColumn, console: Console, *, least: float = 0) -> None:
        super().__init__()
        self.column, self.console, self.least = column, console, least

    def render(self, task: Task) -> RenderableType:
        is_dropped = task.total is None or (task.fields["figures"] and self.console.width < self.least)
        return Text() if is_dropped else self.column(task)


class LiveListener(PlainListener):
    """A listener that prints events as plain lines above progress bars."""

    def __init__(self, console: Console, progress: Progress) -> None:
        super().__init__(console)
        self.progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._show("loading torch", 0, None, task="loading torch")  # seconds pass before the first event

    def __call__(self, event: Event) -> None:
        """Show one event; the first event ends the bar of loading, and each start of training gets a new bar."""
        self._remove("loading torch")
        if isinstance(event, TrainingStarted):
            self._remove("training")
        super().__call__(event)

    def show_training(self, event: TrainingProgress | PretrainingProgress) -> None:
        """Update the bar of training, which has one ETA for all epochs."""
        done = (event.epoch - 1) * self.steps + event.step
        numbers = figures(event, speed=self.console.width >= _WIDE)
        step = f" step {event.step}/{self.steps}" * (self.console.width >= _MEDIUM)
        where = f"epoch {event.epoch}/{self.epochs}{step}"
        self._show(where, done, self.epochs * self.steps, numbers)

    def show_epoch(self, record: EpochRecord | PretrainingEpoch) -> None:
        """Print a line for a finished epoch, without an ETA because the bar shows it."""
        self.console.print(self.epoch_line(record))

    def show_search(self, event: SearchProgress) -> None:
        """Update the bar of a search, whose ETA is that of the trials or of the finals."""
        kind = event.task.partition(" ")[0]
        for other in {"trial", "final"} - {kind}:
            self._remove(other)
        where = f"{event.task}  epoch {event.epoch}/{event.epochs}"
        self._show(where, round(_PARTS * event.share), _PARTS, search_figures(event), task=kind)

    def show_task(self, event: TaskProgress) -> None:
        """Show a bar until the task is done."""
        self._show(event.task, event.done, event.total, task=event.task)
        if event.done == event.total:
            self._remove(event.task)

    def _show(self, text: str, done: int, total: int | None, figures: str = "", *, task: str = "training") -> None:
        if task not in self._tasks:
            # The initial count, as of a resumed download, must not count towards the speed.
            self._tasks[task] = self.progress.add_task(
                escape(visible(text)), total=total, completed=done, figures=figures
            )
        self.progress.update(self._tasks[task], description=escape(visible(text)), completed=done, figures=figures)

    def _remove(self, task: str) -> None:
        if task in self._tasks:
            self.progress.remove_task(self._tasks.pop(task))
