"""One attention map: the image, the map over it, and its values."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitcli.figures.attention_overlay import overlay, panel, patch_box, shown_whole
from vitcli.figures.attention_style import LABEL, NOTE, MapPicture, Style, Subject, scale_of
from vitcli.figures.attention_words import evenness, heading, legend, norm_words
from vitcli.figures.board import MARGIN, Board, Box, Line, height_of
from vitcli.figures.colour_bar import bar_width, draw_colour_bar

_GAP = 20
_LEAST_WIDTH = 300
"""The smallest width of a panel in units that leaves room for its caption; images are enlarged to it."""
_LEAST_BAR, _SMALL_BAR = 130, 84
"""The smallest heights in units of a colour bar with five values, and with three."""
_QUERY = "#00e5ff"


def draw_map(subject: Subject, picture: MapPicture, path: Path, style: Style, *, full: bool = False) -> None:
    """Draw the image, the map over the image, and a colour bar, side by side.

    Args:
        subject: the image.
        picture: the map.
        path: the file; its ending decides on the format.
        style: the style of the map.
        full: show the whole picture, with a frame around the part that the model saw and the map only inside it.
    """
    draw_panels(subject, picture, style, full=full).save(path)


def draw_query(
    subject: Subject, query: tuple[int, int], picture: MapPicture, path: Path, style: Style, *, full: bool = False
) -> None:
    """Draw the attention of one patch: like ``draw_map``, with the patch, (row, column), framed in both panels."""
    draw_panels(subject, picture, style, full=full, query=query).save(path)


def draw_panels(
    subject: Subject,
    picture: MapPicture,
    style: Style,
    *,
    full: bool = False,
    query: tuple[int, int] | None = None,
    among: Sequence[MapPicture] = (),
) -> Board:
    """Draw the figure of ``draw_map`` or ``draw_query`` on a board.

    Figures that are drawn ``among`` the same maps have one scale and one size.
    """
    least = max(style.min_size, style.room(_LEAST_WIDTH))
    if is_whole := full and subject.whole is not None:
        image, box = shown_whole(subject, least=least, density=style.density)
    else:
        image = panel(subject.pixels, least=least, density=style.density)
        box = (0, 0, image.shape[1], image.shape[0])
    scaled = replace(picture, weights=np.stack([each.weights for each in among])) if among else picture
    scale = scale_of(scaled.weights, style.norm, is_signed=picture.is_signed)
    rows, columns = style.size_of(image)
    height, width = max(rows, style.room(_SMALL_BAR)), max(columns, style.room(_LEAST_WIDTH))
    values = style.points(NOTE)
    inner = width + _GAP + max(width, columns + _GAP + bar_width(values))
    words = heading(subject, style, inner)
    at = "" if query is None else f": patch at row {query[0]}, column {query[1]}"
    captions = [
        Line(text=text, size=style.points(LABEL)).wrapped(width)
        for text in (
            "whole picture; framed: what the model saw" if is_whole else "what the model saw",
            picture.caption + at,
            *(each.caption + at for each in among),
        )
    ]
    notes = legend(style, inner, picture.unit, norm_words(style.norm, [scaled]))
    if even := evenness(scaled):
        notes.insert(0, Line(text=even, size=notes[0].size))
    top = MARGIN + height_of(words) + 8 + max(map(height_of, captions))
    board = Board(inner + 2 * MARGIN, top + height + 8 + height_of(notes) + MARGIN // 2, style.density)
    board.write(words, MARGIN, MARGIN, inner)
    left = MARGIN
    for pixels, caption in zip((image, overlay(image, picture, style, scale, box=box)), captions, strict=False):
        board.write(caption, left, top - height_of(caption), width)
        board.paste(pixels, left, top)
        if is_whole:
            board.outline(_moved(box, left, top, style.density))
        if query is not None:
            patch = patch_box(query, picture.weights.shape, box)
            board.outline(_moved(patch, left, top, style.density), _QUERY)
        left += width + _GAP
    left += columns - width
    colours, ticks = style.colours(is_signed=picture.is_signed), 5 if height >= style.room(_LEAST_BAR) else 3
    draw_colour_bar(board, colours, scale, left=left, top=top, height=height, size=values, ticks=ticks)
    board.write(notes, MARGIN, top + height + 8, inner)
    return board


def _moved(box: Box, left: int, top: int, density: float) -> Box:
    """Convert a box of an image from pixels to units, and move it to the position of the image."""
    x, y, right, bottom = (edge / density for edge in box)
    return x + left, y + top, right + left, bottom + top
