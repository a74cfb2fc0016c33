"""A figure of the reliability of probabilities: accuracy by confidence, and by coverage."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitcli.figures.canvas import new_figure, save_figure, set_title


def draw_reliability(
    bins: Sequence[tuple[int, float, float]],
    coverage: tuple[NDArray[np.float64], NDArray[np.float64]],
    path: Path,
    *,
    title: str,
) -> None:
    """Draw accuracy by confidence, the number of images below it, and accuracy by coverage.

    Args:
        bins: images, mean confidence (0..1) and accuracy (0..1) of each bin, by rising confidence.
        coverage: the share of images that are answered, the surest first, and the accuracy of these, 0..1, (N,) each.
        path: the PNG file.
        title: the title.
    """
    figure = new_figure(10, 4.4)
    set_title(figure, title)
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 1))
    accuracy, numbers, answered = (figure.add_subplot(grid[at]) for at in ((0, 0), (1, 0), (slice(None), 1)))
    images, confidence, right = (np.array(column) for column in zip(*bins, strict=True))
    accuracy.plot((0, 100), (0, 100), color="grey", linestyle="--", label="perfect calibration")
    accuracy.plot(100 * confidence, 100 * right, marker="o", label="this model")
    accuracy.set(ylabel="accuracy (%)", xlim=(0, 100), ylim=(0, 103))
    accuracy.legend()
    numbers.bar(100 * confidence, images, width=4)
    numbers.set(xlabel="probability of the predicted class (%)", ylabel="images", xlim=(0, 100))
    shares, reached = coverage
    answered.plot(100 * shares, 100 * reached)
    answered.set(xlabel="images that are answered, the surest first (%)", ylabel="accuracy of these (%)", xlim=(0, 100))
    for axes in (accuracy, answered):
        axes.grid(alpha=0.3)
    save_figure(figure, path)
