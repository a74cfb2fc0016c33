"""Confusion matrices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitcli.figures.canvas import literal, new_figure, save_figure

_MOST_NUMBERS = 25
"""Classes up to which cells carry numbers."""
_MOST_NAMES = 60
"""Classes up to which all of them are named."""


def draw_confusion(confusion: Sequence[Sequence[int]], classes: Sequence[str], path: Path, *, title: str) -> None:
    """True classes in rows, predicted ones in columns; colour is the share of the row."""
    counts = np.asarray(confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(4.5, 0.5 * len(classes) + 1.5), 14)
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    image = axes.imshow(100 * shares, cmap="Blues", vmin=0, vmax=100)
    axes.set(title=literal(title), xlabel="predicted class", ylabel="true class")
    if len(classes) <= _MOST_NAMES:
        names = [literal(name) for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=90 if max(map(len, classes)) > 2 else 0)
        axes.set_yticks(range(len(classes)), names)
    if len(classes) <= _MOST_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, label="share of the true class (%)", shrink=0.8)
    save_figure(figure, path)
