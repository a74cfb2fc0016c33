"""Inspect images before they are trained on: which are broken, odd, or there twice."""

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, TaskProgress
from vitcli.core.files import write_json
from vitcli.core.preprocessing import Geometry
from vitcli.data.dataset import Dataset
from vitcli.data.prepare import CHUNK
from vitcli.data.preprocess import load_array, read_kinds
from vitcli.data.raw import SplitName

_STORED = "duplicates-1.json"
_END = 4096
"""Bytes that tell most files of one size apart."""

ImageIndex = tuple[SplitName, int]
"""An image: the split that it was found in, and its index there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """Every image, decoded."""

    images: int
    bad: dict[ImageIndex, str]
    """Those that cannot be read, and why."""
    kinds: dict[str, int]
    """How many are grey, transparent, turned and so on."""
    seconds: float
    """It took to decode them."""


def inspect(dataset: Dataset, geometry: Geometry, *, workers: int, emit: Emit) -> Inspection:
    """Decode every image of a data set, and keep none.

    Args:
        dataset: the data set; where it has no files there is nothing to find.
        geometry: what images become.
        workers: threads that decode; 0: one per core.
        emit: told about the progress.
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
    """Groups of images that are the same, byte for byte; found once, and kept beside what is prepared."""
    stored = dataset.folder / _STORED
    try:
        content = json.loads(stored.read_text(encoding="utf-8"))
        return [[(name, at) for name, at in group] for group in content["groups"]]
    except (OSError, ValueError, TypeError, KeyError):
        groups = _file_duplicates(dataset) if dataset.raw else _array_duplicates(dataset)
        with suppress(OSError):  # where it cannot be kept, it is looked for again
            write_json(stored, {"groups": groups})
        return groups


def _file_duplicates(dataset: Dataset) -> list[list[ImageIndex]]:
    """Only files of one size are read, and as a whole only where they end alike."""
    assert dataset.raw is not None
    files = {(name, at): file for name, split in dataset.raw.splits.items() for at, file in enumerate(split.files)}
    by_size = _grouped((file.stat().st_size, place) for place, file in files.items())
    return [
        group
        for same_size in by_size
        for same_end in _grouped((_end(files[place]), place) for place in same_size)
        for group in _grouped((_digest(files[place].read_bytes()), place) for place in same_end)
    ]


def _end(file: Path) -> bytes:
    """The last bytes of a file: in photos of one camera the first ones are alike, and the sizes may be."""
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
    """The groups of more than one with the same key."""
    groups: dict[object, list[ImageIndex]] = defaultdict(list)
    for key, place in keyed:
        groups[key].append(place)
    return [group for group in groups.values() if len(group) > 1]


def named(dataset: Dataset, places: Sequence[ImageIndex]) -> list[str]:
    """Images by the names of their files; without files, by split and number."""
    return [str(dataset.names(name, np.array([at]))[0]) if dataset.raw else f"{name} {at}" for name, at in places]
