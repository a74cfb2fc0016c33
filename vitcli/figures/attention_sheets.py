"""Sheets of many attention maps: by method and class, by layer and head, or by image."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitcli.figures.attention_overlay import overlay, panel
from vitcli.figures.attention_style import MapPicture, Scale, Style, Subject, number, scale_of
from vitcli.figures.attention_words import NORM_WORDS, heading, legend, prediction_of, truth_of, verdict_colour
from vitcli.figures.board import FAINT, MARGIN, Board, Line, height_of
from vitcli.figures.colour_bar import bar_width, draw_colour_bar

_BAR_SIZE = 12
_LEAST_BAR = 84
_LEAST_COLUMN = 84
"""In pixels: the text size of the small colour bars, their least height, and the least width of a column without its
bar."""
_GAP = 14
_LEAST_WIDTH = 560
"""Pixels of a sheet that leave room for its title."""
_WIDEST_LABEL = 220
_SIDE, _COLUMNS = 240, 4
"""The size in pixels of an image beside the maps of several methods, and the number of columns."""


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
        path: the PNG file.
        style: the style of the maps.
    """
    methods = list(dict.fromkeys(picture.method for picture in pictures))
    targets = list(dict.fromkeys(picture.target for picture in pictures if picture.target)) or [""]
    if len(targets) == 1:
        _draw_methods(subject, pictures, path, style)
        return
    found = {(picture.method, picture.target): picture for picture in pictures}
    side = max(180, min(300, 1200 // (len(targets) + 1), 2000 // len(methods)))
    image = panel(subject.pixels, least=side, most=side)
    height, width = image.shape[0], max(image.shape[1], _LEAST_COLUMN)
    across, down = width + bar_width(_BAR_SIZE) + _GAP, max(height, _LEAST_BAR) + _GAP + 6
    labels = [Line(text=method, size=17, is_bold=True) for method in methods]
    label_width = min(max(label.width for label in labels), _WIDEST_LABEL) + _GAP
    frame = _framed(
        subject,
        style,
        inner=(label_width + width + _GAP + len(targets) * across, 26 + len(methods) * down),
        notes=("every map on its own scale",),
    )
    first = frame.left + label_width + width + _GAP
    frame.board.write([Line(text="input", size=16)], first - width - _GAP, frame.top, width)
    for column, target in enumerate(targets):
        words = Line(text=f"for {target}" if target else "map", size=16)
        frame.board.write([words], first + column * across, frame.top, across - _GAP)
    for row, (method, label) in enumerate(zip(methods, labels, strict=True)):
        top = frame.top + 26 + row * down
        frame.board.write([label], frame.left, top + (height - label.height) // 2, label_width - _GAP)
        frame.board.paste(image, first - width - _GAP, top)
        for column, target in enumerate(targets):
            left = first + column * across
            if picture := found.get((method, target), found.get((method, "")) if column == 0 else None):
                _map_with_bar(frame.board, image, picture, style, left, top)
            elif (method, "") in found:
                words = Line(text="the same for every class", size=13, colour=FAINT)
                frame.board.write([words], left, top + (height - words.height) // 2, across - _GAP)
    frame.board.save(path)


def _draw_methods(subject: Subject, pictures: Sequence[MapPicture], path: Path, style: Style) -> None:
    """Draw the image, and beside and below it one map for each method."""
    image = panel(subject.pixels, least=_SIDE, most=_SIDE)
    height, width = image.shape[0], max(image.shape[1], _LEAST_COLUMN)
    labels = [Line(text=text, size=16) for text in ("input", *(picture.method for picture in pictures))]
    columns = min(len(labels), _COLUMNS)
    label_height = labels[0].height + 4
    across, down = width + bar_width(_BAR_SIZE) + _GAP, label_height + max(height, _LEAST_BAR) + _GAP + 6
    targets = [picture.target for picture in pictures if picture.target]
    frame = _framed(
        subject,
        style,
        inner=(columns * across, -(-len(labels) // columns) * down),
        notes=(*(f"maps for {target}" for target in targets[:1]), "every map on its own scale"),
    )
    for place, label in enumerate(labels):
        row, column = divmod(place, columns)
        left, top = frame.left + column * across, frame.top + row * down
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
    """Draw the map of every head: layers from top to bottom, heads from left to right.

    Args:
        subject: the image.
        weights: the maps, (L, H, h, w).
        path: the PNG file.
        style: the style of the maps.
        layers: names of the L layers.
        heads: names of the H heads.
        method: the name of the maps.
    """
    side = max(84, min(224, 1560 // len(heads)))
    image = panel(subject.pixels, least=side, most=side)
    height, width = image.shape[:2]
    values = Line(text="", size=11, colour=FAINT)
    across, down = max(width, 60) + 6, height + values.height + 6
    labels = [Line(text=layer, size=14) for layer in layers]
    label_width = min(max(label.width for label in labels), _WIDEST_LABEL) + _GAP
    frame = _framed(
        subject,
        style,
        inner=(label_width + len(heads) * across, 22 + len(layers) * down),
        notes=(method, "every map on its own scale, which ends at the value below it"),
    )
    first, top = frame.left + label_width, frame.top + 22
    for column, head in enumerate(heads):
        frame.board.write([Line(text=head, size=13)], first + column * across, frame.top, across - 6, align="middle")
    for row, label in enumerate(labels):
        frame.board.write([label], frame.left, top + (height - label.height) // 2, label_width - _GAP)
        for column in range(len(heads)):
            picture = MapPicture(method=method, weights=weights[row, column])
            scale = scale_of(picture.weights, style.norm, is_signed=False)
            left = first + column * across + (across - 6 - width) // 2
            frame.board.paste(overlay(image, picture, style, scale), left, top)
            end = Line(text=number(scale.high), size=values.size, colour=values.colour)
            frame.board.write([end], first + column * across, top + height, across - 6, align="middle")
        top += down
    frame.board.save(path)


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
    image = panel(subject.pixels, least=224, most=224)
    height, width = image.shape[:2]
    across, down = max(width, _LEAST_COLUMN) + bar_width(_BAR_SIZE) + _GAP, max(height, _LEAST_BAR) + 26 + _GAP
    columns = min(len(maps) + 1, 7 if len(maps) > 12 else 5)
    rows = -(-(len(maps) + 1) // columns)
    frame = _framed(subject, style, inner=(columns * across, rows * down), notes=(method, "every map on its own scale"))
    for at, name in enumerate(("input", *layers)):
        left, top = frame.left + at % columns * across, frame.top + at // columns * down
        frame.board.write([Line(text=name, size=15)], left, top, across - _GAP)
        if at == 0:
            frame.board.paste(image, left, top + 24)
            continue
        picture = MapPicture(method=method, weights=maps[at - 1])
        _map_with_bar(frame.board, image, picture, style, left, top + 24)
    frame.board.save(path)


def draw_sheet(
    subjects: Sequence[Subject],
    pictures: Sequence[MapPicture],
    path: Path,
    style: Style,
    *,
    columns: int = 5,
    title: str = "",
) -> None:
    """Draw images, each beside its map; prediction and truth are green if they agree, and red if they do not.

    Args:
        subjects: the images.
        pictures: the map of each image.
        path: the PNG file.
        style: the style of the maps.
        columns: the number of images in a row.
        title: the title above all images.
    """
    side, columns = 160, min(columns, len(subjects))
    images = [panel(subject.pixels, least=side, most=side) for subject in subjects]
    width, height = (max(image.shape[axis] for image in images) for axis in (1, 0))
    across, down = 2 * max(width, 120) + 4 + 2 * _GAP, height + 44 + _GAP
    right = sum(subject.is_right is True for subject in subjects)
    judged = sum(subject.is_right is not None for subject in subjects)
    words = [Line(text=title, size=23, is_bold=True)] if title else []
    if judged:
        words.append(Line(text=f"{right} of {judged} predictions are right", size=17))
    notes = legend(pictures[0].name if len({picture.name for picture in pictures}) == 1 else "", *_scale_notes(style))
    rows = -(-len(subjects) // columns)
    inner = max(columns * across - 2 * _GAP, _LEAST_WIDTH)
    top = MARGIN + height_of(words) + 10
    board = Board(inner + 2 * MARGIN, top + rows * down + notes.height + MARGIN // 2)
    board.write(words, MARGIN, MARGIN, inner)
    board.write([notes], MARGIN, top + rows * down, inner)
    for at, (subject, picture, image) in enumerate(zip(subjects, pictures, images, strict=True)):
        left, line = MARGIN + at % columns * across, top + at // columns * down
        names = [
            Line(text=prediction_of(subject).replace("predicted ", ""), size=14, colour=verdict_colour(subject)),
            Line(text=truth_of(subject) or subject.name, size=14, colour=verdict_colour(subject)),
        ]
        board.write(names, left, line, across - 2 * _GAP)
        scale = scale_of(picture.weights, style.norm, is_signed=picture.is_signed)
        board.paste(image, left, line + 44)
        board.paste(overlay(image, picture, style, scale), left + image.shape[1] + 4, line + 44)
    board.save(path)


def _framed(subject: Subject, style: Style, *, inner: tuple[int, int], notes: Sequence[str]) -> _Frame:
    """Make a sheet with ``inner`` pixels of room between the heading of its image and the legend."""
    width = max(inner[0], _LEAST_WIDTH)
    words = heading(subject, width)
    below = legend(*notes, NORM_WORDS[style.norm])
    top = MARGIN + height_of(words) + 10
    board = Board(width + 2 * MARGIN, top + inner[1] + below.height + MARGIN // 2)
    board.write(words, MARGIN, MARGIN, width)
    board.write([below], MARGIN, top + inner[1], width)
    return _Frame(board, MARGIN, top)


def _scale_notes(style: Style) -> tuple[str, str]:
    return "every map on its own scale", NORM_WORDS[style.norm]


def _map_with_bar(
    board: Board, image: NDArray[np.uint8], picture: MapPicture, style: Style, left: int, top: int
) -> None:
    scale: Scale = scale_of(picture.weights, style.norm, is_signed=picture.is_signed)
    board.paste(overlay(image, picture, style, scale), left, top)
    draw_colour_bar(
        board,
        style.colours(is_signed=picture.is_signed),
        scale,
        left=left + image.shape[1] + 5,
        top=top,
        height=max(image.shape[0], _LEAST_BAR),
        ticks=3,
        size=_BAR_SIZE,
    )
