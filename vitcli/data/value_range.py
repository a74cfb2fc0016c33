"""The range of values of images with more than 8 bits: one for all images of a data set, measured from the files."""

import math
import os
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitcli.core.errors import DataError, counted
from vitcli.core.events import Emit, Note, TaskProgress, Warned
from vitcli.core.preprocessing import Geometry, ValueRange
from vitcli.data.decoding import opened
from vitcli.data.deep_images import OF_16_BITS, extremes, is_cut, is_deep, usual_range
from vitcli.data.prepare import CHUNK

_MOST_MEASURED = 1000
"""The most images whose values are measured."""
_NEVER_DEEP = (b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF")
"""The first bytes of JPEG, GIF, BMP and WebP files, which have 8 bits per value."""
_USUALLY_SHALLOW = frozenset({".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".webp"})
"""Endings of such files, which are only opened as images if their first bytes are other ones."""
_HALF = 128
_FEW = 64
"""The most images that are compared with the range of a model."""
_SMALL_PART = 0.1
"""The share of a model's range below which the values of images seem to be of another kind."""


def find_value_range(files: Sequence[Path], *, workers: int = 0, emit: Emit) -> ValueRange | None:
    """Find the range of values of the deep images among these files; None if there are none.

    Args:
        files: image files; those that cannot be read are skipped.
        workers: the number of threads that decode; 0: one per core.
        emit: receives the progress, and a warning if 16-bit colours are read with a loss.
    """
    deep, cut = _deep_and_cut(files, workers)
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        greatest = max(pool.map(_greatest, _some(cut)), default=math.inf)
    if greatest < _HALF:
        emit(
            Warned(
                text=f"{counted(len(cut), 'image has')} 16 bits per channel, of which only the upper 8 are read, and no value is"
                f" above {greatest:g} of 255: convert them to 8 bits"
            )
        )
    measured = _measured(deep, workers, emit)
    return usual_range(*measured[:2], whole=measured[2]) if measured else None


def with_value_range(geometries: Collection[Geometry], files: Sequence[Path], emit: Emit) -> dict[Geometry, Geometry]:
    """Return geometries that can read these files: those without a range of values get the range of the files.

    Args:
        geometries: the geometries of models.
        files: the images that they are given.
        emit: receives warnings: of a range that is guessed, and of images that do not fit a model's own range.
    """
    readable = {geometry: geometry for geometry in geometries}
    if lacking := [geometry for geometry in geometries if not geometry.value_range]:
        found = find_value_range(files, emit=emit)
        if found:
            tell_range(
                found, emit, why="the model was trained on images with 8 bits per value, and some here have more: "
            )
        readable |= {geometry: replace(geometry, value_range=found) for geometry in lacking}
    mind_other_values({geometry.value_range for geometry in geometries if geometry.value_range}, files, emit)
    return readable


def mind_other_values(known: Collection[ValueRange], files: Sequence[Path], emit: Emit) -> None:
    """Warn if the values of images do not fit the ranges of the models that they are given to.

    Args:
        known: the ranges of models; empty: they were trained on images with 8 bits per value.
        files: the images; empty: they have 8 bits per value.
        emit: receives the warnings.
    """
    if not known:
        return
    deep, _ = _deep_and_cut(files, workers=0)
    measured = _measured(_some(deep, _FEW), 0, emit)
    for low, high in known:
        asked = f"the model was trained on images with values from {low:g} to {high:g}"
        if not measured:
            emit(Warned(text=f"{asked}, and these have 8 bits per value: they are read from 0 to 255"))
        elif not low <= measured[0] <= measured[1] <= high:
            emit(
                Warned(
                    text=f"{asked}, and these have values from {measured[0]:g} to {measured[1]:g}: the rest is cut off"
                )
            )
        elif measured[1] - measured[0] < _SMALL_PART * (high - low):
            emit(Warned(text=f"{asked}, and these have values from {measured[0]:g} to {measured[1]:g} only"))


def tell_range(found: ValueRange, emit: Emit, *, why: str, remedy: str = "") -> None:
    """Say which values are black and white: a note for the range of 16 bits, else a warning, because it is a guess."""
    words = f"{why}{found[0]:g} is taken as black and {found[1]:g} as white"
    if found == OF_16_BITS:
        emit(Note(text=words))
    else:
        emit(Warned(text=f"{words}: a guess from their values{remedy}"))


def _deep_and_cut(files: Sequence[Path], workers: int) -> tuple[list[Path], list[Path]]:
    """Return the deep images among files, and those of which the upper 8 bits are read."""
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        depths = list(pool.map(_depth, files))
    deep, cut = ([file for file, depth in zip(files, depths, strict=True) if depth == kind] for kind in ("deep", "cut"))
    return deep, cut


def _measured(deep: Sequence[Path], workers: int, emit: Emit) -> tuple[float, float, bool] | None:
    """Return the smallest and greatest value of deep images, and whether all values are whole; None: there are none."""
    sample = _some(deep)
    if len(sample) < len(deep):
        emit(Note(text=f"the range of values is measured on {len(sample):,} of {len(deep):,} images"))
    found: list[tuple[float, float, bool]] = []
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for start in range(0, len(sample), CHUNK):
            emit(TaskProgress(task="measuring the range of values", done=start, total=len(sample)))
            found += [each for each in pool.map(_extremes, sample[start : start + CHUNK]) if each]
    emit(TaskProgress(task="measuring the range of values", done=len(sample), total=len(sample)))
    if not found:
        return None
    if len({whole for *_, whole in found}) > 1:
        emit(Warned(text="some images have whole numbers and some have fractions, and one range is used for both"))
    return min(low for low, *_ in found), max(high for _, high, _ in found), all(whole for *_, whole in found)


def _some(files: Sequence[Path], most: int = _MOST_MEASURED) -> Sequence[Path]:
    """Return at most ``most`` files, evenly spaced."""
    return files[:: max(-(-len(files) // most), 1)]


def _depth(file: Path) -> str:
    try:
        if file.suffix.lower() in _USUALLY_SHALLOW:
            with file.open("rb") as content:
                if content.read(4).startswith(_NEVER_DEEP):
                    return ""
        with opened(file) as image:
            return "deep" if is_deep(image) else "cut" if is_cut(image) else ""
    except (DataError, OSError):
        return ""


def _extremes(file: Path) -> tuple[float, float, bool] | None:
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
