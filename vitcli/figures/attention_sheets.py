"""Sheets of many attention maps: by method and class, by layer and head, or by image."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitcli.figures.attention_overlay import overlay, panel
from vitcli.figures.attention_style import LABEL, NOTE, SMALL, TITLE, MapPicture, Scale, Style, Subject, scale_of
from vitcli.figures.attention_words import (
    evenness,
    heading,
    legend,
    norm_words,
    prediction_of,
    short_evenness,
    truth_of,
    verdict_colour,
    with_short_names,
)
from vitcli.figures.board import FAINT, INK, MARGIN, Board, Line, height_of
from vitcli.figures.colour_bar import bar_width, draw_colour_bar

_LEAST_BAR = 84
_LEAST_COLUMN = 84
"""In units: the least height of a small colour bar, and the least width of a column without its bar."""
_GAP = 14
_LEAST_WIDTH = 560
"""Units that leave room for the title of a sheet."""
_LEAST_SIDE = 120
"""Units of the longer side of an image beside its colour bar, at least, in the usual font size."""
_WIDEST_LABEL = 220
_SIDE, _COLUMNS = 240, 4
"""The size in units of an image beside the maps of several methods, and the number of columns."""
_WIDEST_GRID, _LEAST_HEAD, _MOST_HEAD = 1560, 84, 224
"""In units: the width of all maps of heads, and the size of one of them, which is as large as the width allows."""


class _Frame(NamedTuple):
    """A sheet with its heading and its legend, and the position where the maps begin."""

    board: Board
    left: int
    top: int


def draw_comparison(subject: Subject, pictures: Sequence[MapPicture], path: Path, style: Style) -> None:
    """Draw the maps of several methods, each on its own scale; if there are several classes, a row per method.

    Args:
        subject: the image.
        pictures: the maps; methods and classes appear in this order, and a method without classes has one map.
        path: the file; its ending decides on the format.
        style: the style of the maps.
    """
    methods = list(dict.fromkeys(picture.method for picture in pictures))
    targets = list(dict.fromkeys(picture.target for picture in pictures if picture.target)) or [""]
    if len(targets) == 1:
        _draw_methods(subject, pictures, path, style)
        return
    found = {(picture.method, picture.target): picture for picture in pictures}
    side = max(180, min(300, 1200 // (len(targets) + 1), 2000 // len(methods)), style.room(_LEAST_SIDE))
    image = panel(subject.pixels, least=side, most=side, density=style.density)
    height, width, across, down = _cell(image, style)
    labels = [Line(text=method, size=style.points(LABEL), is_bold=True) for method in methods]
    label_width = min(max(label.width for label in labels), style.room(_WIDEST_LABEL)) + _GAP
    headings = [_label(f"for {target}" if target else "map", style).wrapped(across - _GAP) for target in targets]
    titles = max(map(height_of, headings)) + 3
    above = Line(text="", size=style.points(SMALL)).height if any(map(evenness, pictures)) else 0
    down += above
    frame = _framed(
        subject,
        style,
        pictures,
        inner=(label_width + width + _GAP + len(targets) * across, titles + len(methods) * down),
        notes=("every map on its own scale",),
    )
    first = frame.left + label_width + width + _GAP
    frame.board.write([_label("input", style)], first - width - _GAP, frame.top, width)
    for column, lines in enumerate(headings):
        frame.board.write(lines, first + column * across, frame.top, across - _GAP)
    for row, (method, label) in enumerate(zip(methods, labels, strict=True)):
        top = frame.top + titles + row * down + above
        frame.board.write([label], frame.left, top + (height - label.height) // 2, label_width - _GAP)
        frame.board.paste(image, first - width - _GAP, top)
        for column, target in enumerate(targets):
            left = first + column * across
            if picture := found.get((method, target), found.get((method, "")) if column == 0 else None):
                _map_with_bar(frame.board, image, picture, style, left, top)
                hint = Line(text=short_evenness(picture), size=style.points(SMALL))
                frame.board.write([hint], left, top - above, across - _GAP)
            elif (method, "") in found:
                words = Line(text="the same for every class", size=style.points(SMALL), colour=FAINT)
                frame.board.write([words], left, top + (height - words.height) // 2, across - _GAP)
    frame.board.save(path)


def _draw_methods(subject: Subject, pictures: Sequence[MapPicture], path: Path, style: Style) -> None:
    """Draw the image, and beside and below it one map for each method."""
    targets = [picture.target for picture in pictures if picture.target]
    notes = (*(f"maps for {target}" for target in targets[:1]), "every map on its own scale")
    names = [picture.method for picture in pictures]
    _draw_beside(subject, pictures, names, path, style, side=_SIDE, columns=_COLUMNS, notes=notes)


def draw_blocks(
    subject: Subject,
    maps: NDArray[np.float32],
    path: Path,
    style: Style,
    *,
    layers: Sequence[str],
    method: str = "attention layer by layer",
) -> None:
    """Draw the image, then the map of every layer from the first to the last, (L, h, w), each on its own scale."""
    pictures = [MapPicture(method=method, weights=weights) for weights in maps]
    columns, notes = 7 if len(maps) > 12 else 5, (method, "every map on its own scale")
    _draw_beside(subject, pictures, layers, path, style, side=224, columns=columns, notes=notes)


def _draw_beside(
    subject: Subject,
    pictures: Sequence[MapPicture],
    names: Sequence[str],
    path: Path,
    style: Style,
    *,
    side: int,
    columns: int,
    notes: Sequence[str],
) -> None:
    """Draw the image, and beside and below it all maps, each with its name and its colour bar."""
    side = max(side, style.room(_LEAST_SIDE))
    image = panel(subject.pixels, least=side, most=side, density=style.density)
    hints = [f" ({hint})" if (hint := short_evenness(picture)) else "" for picture in pictures]
    labels = [_label(text, style) for text in ("input", *map("".join, zip(names, hints, strict=True)))]
    columns, label_height = min(len(labels), columns), labels[0].height + 4
    _, _, across, down = _cell(image, style)
    frame = _framed(
        subject,
        style,
        pictures,
        inner=(columns * across, -(-len(labels) // columns) * (label_height + down)),
        notes=notes,
    )
    for place, label in enumerate(labels):
        row, column = divmod(place, columns)
        left, top = frame.left + column * across, frame.top + row * (label_height + down)
        frame.board.write([label], left, top, across - _GAP)
        if place:
            _map_with_bar(frame.board, image, pictures[place - 1], style, left, top + label_height)
        else:
            frame.board.paste(image, left, top + label_height)
    frame.board.save(path)


def draw_heads(
    subject: Subject,
    weights: NDArray[np.float32],
    path: Path,
    style: Style,
    *,
    layers: Sequence[str],
    heads: Sequence[str],
    method: str = "attention of every head",
) -> None:
    """Draw the map of every head, as a grid that is at least as wide as high: columns are heads, or layers if these are more.

    Args:
        subject: the image.
        weights: the maps, (L, H, h, w).
        path: the file; its ending decides on the format.
        style: the style of the maps.
        layers: names of the L layers.
        heads: names of the H heads.
        method: the name of the maps.
    """
    rows, columns = layers, heads
    if len(layers) > len(heads):
        weights, rows, columns = weights.swapaxes(0, 1), heads, layers
    side = max(style.room(_LEAST_HEAD), min(_MOST_HEAD, _WIDEST_GRID // len(columns)))
    image = panel(subject.pixels, least=side, most=side, density=style.density)
    height, width = style.size_of(image)
    pictures = [[MapPicture(method=method, weights=each) for each in row] for row in weights]
    ends = [[_ends(each, style) for each in row] for row in pictures]
    what, small = "the value where its colours end, or both values if they do not begin at 0", style.points(SMALL)
    if any(line.is_bold for row in ends for line in row):
        what += ", bold if it is nearly even"
    labels, titles = ([_label(name, style) for name in names] for names in (rows, columns))
    label_width = min(max(label.width for label in labels), style.room(_WIDEST_LABEL)) + _GAP
    widest = max(line.width for line in (*titles, *(end for row in ends for end in row)))
    gap, down = style.room(_GAP), height + ends[0][0].height + 6
    across = max(width, min(widest, style.room(_WIDEST_LABEL))) + gap
    frame = _framed(
        subject,
        style,
        [each for row in pictures for each in row],
        inner=(label_width + len(columns) * across + bar_width(small), titles[0].height + len(rows) * down),
        notes=(method, f"below every map: {what}"),
    )
    first, top = frame.left + label_width, frame.top + titles[0].height
    for column, title in enumerate(titles):
        frame.board.write([title], first + column * across, frame.top, across - gap, align="middle")
    for row, label in enumerate(labels):
        frame.board.write([label], frame.left, top + (height - label.height) // 2, label_width - _GAP)
        for column, picture in enumerate(pictures[row]):
            left = first + column * across
            drawn = overlay(image, picture, style, scale_of(picture.weights, style.norm, is_signed=False))
            frame.board.paste(drawn, left + (across - gap - width) // 2, top)
            frame.board.write([ends[row][column]], left, top + height, across - gap, align="middle")
        top += down
    draw_colour_bar(
        frame.board,
        style.colours(is_signed=False),
        Scale(low=0, high=1, least=0, most=1),
        left=first + len(columns) * across,
        top=top - len(rows) * down,
        height=len(rows) * down - ends[0][0].height - 6,
        size=small,
        ticks=2,
        labels=("low", "high"),
    )
    frame.board.save(path)


def draw_sheet(
    subjects: Sequence[Subject],
    pictures: Sequence[MapPicture],
    path: Path,
    style: Style,
    *,
    columns: int = 5,
    title: str = "",
    counts_right: bool = True,
) -> None:
    """Draw images, each beside its map; prediction and truth are green if they agree, and red if they do not.

    Args:
        subjects: the images.
        pictures: the map of each image.
        path: the file; its ending decides on the format.
        style: the style of the maps.
        columns: the number of images in a row.
        title: the title above all images.
        counts_right: whether to count the right predictions below the title.
    """
    side, columns = max(160, style.room(_LEAST_SIDE)), min(columns, len(subjects))
    images = [panel(subject.pixels, least=side, most=side, density=style.density) for subject in subjects]
    sizes = [style.size_of(image) for image in images]
    height, width = (max(sides) for sides in zip(*sizes, strict=True))
    across = (room := 2 * max(width, style.room(120)) + 4) + 2 * _GAP
    hints = [Line(text=evenness(picture), size=style.points(SMALL)) for picture in pictures]
    names = [
        [
            Line(text=text, size=style.points(NOTE), colour=verdict_colour(subject))
            for text in (prediction_of(subject).replace("predicted ", ""), truth_of(subject) or subject.name)
        ]
        for subject in with_short_names(subjects, style, room)
    ]
    above, below = height_of(names[0]) + 4, max(hint.height if hint.text else 0 for hint in hints)
    down = above + height + below + _GAP
    right = sum(subject.is_right is True for subject in subjects)
    judged = sum(subject.is_right is not None for subject in subjects)
    rows = -(-len(subjects) // columns)
    inner = max(columns * across - 2 * _GAP, style.room(_LEAST_WIDTH))
    words = Line(text=title, size=style.points(TITLE), is_bold=True).wrapped(inner) if title else []
    if judged and counts_right:
        words.append(_label(f"{right} of {judged} predictions are right", style))
    alike = len({picture.name for picture in pictures}) == 1
    colours = norm_words(style.norm, pictures)
    notes = legend(style, inner, pictures[0].name if alike else "", "every map on its own scale", colours)
    top = MARGIN + height_of(words) + 10
    board = Board(inner + 2 * MARGIN, top + rows * down + height_of(notes) + MARGIN // 2, style.density)
    board.write(words, MARGIN, MARGIN, inner)
    board.write(notes, MARGIN, top + rows * down, inner)
    for at, (picture, image) in enumerate(zip(pictures, images, strict=True)):
        left, line = MARGIN + at % columns * across, top + at // columns * down
        board.write(names[at], left, line, room)
        scale = scale_of(picture.weights, style.norm, is_signed=picture.is_signed)
        board.paste(image, left, line + above)
        board.paste(overlay(image, picture, style, scale), left + sizes[at][1] + 4, line + above)
        board.write([hints[at]], left, line + above + sizes[at][0], room)
    board.save(path)


def _framed(
    subject: Subject, style: Style, pictures: Sequence[MapPicture], *, inner: tuple[int, int], notes: Sequence[str]
) -> _Frame:
    """Make a sheet with ``inner`` units of room between the heading of its image and the legend of its maps."""
    width = max(inner[0], style.room(_LEAST_WIDTH))
    words = heading(subject, style, width)
    below = legend(style, width, *notes, norm_words(style.norm, pictures))
    top = MARGIN + height_of(words) + 10
    board = Board(width + 2 * MARGIN, top + inner[1] + height_of(below) + MARGIN // 2, style.density)
    board.write(words, MARGIN, MARGIN, width)
    board.write(below, MARGIN, top + inner[1], width)
    return _Frame(board, MARGIN, top)


def _label(text: str, style: Style) -> Line:
    return Line(text=text, size=style.points(LABEL))


def _ends(picture: MapPicture, style: Style) -> Line:
    """Write the value where the colours of a map end, or both values if they do not begin at 0; nearly even: bold."""
    scale = scale_of(picture.weights, style.norm, is_signed=picture.is_signed)
    values, is_even = scale.values(2), bool(evenness(picture))
    text = values[-1] if scale.low == 0 or scale.is_flat else " to ".join(values)
    return Line(text=text, size=style.points(SMALL), colour=INK if is_even else FAINT, is_bold=is_even)


def _cell(image: NDArray[np.uint8], style: Style) -> tuple[int, int, int, int]:
    """Return the height and width of an image in units, and the distances to the next map to the right and below."""
    height, width = style.size_of(image)
    across = max(width, style.room(_LEAST_COLUMN)) + bar_width(style.points(SMALL)) + _GAP
    return height, width, across, max(height, style.room(_LEAST_BAR)) + style.room(20)


def _map_with_bar(
    board: Board, image: NDArray[np.uint8], picture: MapPicture, style: Style, left: int, top: int
) -> None:
    """Draw a map, with its colour bar on the right."""
    scale = scale_of(picture.weights, style.norm, is_signed=picture.is_signed)
    height, width, _, _ = _cell(image, style)
    board.paste(overlay(image, picture, style, scale), left, top)
    bar, size = max(height, style.room(_LEAST_BAR)), style.points(SMALL)
    colours = style.colours(is_signed=picture.is_signed)
    draw_colour_bar(board, colours, scale, left=left + width + 5, top=top, height=bar, size=size, ticks=3)
