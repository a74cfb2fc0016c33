"""Decoded photos: kept in memory or in a file, or decoded on every access."""

import os
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitcli.core.errors import DataError, some
from vitcli.core.events import Emit, LeftOut, Note, TaskProgress, Warned
from vitcli.core.files import bytes_in_words, remove_abandoned, writing_in
from vitcli.core.memory import free_memory
from vitcli.core.preprocessing import Geometry
from vitcli.data.cache import Images, PreparedSplit, read_split, write_split
from vitcli.data.decoding import read_header
from vitcli.data.preprocess import load_array
from vitcli.data.raw import FileSplit

CHUNK = 256
"""The most images that are decoded between two progress reports."""
_CHUNK_BYTES = 2**25
"""The most bytes of images that are decoded between two progress reports."""
_MARGIN = 2**28
"""Bytes that a cache leaves free on the disk."""
_UNKNOWN_MEMORY = 4 * 2**30
"""Bytes of free memory that are assumed if the system does not report them."""
_MEMORY_SHARE = 0.5
"""The share of the free memory that decoded images may take."""
UNREADABLE = -1
"""The label of an image that could not be decoded and is skipped."""
BAD_IMAGE_HINT = "replace or remove such files; `vit train` and `vit pretrain` leave them out with --on-bad-image skip, and `vit train --dry-run` lists them"


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """Settings for the preparation of photos."""

    cache: Literal["auto", "ram", "disk", "off"] = "auto"
    workers: int = 0
    """Number of threads that decode; 0: one per core."""
    skip_bad: bool = False
    """Give unreadable images the label ``UNREADABLE``; otherwise the first of them is an error."""
    told: set[str] = field(default_factory=set)
    """Places already reported to the user, because images are kept there only for lack of a better place."""


class StreamedImages:
    """Photos that are decoded on every access, but used like a tensor: uint8, (N, C, H, W)."""

    device = torch.device("cpu")

    def __init__(self, files: Sequence[Path], geometry: Geometry, workers: int) -> None:
        self.files = files
        self.geometry = geometry
        self.shape = torch.Size((len(files), geometry.channels, *geometry.size))
        self._pool = ThreadPoolExecutor(workers or os.cpu_count())

    def __getitem__(self, indices: Tensor) -> Tensor:
        """Decode the images at these indices: (B,) -> (B, C, H, W)."""
        files = [self.files[index] for index in indices.tolist()]
        if not files:  # a process's share of a small batch
            return torch.empty((0, *self.shape[1:]), dtype=torch.uint8)
        return torch.from_numpy(np.stack(list(self._pool.map(lambda file: _load(file, self.geometry), files))))

    def numel(self) -> int:
        """Return the size in bytes that all decoded images would have."""
        return self.shape.numel()


def prepare(
    split: FileSplit, geometry: Geometry, path: Path, how: Preparation, *, name: str, emit: Emit
) -> PreparedSplit:
    """Decode the images of a split into a file or memory, or set them up to be decoded on every access.

    Args:
        split: the image files.
        geometry: the geometry of the decoded images.
        path: the file for the decoded images, if they are kept on disk.
        how: where images are kept, and whether unreadable ones are skipped.
        name: the name of the split, for messages.
        emit: receives the progress, and a warning if the images fit nowhere and are decoded again in every epoch.

    Raises:
        DataError: an image cannot be read; the message names it.
    """
    shape = (geometry.channels, *geometry.size)
    size = len(split.files) * int(np.prod(shape))
    labels, stretch = split.labels.copy(), np.ones(len(split.labels), dtype=np.float32)
    place = _choose_cache(size, path, how, name, emit)
    task = f"preparing {name} images"
    if place == "disk":
        remove_abandoned(path.parent)
        with writing_in(path.parent):
            write_split(path, _decoded(split, labels, stretch, geometry, how, emit, task), labels, shape, stretch)
        return read_split(path, in_memory=False if how.cache == "disk" else None)
    if place == "ram":
        images = np.empty((len(labels), *shape), dtype=np.uint8)
        done = 0
        for chunk in _decoded(split, labels, stretch, geometry, how, emit, task):
            images[done : done + len(chunk)] = chunk
            done += len(chunk)
        found: Images = torch.from_numpy(images)
    else:
        if how.skip_bad:  # unreadable images must be known before the first batch
            for _ in _decoded(split, labels, stretch, geometry, how, emit, f"checking {name} images"):
                pass
        elif geometry.resize != "crop":
            with ThreadPoolExecutor(how.workers or os.cpu_count()) as pool:
                stretch[:] = list(pool.map(lambda file: _stretch(file, geometry), split.files))
        found = StreamedImages(split.files, geometry, how.workers)
    return PreparedSplit(images=found, labels=torch.from_numpy(labels), stretch=torch.from_numpy(stretch))


