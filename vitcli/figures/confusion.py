"""Confusion matrices."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitcli.core.short_names import distinct
from vitcli.figures.canvas import TITLE_HEIGHT, fitted, label_width, new_figure, place, save_figure, set_title

_MOST_NUMBERS = 25
"""The largest number of classes for which cells show numbers."""
_MOST_CELLS = 500
"""The largest number of rows and columns."""
_MOST_NAMES = 60
"""The largest number of classes of which all are named; with more classes, every nth is named."""
_NAME_WIDTH = 32
_LINE_WIDTH = 20
"""Characters of a line, if names have room for several lines."""
_LEAST_ROOM, _LABEL, _BAR = 0.15, 0.5, 1.3
"""Inches of the names at least, of the label beside them, and of the bar of colours with its label."""


def draw_confusion(
    confusion: Sequence[tuple[int, int, int]], classes: Sequence[str], path: Path, *, title: str
) -> None:
    """Draw true classes in rows and predicted classes in columns; the colour shows the share of the row.

    Args:
        confusion: true class, predicted class and number of images, without zeros.
        classes: the names of the classes; with more than ``_MOST_CELLS``, neighbours share a cell.
        path: the PNG file.
        title: the title.
    """
    shared = math.ceil(len(classes) / _MOST_CELLS)
    cells = math.ceil(len(classes) / shared)
    counts = np.zeros((cells, cells), dtype=np.int64)
    for true, predicted, number in confusion:
        counts[true // shared, predicted // shared] += number
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(3.2, 0.5 * len(classes)), 12)
    figure = new_figure(side, side, has_layout=False)
    axes = figure.add_subplot()
    edges = (-0.5, shared * cells - 0.5)
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100, extent=(*edges, *edges[::-1]))
    axes.set(xlabel="predicted class", ylabel="true class")
    is_roomy = len(classes) <= _MOST_NUMBERS
    named = range(0, len(classes), math.ceil(len(classes) / _MOST_NAMES))
    shown = distinct([classes[at] for at in named], _NAME_WIDTH)
    labels = [fitted(name, _LINE_WIDTH if is_roomy else _NAME_WIDTH, lines=3) for name in shown]
    axes.set_xticks(named, labels, rotation=90 if max(map(len, labels)) > 2 else 0, fontsize=8)
    axes.set_yticks(named, labels, fontsize=8)
    if is_roomy:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=8)
    room = max(label_width(axes.yaxis), _LEAST_ROOM)  # names do not make the matrix smaller
    start = room + _LABEL
    figure.set_size_inches(start + side + _BAR, start + side + TITLE_HEIGHT)
    place(axes, start, start, side, side)
    bar = place(figure.add_subplot(), start + side + 0.2, start + 0.1 * side, 0.2, 0.8 * side)
    figure.colorbar(image, cax=bar, label="share of the true class (%)")
    set_title(figure, title)
    save_figure(figure, path)
