"""Inspection of images before training: unreadable, unusual and duplicate ones."""

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, TaskProgress
from vitcli.core.files import write_json
from vitcli.core.preprocessing import Geometry, ValueRange
from vitcli.core.stored import read_json
from vitcli.data.dataset import Dataset
from vitcli.data.decoding import read_header, read_kinds
from vitcli.data.prepare import CHUNK
from vitcli.data.preprocess import load_array
from vitcli.data.raw import SplitName

_STORED = "duplicates-3.json"
_END = 4096
"""Number of bytes at the end of files of equal size that are compared first; most files differ there."""
_ALIKE = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif", ".dib": ".bmp", ".heif": ".heic"}
"""Endings of one format."""
_SAME_GRADIENTS, _SAME_MEAN = 0.85, 2.0
"""The least correlation of gradients, and the largest difference of means, of one picture in two formats."""
_SAME_PIXELS = 6.0
"""The largest mean difference of the pixels of one picture in two formats."""
_COMPARED = 64
"""The longest side at which these pixels are compared."""
_MOST_AT_ONCE = 2**22
"""The most pairs of small versions that are compared at once, which bounds the memory."""

ImageIndex = tuple[SplitName, int]
"""An image: the split in which it was found, and its index in that split."""


class _Duplicates(TypedDict):
    groups: list[list[ImageIndex]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """The results of decoding every image."""

    images: int
    bad: dict[ImageIndex, str]
    """Images that cannot be read, and the reason."""
    kinds: dict[str, int]
    """Number of images of each kind: grey, transparent, turned and so on."""
    seconds: float
    """Time that decoding took."""


def inspect(dataset: Dataset, geometry: Geometry, *, workers: int, emit: Emit) -> Inspection:
    """Decode every image of a data set without keeping any, to find unreadable and unusual ones.

    Args:
        dataset: the data set; without files, there is nothing to inspect.
        geometry: the geometry of the decoded images.
        workers: the number of threads that decode; 0: one per core.
        emit: receives the progress.
    """
    bad: dict[ImageIndex, str] = {}
    kinds: dict[str, int] = defaultdict(int)
    if dataset.raw is None:
        return Inspection(images=sum(dataset.facts.counts.values()), bad={}, kinds={}, seconds=0.0)
    files = {(name, at): file for name, split in dataset.raw.splits.items() for at, file in enumerate(split.files)}

    def look(file: Path) -> tuple[str, ...] | str:
        try:
            load_array(file, geometry)
            return read_kinds(file)
        except DataError as error:
            return error.message

    places = list(files)
    started = time.perf_counter()
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for start in range(0, len(places), CHUNK):
            emit(TaskProgress(task="checking images", done=start, total=len(places)))
            chunk = places[start : start + CHUNK]
            for place, found in zip(chunk, pool.map(look, [files[each] for each in chunk]), strict=True):
                if isinstance(found, str):
                    bad[place] = found
                    continue
                for kind in found:
                    kinds[kind] += 1
    emit(TaskProgress(task="checking images", done=len(places), total=len(places)))
    return Inspection(
        images=len(places), bad=bad, kinds=dict(sorted(kinds.items())), seconds=time.perf_counter() - started
    )


def find_duplicates(dataset: Dataset) -> list[list[ImageIndex]]:
    """Find groups of equal images; the result is stored beside the prepared images.

    Images are equal if their files are, byte for byte, or if files of different formats show the same picture.
    """
    stored = dataset.folder / _STORED
    try:
        known: list[list[ImageIndex]] = read_json(stored, _Duplicates)["groups"]
        if all(0 <= at < dataset.facts.counts[name] for group in known for name, at in group):
            return known
    except (OSError, ValueError, KeyError):  # missing or broken: they are searched again
        pass
    groups = _file_duplicates(dataset) if dataset.raw else _array_duplicates(dataset)
    with suppress(OSError):  # if the result cannot be stored, it is computed again next time
        write_json(stored, {"groups": groups})
    return groups


def _file_duplicates(dataset: Dataset) -> list[list[ImageIndex]]:
    """Find groups of equal files; only files of equal size are read, and read whole only if their ends are equal."""
    assert dataset.raw is not None
    files = {(name, at): file for name, split in dataset.raw.splits.items() for at, file in enumerate(split.files)}
    stats = {place: file.stat() for place, file in files.items()}
    links = _grouped(((stat.st_dev, stat.st_ino or place), place) for place, stat in stats.items())
    others = {place for group in links for place in group[1:]}  # a file is read once, however many links it has
    by_size = _grouped((stat.st_size, place) for place, stat in stats.items() if place not in others)
    groups = [
        group
        for same_size in by_size
        for same_end in _grouped((_end(files[place]), place) for place in same_size)
        for group in _grouped((_digest(files[place].read_bytes()), place) for place in same_end)
    ]
    distinct = {place: file for place, file in files.items() if place not in others}
    return _merged([*links, *groups, *_pairs_of_formats(distinct, dataset.facts.value_range)])


def _pairs_of_formats(files: Mapping[ImageIndex, Path], value_range: ValueRange | None) -> Iterator[list[ImageIndex]]:
    """Find pairs of files with different formats, and the same height and width, that show the same picture.

    Formats that lose details change pixels a little, so small versions of the images are compared: by their mean, and
    by the correlation of their gradients, which is small for different images, however alike they are at first sight.
    Where these agree, as for small drawings, all pixels are compared. Only the images of sizes that occur in several
    formats are decoded.
    """
    formats = {place: _ALIKE.get(file.suffix.lower(), file.suffix.lower()) for place, file in files.items()}
    if len(set(formats.values())) < 2:
        return
    geometry = Geometry(size=(32, 32), channels=1, resize="squash", value_range=value_range)
    with ThreadPoolExecutor() as pool:
        for places in _grouped(zip(pool.map(_size, files.values()), files, strict=True)):
            by_format: dict[str, list[ImageIndex]] = defaultdict(list)
            for place in places:
                by_format[formats[place]].append(place)
            if len(by_format) < 2:
                continue
            shapes = {
                name: np.array(list(pool.map(lambda place: _shape(files[place], geometry), those)))
                for name, those in by_format.items()
            }
            for one, other in combinations(by_format, 2):
                for block in _candidates(shapes[one], shapes[other]):
                    pairs = [(by_format[one][at], by_format[other][match]) for at, match in block.tolist()]
                    new = list({place for pair in pairs for place in pair})
                    found = pool.map(lambda place: _pixels(files[place], value_range), new)
                    pixels = dict(zip(new, found, strict=True))
                    for first, second in pairs:
                        if np.abs(pixels[first] - pixels[second]).mean() <= _SAME_PIXELS:
                            yield [first, second]


def _candidates(one: NDArray[np.float32], other: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    """Yield the pairs of images of two formats whose small versions agree, (N, 2), a block of images at a time."""
    size = max(_MOST_AT_ONCE // max(len(other), 1), 1)
    for start in range(0, len(one), size):
        block = one[start : start + size]
        alike = block[:, 1:] @ other[:, 1:].T >= _SAME_GRADIENTS
        alike &= np.abs(block[:, :1] - other[:, 0]) <= _SAME_MEAN
        yield np.argwhere(alike) + np.array([start, 0])


def _pixels(file: Path, value_range: ValueRange | None) -> NDArray[np.int16]:
    """Return the grey pixels of an image that its small version cannot tell from another one."""
    height, width = (min(side, _COMPARED) for side in read_header(file)[0])
    geometry = Geometry(size=(height, width), channels=1, resize="squash", value_range=value_range)
    return load_array(file, geometry).astype(np.int16)


def _size(file: Path) -> object:
    try:
        return read_header(file)[0]
    except DataError:
        return None


def _shape(file: Path, geometry: Geometry) -> NDArray[np.float32]:
    """Compute the mean of an image, and its gradients, scaled to a length of 1; NaN if it cannot be read."""
    try:
        pixels = load_array(file, geometry)[0].astype(np.float32)
    except DataError:
        pixels = np.full(geometry.size, np.nan, dtype=np.float32)
    gradients = np.concatenate([np.diff(pixels, axis=axis).ravel() for axis in (0, 1)])
    return np.append(pixels.mean(), gradients / max(float(np.linalg.norm(gradients)), 1.0))


def _merged(groups: Iterable[list[ImageIndex]]) -> list[list[ImageIndex]]:
    """Merge groups that have an image in common."""
    group_of: dict[ImageIndex, list[ImageIndex]] = {}
    for group in groups:
        whole = list(dict.fromkeys(place for each in group for place in group_of.get(each, [each])))
        group_of |= dict.fromkeys(whole, whole)
    return list({id(group): group for group in group_of.values()}.values())


def _end(file: Path) -> bytes:
    """Return the last bytes of a file; photos of one camera have similar first bytes, and may have equal sizes."""
    with file.open("rb") as content:
        content.seek(max(file.stat().st_size - _END, 0))
        return content.read()


def _array_duplicates(dataset: Dataset) -> list[list[ImageIndex]]:
    geometry = dataset.facts.native_geometry
    assert geometry is not None
    return _grouped(
        (_digest(image.tobytes()), (name, at))
        for name in dataset.facts.counts
        for at, image in enumerate(dataset.split(name, geometry).as_array())
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _grouped(keyed: Iterable[tuple[object, ImageIndex]]) -> list[list[ImageIndex]]:
    """Return the groups of more than one image with the same key."""
    groups: dict[object, list[ImageIndex]] = defaultdict(list)
    for key, place in keyed:
        groups[key].append(place)
    return [group for group in groups.values() if len(group) > 1]


def named(dataset: Dataset, places: Sequence[ImageIndex]) -> list[str]:
    """Return the names of images: their file names, or split and index if there are no files."""
    return [str(dataset.names(name, np.array([at]))[0]) if dataset.raw else f"{name} {at}" for name, at in places]