def any_readable(split: FileSplit, geometry: Geometry, workers: int) -> bool:
    """Tell whether an image can be read, which could not be before: for lack of a package or of memory, for example."""

    def is_readable(file: Path) -> bool:
        try:
            load_array(file, geometry)
        except DataError:
            return False
        return True

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        return any(pool.map(is_readable, split.files))


def mind_bad(names: Sequence[str], total: int, *, why: str = "", skip: bool, emit: Emit) -> None:
    """Report unreadable images: raise an error, or only warn if ``skip`` is set and other images remain."""
    what = f"{len(names):,} of {total:,} images cannot be read"
    examples = some(names)
    if len(names) == total:
        raise DataError(why or f"{what}: {examples}", hint="replace the files that are not images")
    if not skip:
        raise DataError(why or f"{what}: {examples}", hint=BAD_IMAGE_HINT)
    emit(LeftOut(text=f"left out: {what}: {examples}"))


def _choose_cache(size: int, path: Path, how: Preparation, name: str, emit: Emit) -> Literal["ram", "disk", "off"]:
    """Choose where images of ``size`` bytes are kept: in the first allowed place with enough room, else nowhere."""
    if how.cache == "off":
        return "off"
    memory, disk = free_memory() or _UNKNOWN_MEMORY, _free_disk(path)
    fits: dict[Literal["disk", "ram"], bool] = {
        "disk": size + _MARGIN < disk,
        "ram": size < _MEMORY_SHARE * memory,
    }
    wanted: tuple[Literal["disk", "ram"], ...] = ("disk", "ram") if how.cache == "auto" else (how.cache,)
    chosen: Literal["ram", "disk", "off"] = next((place for place in wanted if fits[place]), "off")
    if chosen == wanted[0] or chosen in how.told:
        return chosen
    how.told.add(chosen)
    numbers = (
        f"decoded {name} images take {bytes_in_words(size)}; {bytes_in_words(disk)} are free in"
        f" {path.parent.parent}, and {bytes_in_words(memory)} of memory"
    )
    if chosen == "ram":
        emit(Note(text=f"{numbers}: they are kept in memory, and decoded again for the next run"))
    else:
        emit(Warned(text=f"{numbers}: they are decoded again in every epoch (--data-dir names another disk)"))
    return chosen


def _decoded(
    split: FileSplit,
    labels: NDArray[np.int64],
    stretch: NDArray[np.float32],
    geometry: Geometry,
    how: Preparation,
    emit: Emit,
    task: str,
) -> Iterator[NDArray[np.uint8]]:
    """Decode image files in parallel, and yield the images in order, a chunk at a time.

    Unreadable images that are skipped are black, and get the label ``UNREADABLE``. The stretch of all others is filled
    in. While the caller writes a chunk, the next one is decoded.
    """
    shape, total = (geometry.channels, *geometry.size), len(split.files)
    size = min(CHUNK, max(_CHUNK_BYTES // int(np.prod(shape)), 1))

    def decode(chunk: NDArray[np.uint8], start: int, at: int) -> None:
        try:
            chunk[at - start] = _load(split.files[at], geometry)
            stretch[at] = _stretch(split.files[at], geometry)
        except DataError:
            if not how.skip_bad:
                raise
            labels[at] = UNREADABLE
            chunk[at - start] = 0

    with ThreadPoolExecutor(how.workers or os.cpu_count()) as pool:

        def begin(start: int) -> tuple[NDArray[np.uint8], list[Future[None]]]:
            members = range(start, min(start + size, total))
            chunk = np.empty((len(members), *shape), dtype=np.uint8)
            return chunk, [pool.submit(decode, chunk, start, at) for at in members]

        chunk, decoding = begin(0)
        for start in range(0, total, size):
            emit(TaskProgress(task=task, done=start, total=total))
            for each in decoding:
                each.result()
            ready = chunk
            if start + size < total:
                chunk, decoding = begin(start + size)
            yield ready
    emit(TaskProgress(task=task, done=total, total=total))


def _load(file: Path, geometry: Geometry) -> NDArray[np.uint8]:
    try:
        return load_array(file, geometry)
    except DataError as error:
        raise DataError(error.message, hint=BAD_IMAGE_HINT) from None


def _stretch(file: Path, geometry: Geometry) -> float:
    """Compute what a column of the stored image covers of the photo, as a multiple of what a row covers."""
    if geometry.resize == "crop":
        return 1.0
    try:
        (height, width), _ = read_header(file)
    except DataError:  # decoding the image says why
        return 1.0
    return (width / geometry.size[1]) / (height / geometry.size[0])


def _free_disk(path: Path) -> int:
    """Return the bytes free on the disk of a path; 0 if this process may not write there."""
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0
