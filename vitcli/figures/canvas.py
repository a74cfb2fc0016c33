"""Matplotlib figures: their creation, their text, and their files."""

import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from vitcli.core.errors import visible
from vitcli.core.files import replacing
from vitcli.figures.fonts import boxes_for_unknown_letters, east_asian_fonts

_DPI = 150
_CHARACTERS_PER_INCH = 12
"""Characters of 10-point text that fit into an inch."""
TITLE_HEIGHT = 0.5
"""The height of a paragraph above axes that have a place of their own, in inches."""


def new_figure(width: float, height: float, *, has_layout: bool = True) -> Figure:
    """Create an empty figure, with its size in inches.

    From now on, letters that matplotlib's own font lacks are drawn with other installed fonts.

    Args:
        width: the width.
        height: the height.
        has_layout: whether the parts make room for each other; if not, ``place`` says where each is, which is faster.
    """
    families = mpl.rcParams["font.family"]
    mpl.rcParams["font.family"] = [*families, *(name for name in east_asian_fonts() if name not in families)]
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained" if has_layout else None)
    FigureCanvasAgg(figure)
    return figure


def place(axes: Axes, left: float, bottom: float, width: float, height: float) -> Axes:
    """Give the inner box of axes a place and a size in inches, and return them; their labels are around the box."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    across, down = figure.get_figwidth(), figure.get_figheight()
    axes.set_position((left / across, bottom / down, width / across, height / down))
    return axes


def literal(text: str) -> str:
    """Escape dollar signs, so that matplotlib does not draw text as a formula, and what is no visible letter."""
    return visible(text).replace("$", r"\$")


def fitted(text: str, width: int, *, lines: int = 1) -> str:
    """Wrap text to at most ``lines`` lines of ``width`` characters; an ellipsis replaces the rest."""
    wrapped = textwrap.wrap(visible(" ".join(text.split())), width)
    if len(wrapped) > lines:
        wrapped = [*wrapped[: lines - 1], wrapped[lines - 1][: width - 1].rstrip() + "…"]
    return literal("\n".join(wrapped))


def set_title(figure: Figure, *paragraphs: str) -> None:
    """Write the title of a figure: each paragraph on at most two lines that are not wider than the figure.

    Without a layout, the title has the upper ``TITLE_HEIGHT`` inches.
    """
    characters = int(figure.get_figwidth() * _CHARACTERS_PER_INCH)
    height = {} if figure.get_layout_engine() else {"y": 1 - 0.08 / figure.get_figheight()}
    text = "\n".join(fitted(each, characters, lines=2) for each in paragraphs if each)
    figure.suptitle(text, fontsize=10, **height)


def show_pixels(axes: Axes, pixels: NDArray[np.uint8]) -> None:
    """Show an image, (C, H, W), without a frame; grey images from black to white."""
    axes.imshow(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0), cmap="gray", vmin=0, vmax=255)
    axes.set_axis_off()


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically.

    ``Figure.savefig`` would draw the figure twice, the first time only for the layout, which drawing computes anyway.
    """
    assert isinstance(figure.canvas, FigureCanvasAgg)
    with replacing(path) as temporary, boxes_for_unknown_letters():
        figure.canvas.print_png(temporary, pil_kwargs={"compress_level": 2})


def label_width(axis: Axis) -> float:
    """Return the width of the longest tick label in inches."""
    figure = axis.get_figure(root=True)
    assert figure is not None
    with boxes_for_unknown_letters():
        return max(label.get_window_extent().width for label in axis.get_ticklabels()) / figure.dpi
