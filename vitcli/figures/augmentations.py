"""A figure of stored images beside the augmented images that training sees."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import transforms
from numpy.typing import NDArray

from vitcli.core.short_names import distinct_once
from vitcli.figures.canvas import fitted, new_figure, save_figure, set_title, show_pixels

_CELL = 1.35
"""Inches of the longer side of an image."""
_GAP = 0.12
"""Inches between the stored image and its augmented versions."""
_NAME_LINES = 3
_NAME_WIDTH = 14


def draw_augmentations(
    stored: Sequence[NDArray[np.uint8]],
    views: NDArray[np.uint8],
    names: Sequence[str],
    path: Path,
    *,
    title: str,
    notes: Sequence[str] = (),
) -> None:
    """Draw a row per image: the stored image, then several augmented versions as training sees them.

    Args:
        stored: the R stored images, each (C, h, w).
        views: the augmented versions of each image, (R, V, C, H, W).
        names: the class of each image.
        path: the PNG file.
        title: the title above all rows.
        notes: lines below the title, for example the augmentations that are used.
    """
    rows, columns = views.shape[:2]
    aspects = [max(image.shape[2] / image.shape[1] for image in stored), views.shape[-1] / views.shape[-2]]
    height = _CELL / max(1.0, *aspects)
    widths = [height * max(aspect, 0.3) for aspect in (aspects[0], *[aspects[1]] * columns)]
    widths.insert(1, _GAP)
    margin = 1.1
    figure = new_figure(max(sum(widths) + 0.08 * columns + margin, 6.5), rows * (height + 0.08) + 1.0)
    set_title(figure, title, *notes)
    grid = figure.subplots(rows, columns + 2, squeeze=False, width_ratios=widths)
    shown = distinct_once(names, _NAME_LINES * _NAME_WIDTH * 3 // 4)  # lines end where words do
    for (first, gap, *others), image, changed, name in zip(grid, stored, views, shown, strict=True):
        gap.set_axis_off()
        show_pixels(first, image)
        for axes, pixels in zip(others, changed, strict=True):
            show_pixels(axes, pixels)
        beside = first.transAxes + transforms.ScaledTranslation(-0.08, 0, figure.dpi_scale_trans)
        words = fitted(name, _NAME_WIDTH, lines=_NAME_LINES)
        first.text(0, 0.5, words, transform=beside, ha="right", va="center", fontsize=8)
    grid[0][0].set_title("as stored", fontsize=9)
    grid[0][2 + columns // 2].set_title("as training sees it", fontsize=9)
    save_figure(figure, path)
