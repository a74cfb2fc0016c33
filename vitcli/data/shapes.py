"""Drawn pictures of plain shapes, with the known place of each object, so that explanations can be judged on them.

Classes differ only in shape: colours, sizes, places and small turns have the same random distribution for all of them.
A background is darker than the objects on it and has soft blobs of other colours. K objects, S x S pixels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vitcli.data.raw import Labels

SIZE = 32
"""Height and width of a picture in pixels."""
TRAIN_SEED, TEST_SEED = 0, 1
"""Seeds of the data set's splits; they contain no scene of another seed."""

_AREAS = 0.06, 0.09
"""Smallest and largest area of an outline, as a share of the picture; the drawn object covers a little more."""
_TURN = np.deg2rad(15)
"""The largest angle by which an object is turned in either direction, in radians."""
_EDGE, _GAP = 1.0, 2.0
"""Smallest distance of an object from the edge, and of two objects along one axis, in pixels."""
_BRIGHTER = 100
"""Smallest difference in brightness between an object and the background, of 255."""
_BLOBS = 4
_NOISE = 6.0
"""Standard deviation of the noise, of 255."""
_FINE = 4
"""Factor of the finer resolution at which objects are drawn, for smooth edges."""

Pixels = NDArray[np.uint8]
Masks = NDArray[np.bool_]
_Values = NDArray[np.float64]
_Outlines = tuple[_Values, ...]
"""The corners of a polygon, (P, 2), as x and y, optionally followed by the corners of a hole in it."""


def _corners(count: int) -> _Values:
    """Return the corners of a regular polygon, clockwise from the top."""
    angles = 2 * np.pi * np.arange(count) / count
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def _heart() -> _Values:
    angles = 2 * np.pi * np.arange(64) / 64
    first, second, third, fourth = (np.cos(k * angles) for k in range(1, 5))
    return np.stack([16 * np.sin(angles) ** 3, -13 * first + 5 * second + 2 * third + fourth], axis=1)


def _of_unit_area(*outlines: _Values) -> _Outlines:
    """Scale outlines so that the polygon without its hole has an area of 1."""
    area, *hole = (_area(outline) for outline in outlines)
    return tuple(outline / np.sqrt(area - sum(hole)) for outline in outlines)


def _area(outline: _Values) -> float:
    """Compute the area of a polygon with the shoelace formula."""
    (x, y), (next_x, next_y) = outline.T, np.roll(outline, -1, axis=0).T
    return abs(float(np.sum(x * next_y - next_x * y))) / 2


_CIRCLE = _corners(64)
_SQUARE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
_ARMS = np.array([(-0.8, -3.0), (0.8, -3.0), (0.8, -0.8), (3.0, -0.8), (3.0, 0.8), (0.8, 0.8)])
_SHAPES: dict[str, _Outlines] = {
    "circle": _of_unit_area(_CIRCLE),
    "cross": _of_unit_area(np.concatenate([_ARMS, -_ARMS])),
    "heart": _of_unit_area(_heart()),
    "ring": _of_unit_area(_CIRCLE, 0.6 * _CIRCLE),
    "semicircle": _of_unit_area(np.roll(_CIRCLE, 16, axis=0)[:33]),
    "square": _of_unit_area(_SQUARE),
    "star": _of_unit_area(_corners(10) * np.array([1.0, 0.45] * 5)[:, None]),
    "triangle": _of_unit_area(_corners(3)),
}
CLASSES = tuple(_SHAPES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenes:
    """Pictures that all have the same number of objects."""

    images: Pixels
    """The pictures, (N, 3, S, S)."""
    masks: Masks
    """The pixels of each object, (N, K, S, S)."""
    labels: Labels
    """The class of each object, (N, K), as an index of ``CLASSES``; a picture has no class twice."""


def draw_scenes(count: int, *, num_objects: Literal[1, 2], seed: int) -> Scenes:
    """Draw ``count`` pictures with ``num_objects`` objects each; all classes are equally often the first object's.

    A picture depends only on its index, the seed and the number of objects.
    """
    images = np.empty((count, 3, SIZE, SIZE), dtype=np.uint8)
    masks = np.empty((count, num_objects, SIZE, SIZE), dtype=np.bool_)
    labels = np.empty((count, num_objects), dtype=np.int64)
    for index in range(count):
        random = np.random.default_rng([seed, num_objects, index])
        first = index % len(CLASSES)
        others = random.permutation(np.delete(np.arange(len(CLASSES)), first))
        labels[index] = first, *others[: num_objects - 1]
        images[index], masks[index] = draw_scene(random, labels[index])
    return Scenes(images=images, masks=masks, labels=labels)


def draw_scene(random: np.random.Generator, labels: Labels) -> tuple[Pixels, Masks]:
    """Draw a picture, (3, S, S), with one object per label, (K,), and return it with the objects' masks, (K, S, S).

    Objects do not touch. One or two objects fit; with more, the search for places may not end.
    """
    ground = random.uniform(0, 90, 3)
    pixels = _background(random, ground)
    masks = np.empty((len(labels), SIZE, SIZE), dtype=np.bool_)
    for k, outlines in enumerate(_placed(random, labels)):
        coverage = _coverage(outlines)
        pixels += coverage * (_colour(random, ground)[:, None, None] - pixels)
        masks[k] = coverage >= 0.5
    pixels += random.normal(0, _NOISE, pixels.shape)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8), masks


