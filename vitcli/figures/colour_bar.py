"""A colour bar: the colours of a map, with the values that they stand for."""

import numpy as np
from numpy.typing import NDArray

from vitcli.figures.attention_style import Scale, number
from vitcli.figures.board import FAINT, INK, Board, Line


def draw_colour_bar(
    board: Board,
    colours: NDArray[np.uint8],
    scale: Scale,
    *,
    left: int,
    top: int,
    height: int,
    ticks: int = 5,
    size: int = 15,
) -> None:
    """Draw a bar from one end of the scale to the other; a tip shows values beyond an end, and the most extreme value.

    Args:
        board: the board to draw on.
        colours: the table of a colour map, (256, 3).
        scale: the scale, with the extreme values of the map.
        left: the left edge of the bar.
        top: the top of the bar, including its tip.
        height: the height of the bar, including its tips.
        ticks: the number of values beside the bar, including both ends.
        size: the text size of the values, and the width of the bar.
    """
    width, point = size, size + 3
    has_more, has_less = (not scale.is_flat and beyond for beyond in (scale.most > scale.high, scale.least < scale.low))
    first, last = top + point * has_more, top + height - point * has_less - 1
    fractions = np.full(last - first + 1, 0.5) if scale.is_flat else np.linspace(1, 0, last - first + 1)
    column = colours[(fractions * 256).clip(0, 255).astype(int)]
    board.paste(np.ascontiguousarray(np.broadcast_to(column[:, None], (len(column), width, 3))), left, first)
    middle, right = left + width // 2, left + width - 1
    for shown, base, tip, colour, words in (
        (has_more, first, top, colours[255], f"max {number(scale.most)}"),
        (has_less, last, top + height - 1, colours[0], f"min {number(scale.least)}"),
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
    for share in [0.5] if scale.is_flat else np.linspace(0, 1, ticks):
        at = round(last + (first - last) * float(share))
        board.line((right, at), (right + 4, at))
        _write(board, number(scale.low + (scale.high - scale.low) * float(share)), right, at, size, INK)


def bar_width(size: int = 15) -> int:
    """Return the width in pixels of a bar with the values on its right."""
    return size + 8 + Line(text="max -8.88e-8", size=size).width


def _write(board: Board, text: str, right: int, middle: int, size: int, colour: str) -> None:
    line = Line(text=text, size=size, colour=colour)
    board.write([line], right + 8, middle - round(0.6 * size), line.width)
