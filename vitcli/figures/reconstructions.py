"""A figure of images, what a model sees of them, and what it predicts of the rest."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitcli.core.preprocessing import Size
from vitcli.figures.canvas import new_figure, save_figure, set_title, show_pixels

_CELL = 1.1
"""Inches of the longer side of an image."""
_HIDDEN = 128
"""The grey of a hidden patch."""


def draw_reconstructions(
    images: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    hidden: NDArray[np.bool_],
    grid: Size,
    path: Path,
    *,
    title: str,
) -> None:
    """Draw a column per image: the image, the image with its hidden patches in grey, and with these as predicted.

    Args:
        images: the images, (B, C, H, W).
        predicted: the same with predicted patches, (B, C, H, W).
        hidden: True where a patch is hidden, (B, P).
        grid: the rows and columns of the patches.
        path: the PNG file.
        title: the title.
    """
    height, width = images.shape[2:]
    cells = np.repeat(np.repeat(hidden.reshape(-1, 1, *grid), height // grid[0], axis=2), width // grid[1], axis=3)
    rows = {"image": images, "seen": np.where(cells, np.uint8(_HIDDEN), images), "predicted": predicted}
    scale = _CELL / max(height, width)
    figure = new_figure(max(len(images) * (width * scale + 0.08) + 0.9, 4.5), 3 * (height * scale + 0.08) + 0.6)
    set_title(figure, title)
    axes = figure.subplots(3, len(images), squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for place, pixels in zip(line, pictures, strict=True):
            show_pixels(place, pixels)
        line[0].text(-0.08, 0.5, name, transform=line[0].transAxes, ha="right", va="center", fontsize=9)
    save_figure(figure, path)
