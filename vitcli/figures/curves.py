"""Loss and accuracy over the epochs of a run, or of several runs."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vitcli.core.events import EpochRecord, PretrainingEpoch
from vitcli.figures.canvas import literal, new_figure, place, save_figure, set_title

_STEPS = (1, 2, 2.5, 5, 10)
"""Distances of the ticks of axes, times a power of 10, as matplotlib chooses them by itself."""


def draw_curves(
    records: Sequence[EpochRecord], path: Path, *, title: str, note: str = "", keeps_last: bool = False
) -> None:
    """Draw a panel of losses and one of accuracies, training and validation in each; the epoch that is kept is marked.

    Args:
        records: the epochs.
        path: the file to write.
        title: the title of the figure.
        note: a line below the panels.
        keeps_last: whether the last epoch is kept, not the best one.
    """
    figure = new_figure(10, 4.3, has_layout=False)
    set_title(figure, title)
    losses, accuracies = (place(figure.add_subplot(), left, 0.7, 3.85, 2.8) for left in (0.95, 5.95))
    epochs = [record.epoch for record in records]
    best = next(record for record in reversed(records) if record.is_best)
    marker = "o" if len(records) == 1 else None
    losses.plot(epochs, [record.train_loss for record in records], marker=marker, label="training")
    losses.plot(epochs, [record.val_loss for record in records], marker=marker, label="validation")
    accuracies.plot(epochs, [100 * record.train_accuracy for record in records], marker=marker, label="training")
    accuracies.plot(epochs, [100 * record.val_accuracy for record in records], marker=marker, label="validation")
    for name, words in {"plain": "unaveraged", "average": "averaged"}.items():  # scored besides the kept weights
        beside = [getattr(record, f"{name}_val_loss") for record in records]
        shares = [getattr(record, f"{name}_val_accuracy") for record in records]
        if any(loss not in {None, record.val_loss} for loss, record in zip(beside, records, strict=True)):
            style: dict[str, Any] = {
                "marker": marker,
                "linewidth": 1,
                "linestyle": "--",
                "label": f"validation, {words} weights",
            }
            losses.plot(epochs, beside, **style)
            accuracies.plot(epochs, [nan if share is None else 100 * share for share in shares], **style)
    losses.set(xlabel="epoch", ylabel="loss (nats)")
    accuracies.set(xlabel="epoch", ylabel="accuracy (%)")
    accuracies.plot(
        best.epoch,
        100 * best.val_accuracy,
        "k*",
        markersize=16,
        markerfacecolor="none",  # the point of a single epoch is inside
        label=f"{'kept' if keeps_last else 'best'}: {100 * best.val_accuracy:.2f} % in epoch {best.epoch}",
    )
    for axes in (losses, accuracies):
        _finish(axes)
    lines, labels = accuracies.get_legend_handles_labels()
    style = {"ncols": len(lines), "fontsize": "small", "frameon": False}
    figure.legend(lines, labels, loc="center", bbox_to_anchor=(0.5, 0.86), **style)  # between title and panels
    if note:
        figure.supxlabel(literal(note), fontsize="small", y=0.02)
    save_figure(figure, path)


def draw_compared_curves(runs: Mapping[str, Sequence[Sequence[EpochRecord]]], path: Path) -> None:
    """Draw the losses and the validation accuracies of several runs, each in a colour of its own.

    Args:
        runs: for each name, the epochs of one run, or of every run of a cross-validation.
        path: the file to write.
    """
    figure = new_figure(11, 4)
    losses, accuracies = figure.subplots(1, 2)
    for number, (name, curves) in enumerate(runs.items()):
        style: dict[str, Any] = {"color": f"C{number % 10}", "alpha": 1 if len(curves) == 1 else 0.6}
        for at, records in enumerate(curves):
            epochs = [record.epoch for record in records]
            style |= {"marker": "o" if len(records) == 1 else None}
            losses.plot(epochs, [record.val_loss for record in records], **style)
            shares = [100 * record.val_accuracy for record in records]
            shown = f" {name}" if name.startswith("_") else name  # matplotlib leaves out labels that begin with "_"
            accuracies.plot(epochs, shares, label="" if at else literal(shown), **style)
            losses.plot(epochs, [record.train_loss for record in records], linewidth=1, linestyle=":", **style)
    losses.set(xlabel="epoch", ylabel="loss (nats)", title="validation and training (dotted)")
    accuracies.set(xlabel="epoch", ylabel="accuracy (%)", title="validation")
    for axes in (losses, accuracies):
        _finish(axes)
    lines, labels = accuracies.get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=min(len(runs), 4))
    save_figure(figure, path)


def draw_pretraining_curves(records: Sequence[PretrainingEpoch], path: Path, *, title: str) -> None:
    """Draw the losses of a pretraining: of the images that it is trained on, and of those that are held out."""
    figure = new_figure(6, 4)
    set_title(figure, title)
    axes = figure.add_subplot()
    epochs = [record.epoch for record in records]
    marker = "o" if len(records) == 1 else None
    axes.plot(epochs, [record.train_loss for record in records], marker=marker, label="training")
    axes.plot(epochs, [record.val_loss for record in records], marker=marker, label="held-out images")
    axes.set(xlabel="epoch", ylabel="squared error of hidden pixels\n(1: the mean of the patch)")
    axes.legend(frameon=False)
    _finish(axes)
    save_figure(figure, path)


def _finish(axes: Axes) -> None:
    """Draw the grid, and ticks at whole epochs."""
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=_STEPS, integer=True, min_n_ticks=1))
