"""A colour bar: the colours of a map, with the values that they stand for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vitcli.figures.attention_style import Scale
from vitcli.figures.board import FAINT, INK, UNITS_PER_POINT, Board, Line


def draw_colour_bar(
    board: Board,
    colours: NDArray[np.uint8],
    scale: Scale,
    *,
    left: int,
    top: int,
    height: int,
    size: float,
    ticks: int = 5,
    labels: Sequence[str] = (),
) -> None:
    """Draw a bar from one end of the scale to the other; a tip shows values beyond an end, and the most extreme value.

    Args:
        board: the board to draw on.
        colours: the table of a colour map, (256, 3).
        scale: the scale, with the extreme values of the map.
        left: the left edge of the bar.
        top: the top of the bar, including its tip.
        height: the height of the bar, including its tips.
        size: the text size of the values in points, which is also the width of the bar.
        ticks: the number of values beside the bar, including both ends.
        labels: words in place of the values.
    """
    width = round(size * UNITS_PER_POINT)
    point = width + 3
    has_more, has_less = (not scale.is_flat and beyond for beyond in (scale.most > scale.high, scale.least < scale.low))
    first, last = top + point * has_more, top + height - point * has_less - 1
    pixels, across = round((last - first + 1) * board.density), round(width * board.density)
    fractions = np.full(pixels, 0.5) if scale.is_flat else np.linspace(1, 0, pixels)
    column = colours[(fractions * 256).clip(0, 255).astype(int)]
    board.paste(np.ascontiguousarray(np.broadcast_to(column[:, None], (pixels, across, 3))), left, first)
    middle, right = left + width // 2, left + width - 1
    for shown, base, tip, colour, words in (
        (has_more, first, top, colours[255], f"max {scale.extreme(scale.most)}"),
        (has_less, last, top + height - 1, colours[0], f"min {scale.extreme(scale.least)}"),
    ):
        if shown:
            red, green, blue = (int(part) for part in colour)
            board.polygon([(left, base), (middle, tip), (right, base)], (red, green, blue))
            board.line((left, base), (middle, tip))
            board.line((middle, tip), (right, base))
            _write(board, words, right, tip, size, FAINT)
    for start, end in (((left, first), (left, last)), ((right, first), (right, last))):
        board.line(start, end)
    for is_pointed, at in ((has_more, first), (has_less, last)):
        if not is_pointed:
            board.line((left, at), (right, at))
    shares = [0.5] if scale.is_flat else np.linspace(0, 1, ticks)
    for share, value in zip(shares, labels or scale.values(ticks), strict=True):
        at = round(last + (first - last) * float(share))
        board.line((right, at), (right + 4, at))
        _write(board, value, right, at, size, INK)


def bar_width(size: float) -> int:
    """Return the width in units of a bar with the values on its right, in points."""
    return round(size * UNITS_PER_POINT) + 8 + Line(text="max -0.000888", size=size).width


def _write(board: Board, text: str, right: int, middle: int, size: float, colour: str) -> None:
    line = Line(text=text, size=size, colour=colour)
    board.write([line], right + 8, middle - round(0.6 * size * UNITS_PER_POINT), line.width)
