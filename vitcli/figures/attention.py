"""Attention maps over the pixels that the model saw."""

from pathlib import Path

import numpy as np
from matplotlib.colors import Normalize
from numpy.typing import NDArray
from PIL import Image

from vitcli.figures.canvas import literal, new_figure, save_figure

_LEAST_SIDE = 448
"""Smaller images are enlarged to this many pixels, so that an 8 x 8 digit can be read."""
_ALPHA = 0.55
_COLOURS = "inferno"


def draw_attention(
    pixels: NDArray[np.uint8], weights: NDArray[np.float32], path: Path, *, title: str, label: str
) -> None:
    """Image | overlay | colour bar.

    Args:
        pixels: what the model saw, (C, H, W).
        weights: a weight per patch, (h, w); it is spread bilinearly over the pixels.
        path: the PNG file.
        title: above both pictures.
        label: what the colour bar shows.
    """
    image = _enlarged(pixels)
    overlay = np.asarray(Image.fromarray(weights).resize((image.width, image.height), Image.Resampling.BILINEAR))
    height = 4.2
    figure = new_figure(2 * height * image.width / image.height + 1.2, height)
    figure.suptitle(literal(title))
    left, right = figure.subplots(1, 2)
    colours = "gray" if image.mode == "L" else None
    scale = Normalize(min(0.0, float(weights.min())), float(weights.max()) or 1.0)
    right.set_title(label.partition(":")[0], fontsize="medium")
    for axes in (left, right):
        axes.imshow(image, cmap=colours, vmin=0, vmax=255)
        axes.set_axis_off()
    shown = right.imshow(overlay, cmap=_COLOURS, norm=scale, alpha=_ALPHA)
    bar = figure.colorbar(shown, ax=right, label=label, fraction=0.05)
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    save_figure(figure, path)


def _enlarged(pixels: NDArray[np.uint8]) -> Image.Image:
    """Pixels stay sharp squares."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    factor = -(-_LEAST_SIDE // min(image.size))
    return (
        image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST) if factor > 1 else image
    )
