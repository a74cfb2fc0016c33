"""A figure of the reliability of probabilities: accuracy by confidence, and by coverage."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitcli.figures.canvas import new_figure, place, save_figure, set_title


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
    figure = new_figure(10, 4.4, has_layout=False)
    set_title(figure, title)
    accuracy = place(figure.add_subplot(), 0.95, 1.6, 3.85, 2.3)
    numbers = place(figure.add_subplot(), 0.95, 0.5, 3.85, 0.7)
    answered = place(figure.add_subplot(), 5.95, 0.5, 3.85, 3.4)
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
