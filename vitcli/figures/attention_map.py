"""One attention map: the image, the map over it, and its values."""

from pathlib import Path

from vitcli.figures.attention_overlay import Box, overlay, panel, patch_box, shown_whole
from vitcli.figures.attention_style import MapPicture, Scale, Style, Subject, scale_of
from vitcli.figures.attention_words import NORM_WORDS, heading, legend
from vitcli.figures.board import MARGIN, Board, Line, height_of
from vitcli.figures.colour_bar import bar_width, draw_colour_bar

_GAP = 20
_LEAST_WIDTH, _LEAST_HEIGHT = 300, 130
"""The smallest size of a panel in pixels that leaves room for its caption and for the values of the colour bar."""
_QUERY = "#00e5ff"


def draw_map(subject: Subject, picture: MapPicture, path: Path, style: Style, *, full: bool = False) -> None:
    """Draw the image, the map over the image, and a colour bar, side by side.

    Args:
        subject: the image.
        picture: the map.
        path: the PNG file.
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
    scale: Scale | None = None,
) -> Board:
    """Draw the figure of ``draw_map`` or ``draw_query`` on a board; several figures can share a given scale."""
    if is_whole := full and subject.whole is not None:
        image, box = shown_whole(subject, least=style.min_size)
    else:
        image = panel(subject.pixels, least=style.min_size)
        box = (0, 0, image.shape[1], image.shape[0])
    scale = scale or scale_of(picture.weights, style.norm, is_signed=picture.is_signed)
    height, width = max(image.shape[0], _LEAST_HEIGHT), max(image.shape[1], _LEAST_WIDTH)
    inner = 2 * (width + _GAP) + bar_width()
    words = heading(subject, inner)
    at = "" if query is None else f": patch at row {query[0]}, column {query[1]}"
    captions = [
        [Line(text="whole picture; framed: what the model saw" if is_whole else "what the model saw", size=17)],
        [Line(text=picture.name + at, size=17)],
    ]
    notes = [legend(picture.unit, NORM_WORDS[style.norm])]
    top = MARGIN + height_of(words) + 8 + height_of(captions[0])
    board = Board(inner + 2 * MARGIN, top + height + 8 + height_of(notes) + MARGIN // 2)
    board.write(words, MARGIN, MARGIN, inner)
    left = MARGIN
    for pixels, caption in zip((image, overlay(image, picture, style, scale, box=box)), captions, strict=True):
        board.write(caption, left, top - height_of(caption), width)
        board.paste(pixels, left, top)
        if is_whole:
            board.outline(_moved(box, left, top))
        if query is not None:
            board.outline(_moved(patch_box(query, picture.weights.shape, box), left, top), _QUERY)
        left += width + _GAP
    draw_colour_bar(board, style.colours(is_signed=picture.is_signed), scale, left=left, top=top, height=height)
    board.write(notes, MARGIN, top + height + 8, inner)
    return board


def _moved(box: Box, left: int, top: int) -> Box:
    return box[0] + left, box[1] + top, box[2] + left, box[3] + top
