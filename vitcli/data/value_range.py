"""The range of values of images with more than 8 bits: one for all images of a data set, measured from the files."""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, TaskProgress, Warned
from vitcli.core.preprocessing import Geometry, ValueRange
from vitcli.data.deep_images import OF_16_BITS, extremes, is_cut, is_deep, usual_range
from vitcli.data.prepare import CHUNK
from vitcli.data.preprocess import opened

_MOST_MEASURED = 1000
"""The most images whose values are measured."""
_NEVER_DEEP = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".webp"})
_HALF = 128


def find_value_range(files: Sequence[Path], *, workers: int = 0, emit: Emit) -> ValueRange | None:
    """Find the range of values of the deep images among these files; None if there are none.

    Args:
        files: image files; those that cannot be read are skipped.
        workers: the number of threads that decode; 0: one per core.
        emit: receives the progress, and a warning if 16-bit colours are read with a loss.
    """
    suspects = [file for file in files if file.suffix.lower() not in _NEVER_DEEP]
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        depths = list(pool.map(_depth, suspects))
        deep = _some([file for file, depth in zip(suspects, depths, strict=True) if depth == "deep"])
        cut = _some([file for file, depth in zip(suspects, depths, strict=True) if depth == "cut"])
        found = []
        for start in range(0, len(deep), CHUNK):
            emit(TaskProgress(task="measuring the range of values", done=start, total=len(deep)))
            found += [each for each in pool.map(_extremes, deep[start : start + CHUNK]) if each]
        greatest = max(pool.map(_greatest, cut), default=math.inf)
    if greatest < _HALF:
        emit(
            Warned(
                text=f"{depths.count('cut'):,} images have 16 bits per channel, of which only the upper 8 are read, and"
                f" no value is above {greatest:g} of 255: convert them to 8 bits"
            )
        )
    if not found:
        return None
    return usual_range(min(low for low, _ in found), max(high for _, high in found))


def with_value_range(geometry: Geometry, files: Sequence[Path], emit: Emit) -> Geometry:
    """Return a geometry that can read these files: one without a range of values gets the range of the files."""
    if geometry.value_range:
        return geometry
    found = find_value_range(files, emit=emit)
    warn_of_range(found, emit, why="the model was trained on images with 8 bits per value, and some here have more: ")
    return replace(geometry, value_range=found)


def warn_of_range(found: ValueRange | None, emit: Emit, *, why: str, remedy: str = "") -> None:
    """Say which values are black and white, unless these are the least and greatest of 16 bits."""
    if found and found != OF_16_BITS:
        emit(
            Warned(
                text=f"{why}{found[0]:g} is taken as black and {found[1]:g} as white: a guess from their values{remedy}"
            )
        )


def _some(files: Sequence[Path]) -> Sequence[Path]:
    """Return at most ``_MOST_MEASURED`` files, evenly spaced."""
    return files[:: max(-(-len(files) // _MOST_MEASURED), 1)]


def _depth(file: Path) -> str:
    try:
        with opened(file) as image:
            return "deep" if is_deep(image) else "cut" if is_cut(image) else ""
    except DataError:
        return ""


def _extremes(file: Path) -> ValueRange | None:
    try:
        with opened(file) as image:
            return extremes(image)
    except DataError:
        return None


def _greatest(file: Path) -> float:
    try:
        with opened(file) as image:
            return float(np.asarray(image.convert("L")).max())
    except DataError:
        return 0.0