def _background(random: np.random.Generator, ground: _Values) -> _Values:
    """Draw a background of the colour ``ground``, (3,), with soft blobs of other colours: (3, S, S)."""
    places, spreads = random.uniform(0, SIZE, (2, _BLOBS, 1)), random.uniform(1, 2.5, (_BLOBS, 1))
    down, across = np.exp(-(((np.arange(SIZE) + 0.5 - places) / spreads) ** 2) / 2)  # (blobs, S) each
    colours = random.uniform(0, 160, (_BLOBS, 3))
    blobs: _Values = np.einsum("bc,by,bx->cyx", colours - ground, down, across)
    return blobs + ground[:, None, None]


def _colour(random: np.random.Generator, ground: _Values) -> _Values:
    """Draw a random colour that is clearly brighter than the background's, (3,)."""
    while True:
        colour = random.uniform(0, 255, 3)
        if np.mean(colour - ground) >= _BRIGHTER:
            return colour


def _placed(random: np.random.Generator, labels: Labels) -> list[_Outlines]:
    """Place objects of these classes so that their boxes are apart from each other."""
    while True:
        objects = [_moved(random, _SHAPES[CLASSES[label]]) for label in labels]
        boxes = np.array([(outlines[0].min(axis=0), outlines[0].max(axis=0)) for outlines in objects])  # (K, 2, 2)
        between = (boxes[:, None, 0] - boxes[None, :, 1]).max(axis=2)  # how far right of or below the other, (K, K)
        if (np.maximum(between, between.T)[np.triu_indices(len(labels), 1)] >= _GAP).all():
            return objects


def _moved(random: np.random.Generator, shape: _Outlines) -> _Outlines:
    """Move a shape to a random place in the picture, with a random size and a small random turn."""
    angle, scale = random.uniform(-_TURN, _TURN), SIZE * np.sqrt(random.uniform(*_AREAS))
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = [outline @ turn for outline in shape]
    place = random.uniform(_EDGE - turned[0].min(axis=0), SIZE - _EDGE - turned[0].max(axis=0))
    return tuple(outline + place for outline in turned)


def _coverage(outlines: _Outlines) -> _Values:
    """Compute the share of each pixel that an object covers, 0 to 1, (S, S)."""
    canvas = Image.new("L", (SIZE * _FINE, SIZE * _FINE))
    draw = ImageDraw.Draw(canvas)
    for outline, fill in zip(outlines, (255, 0), strict=False):
        draw.polygon([(x, y) for x, y in (outline * _FINE - 0.5).tolist()], fill=fill)
    return np.asarray(canvas.reduce(_FINE)) / 255.0
