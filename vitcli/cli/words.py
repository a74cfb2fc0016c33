"""Formatting of the progress of a training for people."""

from rich.markup import escape

from vitcli.cli.wrapping import APART, wrapped
from vitcli.core.events import (
    EpochRecord,
    PretrainingEpoch,
    PretrainingProgress,
    SearchProgress,
    TrainingProgress,
    TrialEnded,
)
from vitcli.core.words import percent, percent_or_none


def figures(event: TrainingProgress | PretrainingProgress, *, speed: bool = True) -> str:
    """Format the loss, accuracy and speed of a progress event."""
    text = f"loss {event.loss:.3f}"
    text += f"  accuracy {percent(event.accuracy)}" if isinstance(event, TrainingProgress) else ""
    return f"{text}  {event.images_per_second:,.0f} images/s" if speed else text


def epoch_header(epochs: int, *, labelled: bool = True) -> str:
    """Return the labels above the lines of ``epoch_line``, or if nothing is labelled, of ``pretraining_line``."""
    width = max(2 * len(str(epochs)) + 1, len("epoch"))
    if not labelled:
        return f"{'epoch':>{width}}  {'loss':>7}  {'held out':>8}"
    columns = f"  {'loss':>7} {'accuracy':>9}"
    return f"{'':{width}}  {'training':>17}  {'validation':>17}\n{'epoch':>{width}}{columns}{columns}"


def epoch_line(record: EpochRecord, epochs: int, *, mark: str = "", columns: int = 80) -> str:
    """Format an epoch: losses, accuracies, and if there is room, the speed or the accuracy of the other weights.

    If an average of the weights is validated too, the better of both is kept; the other one is named.

    Args:
        record: the epoch.
        epochs: the number of all epochs.
        mark: ``best``; ``kept``: it has the best accuracy so far again, at a lower loss; empty: neither.
        columns: the width of the terminal; the line is not longer, if this is 54 or more.
    """
    width = len(str(epochs))
    best = f"  [bold green]{mark}[/]" if mark else ""
    beside = f"{record.images_per_second:,.0f} images/s"
    if record.plain_val_accuracy is not None and record.average_val_accuracy is not None:
        average_is_kept = (record.val_loss, record.val_accuracy) == (
            record.average_val_loss,
            record.average_val_accuracy,
        )
        kind, other = (
            ("unaveraged", record.plain_val_accuracy) if average_is_kept else ("averaged", record.average_val_accuracy)
        )
        beside = f"{kind} weights {percent(other)}"
    numbers = (
        f"{f'{record.epoch:{width}}/{epochs}':>5}"
        f"  {record.train_loss:7.4f} {percent(record.train_accuracy):>9}"
        f"  {record.val_loss:7.4f} {percent(record.val_accuracy):>9}"
    )
    has_room = len(numbers) + 2 + len(beside) + len("  best") <= columns
    return f"{numbers}  {beside}{best}" if has_room else f"{numbers}{best}"


def pretraining_line(record: PretrainingEpoch, epochs: int) -> str:
    """Format an epoch of pretraining: the losses of training and held-out images, and the speed."""
    numbers = f"{f'{record.epoch:{len(str(epochs))}}/{epochs}':>5}  {record.train_loss:7.4f}  {record.val_loss:8.4f}"
    return f"{numbers}  {record.images_per_second:,.0f} images/s"


TRIAL_HEADER = "trial   accuracy   epochs  settings"
"""The labels above the lines of ``trial_line``."""
_SETTINGS_AT = TRIAL_HEADER.index("settings")
_LEAST_COLUMNS = 20
"""The least width of the settings of a trial; in a narrower terminal, the terminal breaks the line."""


def trial_line(event: TrialEnded, *, columns: int) -> str:
    """Format a trial that has ended: number, validation accuracy, epochs, and settings in as many lines as they need."""
    epochs = f"{event.epoch}/{event.epochs}"
    numbers = f"{event.number:>5}  {percent_or_none(event.val_accuracy):>9}  {epochs:>7}"
    values = (f"{name.partition('.')[2]} {plain_value(value)}" for name, value in event.settings.items())
    text = APART.join(filter(None, [event.outcome, *values])) if event.settings else "the default"
    first, *others = wrapped(text, max(columns - _SETTINGS_AT, _LEAST_COLUMNS)).split("\n")
    style = "[bold green]{}[/]" if event.is_best else "{}"
    lines = [f"{numbers}  {first}", *(" " * _SETTINGS_AT + line for line in others)]
    return "\n".join(style.format(escape(line)) for line in lines)


def search_figures(event: SearchProgress) -> str:
    """Format the used share of the budget, and the best accuracy so far."""
    best = "" if event.best is None else f"  best {percent(event.best)}"
    return f"{100 * event.share:.0f} %{best}"


def plain_value(value: object) -> str:
    """Format the value of a searched setting."""
    return f"{value:g}" if isinstance(value, float) else str(value)
