"""A figure of images of a data set with the names of their classes."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from vitcli.core.short_names import distinct_once
from vitcli.figures.canvas import fitted, new_figure, save_figure, set_title, show_pixels

_CELL = 2.1
"""The longer side of most images in inches."""
_NAME_LINES = 2
_CHARACTERS = 12
"""Characters of a name that fit into an inch."""


def draw_samples(
    images: Sequence[NDArray[np.uint8]], names: Sequence[str], path: Path, *, title: str, columns: int
) -> None:
    """Draw a grid of images, each below the name of its class.

    Args:
        images: the images, (C, H, W) each, of any size.
        names: the class name of each image.
        path: the PNG file.
        title: the title above all images.
        columns: the number of columns; the last row may be shorter.
    """
    aspect = min(max(median(image.shape[2] / image.shape[1] for image in images), 0.5), 2.0)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    width = _CELL * min(aspect, 1.0) + 0.2
    characters = int(_CHARACTERS * max(width, _least_width(columns)))
    short = distinct_once(names, max(_NAME_LINES * characters * 3 // 4, 8))  # lines end where words do
    shown = [fitted(name, characters, lines=_NAME_LINES) for name in short]
    height = _CELL / max(aspect, 1.0) + 0.2 + 0.16 * max(name.count("\n") + 1 for name in shown)
    figure = new_figure(columns * max(width, _least_width(columns)), rows * height + 0.5)
    set_title(figure, title)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.set_axis_off()
    for axes, image, name in zip(grid, images, shown, strict=False):
        show_pixels(axes, image)
        axes.set_title(name, fontsize=9, pad=3)
    save_figure(figure, path)


def _least_width(columns: int) -> float:
    """Return the least width of a column in inches that leaves room for the title."""
    return 4.5 / columns
