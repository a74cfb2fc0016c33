"""Attention through the layers, as an animation."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from vitcli.core.files import replacing
from vitcli.figures.attention_map import draw_panels
from vitcli.figures.attention_style import MapPicture, Style, Subject
from vitcli.figures.attention_words import short_evenness

_MILLISECONDS = 500
_LAST_MILLISECONDS = 1500


def write_gif(
    subject: Subject,
    maps: NDArray[np.float32],
    path: Path,
    style: Style,
    *,
    layers: Sequence[str],
    method: str = "attention",
    unit: str = "",
) -> None:
    """Write an animation of the maps of all layers, one after the other, on one scale; it loops.

    Args:
        subject: the image.
        maps: the map of each layer, (L, h, w).
        path: the GIF file.
        style: the style of the maps.
        layers: names of the L layers.
        method: the name of the maps.
        unit: the meaning of a value.
    """
    notes = ", ".join(filter(None, (unit, "one scale for all layers")))
    pictures = [
        MapPicture(method=f"{method}: {layer}{_even(weights)}", weights=weights, unit=notes)
        for weights, layer in zip(maps, layers, strict=True)
    ]
    frames = [draw_panels(subject, each, style, among=pictures).image() for each in pictures]
    first, *others = _with_one_palette(frames)
    durations = [_MILLISECONDS] * len(others) + [_LAST_MILLISECONDS]
    with replacing(path) as temporary:
        first.save(temporary, format="gif", save_all=True, append_images=others, duration=durations, loop=0)


def _even(weights: NDArray[np.float32]) -> str:
    """Say of a layer's map that there is little to see in it, if that is so."""
    words = short_evenness(MapPicture(method="", weights=weights))
    return f" ({words})" if words else ""


def _with_one_palette(frames: Sequence[Image.Image]) -> list[Image.Image]:
    """Convert frames to one palette of 256 colours; parts that never change are dithered once, so as not to flicker."""
    boxes = [ImageChops.difference(frames[0], frame).getbbox() for frame in frames]
    found = np.array([box for box in boxes if box is not None], dtype=int).reshape(-1, 4)
    sample = np.concatenate([np.asarray(frame)[:: len(frames)] for frame in frames])
    palette = Image.fromarray(sample).quantize(256)
    ground = frames[0].quantize(palette=palette)
    if not len(found):
        return [ground.copy() for _ in frames]
    left, top, right, bottom = (int(at) for at in (*found.min(axis=0)[:2], *found.max(axis=0)[2:]))
    drawn = []
    for frame in frames:
        image = ground.copy()
        image.paste(frame.crop((left, top, right, bottom)).quantize(palette=palette), (left, top))
        drawn.append(image)
    return drawn
