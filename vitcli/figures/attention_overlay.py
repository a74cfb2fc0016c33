"""Functions that lay a map over an image, pixel by pixel: arrays in, arrays out."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitcli.figures.attention_style import Interpolation, MapPicture, Scale, Style, Subject, colour_indices
from vitcli.figures.board import Box

_LONGEST = 1024
"""Pixels of a panel's longer side at 150 dpi, at most, so that the figure is not too large to open."""


def panel(pixels: NDArray[np.uint8], *, least: int, most: int = _LONGEST, density: float = 1) -> NDArray[np.uint8]:
    """Resize an image to the size in which it is shown.

    Args:
        pixels: the image, (C, H, W), grey or in colour.
        least: the shorter side is enlarged to at least this by a whole factor, so that pixels stay squares of one size.
        most: the limit for the longer side, at least ``least``; it also limits the factor, and a larger image is made
            smaller.
        density: both limits are multiplied by it.

    Returns:
        The resized image, (H', W', 3).
    """
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).convert("RGB")
    shorter, longer = sorted(image.size)
    least, most = round(least * density), round(max(least, most) * density)
    factor = min(math.ceil(least / shorter), most // longer)
    if factor > 1:
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    elif longer > most:
        size = tuple(max(1, round(side * most / longer)) for side in image.size)
        image = image.resize(
            (size[0], size[1]), Image.Resampling.BOX if longer > 2 * most else Image.Resampling.BICUBIC
        )
    return np.asarray(image)


def spread(
    weights: NDArray[np.float32], y: NDArray[np.float64], x: NDArray[np.float64], interp: Interpolation
) -> NDArray[np.float64]:
    """Interpolate a map between the middles of its patches.

    Beyond the middle of the outermost patches, their values continue.

    Args:
        weights: the map, (h, w).
        y: the rows to interpolate at, in patches: patch i reaches from i to i + 1, and has its value in the middle.
        x: the columns to interpolate at, in patches.
        interp: the kind of interpolation; bicubic is Keys' convolution.

    Returns:
        The values, (rows, columns).
    """
    down, across = (_shares(at, count, interp) for at, count in zip((y, x), weights.shape, strict=True))
    return down @ weights.astype(np.float64) @ across.T


def overlay(
    image: NDArray[np.uint8],
    picture: MapPicture,
    style: Style,
    scale: Scale,
    *,
    box: Box | None = None,
) -> NDArray[np.uint8]:
    """Draw a map over an image, half transparent.

    Args:
        image: the image, (H, W, 3).
        picture: the map.
        style: the colours of the map and their opacity.
        scale: the scale of the map's values.
        box: the part of the image that the map covers; None: all of it.

    Returns:
        The image with the map, (H, W, 3).
    """
    left, top, right, bottom = box or (0, 0, image.shape[1], image.shape[0])
    (rows, y), (columns, x) = _covered(image.shape[0], top, bottom), _covered(image.shape[1], left, right)
    grid = picture.weights.shape
    values = spread(picture.weights, y * grid[0], x * grid[1], style.interp)
    veil = style.alpha * style.colours(is_signed=picture.is_signed).astype(np.float32)
    drawn = image.copy()
    part = drawn[rows, columns]
    part[...] = np.rint(part * np.float32(1 - style.alpha) + veil.take(colour_indices(values, scale), axis=0))
    return drawn


def shown_whole(subject: Subject, *, least: int, density: float = 1) -> tuple[NDArray[np.uint8], Box]:
    """Resize the whole picture to the size in which it is shown, and locate the part that the model saw, in pixels."""
    assert subject.whole is not None
    assert subject.box is not None
    image = panel(subject.whole, least=least, density=density)
    across, down = image.shape[1] / subject.whole.shape[2], image.shape[0] / subject.whole.shape[1]
    left, top, right, bottom = subject.box
    return image, (left * across, top * down, right * across, bottom * down)


def patch_box(patch: tuple[int, int], grid: tuple[int, int], box: Box) -> Box:
    """Locate a patch, (row, column), in a box that the grid covers."""
    left, top, right, bottom = box
    width, height = (right - left) / grid[1], (bottom - top) / grid[0]
    x, y = left + patch[1] * width, top + patch[0] * height
    return x, y, x + width, y + height


def _covered(side: int, start: float, end: float) -> tuple[slice, NDArray[np.float64]]:
    """Find the pixels on one axis with centres between start and end, and their positions, 0 at start to 1 at end."""
    centres = np.arange(side, dtype=np.float64) + 0.5
    first, last = np.searchsorted(centres, start), np.searchsorted(centres, end, side="right")
    return slice(int(first), int(last)), (centres[first:last] - start) / (end - start)


def _shares(positions: NDArray[np.float64], count: int, interp: Interpolation) -> NDArray[np.float64]:
    """Compute the share of each patch in the value at each position, (positions, patches); rows sum to 1."""
    shares = np.zeros((len(positions), count))
    each = np.arange(len(positions))
    if interp == "nearest":
        shares[each, np.floor(positions).astype(int).clip(0, count - 1)] = 1
        return shares
    before = np.floor(positions - 0.5)
    t = positions - 0.5 - before  # 0 at the centre of the patch before, 1 at that of the patch after
    for tap in (0, 1) if interp == "bilinear" else (-1, 0, 1, 2):
        distance = np.abs(t - tap)
        share = 1 - distance if interp == "bilinear" else _keys(distance)
        np.add.at(shares, (each, (before.astype(int) + tap).clip(0, count - 1)), share)
    return shares


def _keys(x: NDArray[np.float64], a: float = -0.75) -> NDArray[np.float64]:
    """Compute the cubic convolution kernel of Keys 1981; ``a`` is that of torch and OpenCV."""
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, far)
