"""The images and labels that a source returns, as arrays or files per split, and ways to split them further."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vitcli.core.errors import DataError
from vitcli.core.fingerprints import with_content

NO_CLASSES = ("images",)
"""The classes of images without labels, which all count as one."""

SplitName = Literal["train", "val", "test"]
Labels = NDArray[np.int64]
_READING = b"2"
"""The version in which image files are read; with a new one, every folder is prepared anew."""
_FEW_SIZES = 10
"""If more than half of all files have one of so few sizes, as uncompressed images do, sizes do not tell files apart."""
_MOST_READ = 256
"""The most files of which a part is read."""
_PART = 4096
"""The number of bytes in the middle of a file that tell it from others of its size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ArraySplit:
    """Images of one size in memory: uint8, (N, C, H, W)."""

    images: NDArray[np.uint8]
    labels: Labels


@dataclass(frozen=True, kw_only=True, slots=True)
class FileSplit:
    """Images on disk, of any size."""

    files: list[Path]
    labels: Labels

    def take(self, members: NDArray[np.int64]) -> "FileSplit":
        """Return some of the images, in the given order."""
        return FileSplit(files=[self.files[index] for index in members], labels=self.labels[members])


Split = TypeVar("Split", ArraySplit, FileSplit)


@dataclass(frozen=True, kw_only=True, slots=True)
class RawDataset(Generic[Split]):
    """A data set before its images are prepared; it always has ``train``, and labels are indices of ``classes``."""

    name: str
    classes: tuple[str, ...]
    splits: dict[SplitName, Split]
    root: Path | None = None
    """The folder that contains the files."""
    values: tuple[str, ...] = ()
    """The label of each class as a table of labels writes it; empty if there is no table."""
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Rows, images and folders that cannot be used and are skipped, by reason."""
    passed_over: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Files that are ignored because they belong to no class, by kind, for example by their ending."""


def fingerprints(raw: RawDataset[FileSplit]) -> tuple[str, str]:
    """Return the fingerprint of the data, and a second one of its state on this machine.

    The first covers the classes, the splits, and the labels, names and sizes of all files; where sizes tell little, as
    of uncompressed images, also a part of some of them. The second covers the same, the path of the folder, the
    modification times, and the version in which files are read.
    """
    assert raw.root is not None
    names = repr((raw.classes, raw.values)).encode()
    data, state = hashlib.sha256(names), hashlib.sha256(_READING + os.fsencode(raw.root.resolve()) + names)
    before, found = len(raw.root.parts), list[tuple[Path, int]]()
    for name, split in sorted(raw.splits.items()):
        for file, label in zip(split.files, split.labels, strict=True):
            stat = os.stat(file)  # noqa: PTH116 - a little faster, and there may be a million
            found.append((file, stat.st_size))
            row = f"{name} {label} {stat.st_size} ".encode() + os.fsencode("/".join(file.parts[before:]))
            data.update(row + b"\n")
            state.update(row + f" {stat.st_mtime_ns}\n".encode())
    frequent = Counter(size for _, size in found).most_common(_FEW_SIZES)
    content = ""
    if sum(count for _, count in frequent if count > 1) > len(found) / 2:
        some = found[:: max(-(-len(found) // _MOST_READ), 1)]
        content = hashlib.sha256(b"".join(_middle(file, size) for file, size in some)).hexdigest()[:16]
        state.update(content.encode())
    return with_content(data.hexdigest(), content), state.hexdigest()


def _middle(file: Path, size: int) -> bytes:
    """Return some bytes from the middle of a file; empty if it cannot be read, which is told elsewhere."""
    try:
        with file.open("rb") as content:
            content.seek(max(size - _PART, 0) // 2)
            return content.read(_PART)
    except OSError:
        return b""


def stratified_split(
    labels: Labels, *, fraction: float, seed: int, classes: tuple[str, ...], first: Labels | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the indices of the images that stay, and of those held out: a share of every class.

    At least one image of every class is held out, but a class with only one different image stays whole. Copies of one
    image stay together, and count in the class of the first copy.

    Args:
        labels: the class of each image, (N,).
        fraction: the share of each class to hold out.
        seed: the seed of the random choice.
        classes: the names of the classes.
        first: for each image, the index of the first identical image, (N,); None: no two images are identical.

    Raises:
        DataError: no class can be split.
    """
    generator = np.random.default_rng(seed)
    first, copies = _copies(first, len(labels))
    is_held_out = np.zeros(len(labels), dtype=bool)
    for index in range(len(classes)):
        members = generator.permutation(np.flatnonzero((labels == index) & (copies > 0)))
        total = int(copies[members].sum())
        room = min(max(1, round(total * fraction)), total - 1)
        chosen = []
        for member in members[:-1]:  # at least one image has to stay
            if copies[member] <= room:
                chosen.append(member)
                room -= copies[member]
            if not room:
                break
        if not chosen and len(members) > 1:  # every image has more copies than should be held out
            chosen.append(min(members[:-1], key=lambda member: copies[member]))
        is_held_out[chosen] = True
    if not is_held_out.any():
        raise DataError("no class has two different images, so none can be held out", hint="add images")
    is_held_out = is_held_out[first]
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def stratified_folds(
    labels: Labels, *, folds: int, seed: int, classes: tuple[str, ...], first: Labels | None = None
) -> Labels:
    """Return the fold of every image, counted from 0: folds of about equal size, with every class spread evenly.

    A class with fewer images than folds is in no fold (-1). Copies of one image are in the same fold.

    Args:
        labels: the class of each image, (N,).
        folds: the number of folds.
        seed: the seed of the random choice.
        classes: the names of the classes.
        first: for each image, the index of the first identical image, (N,); None: no two images are identical.

    Raises:
        DataError: every class has fewer images than there are folds.
    """
    generator = np.random.default_rng(seed)
    first, copies = _copies(first, len(labels))
    result = np.full_like(labels, -1)
    most = dealt = 0
    for index in range(len(classes)):
        members = generator.permutation(np.flatnonzero((labels == index) & (copies > 0)))
        most = max(most, len(members))
        if len(members) < folds:
            continue
        members = members[np.argsort(-copies[members], kind="stable")]
        result[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    if not dealt:
        raise DataError(
            f"no class has {folds} different images for {folds} folds",
            hint=f"add images, or --folds {most}" if most > 1 else "add images",
        )
    return result[first]


def _copies(first: Labels | None, count: int) -> tuple[Labels, Labels]:
    """Return the index of the first copy of each image, and the number of copies of each first one (others: 0)."""
    if first is None:
        first = np.arange(count)
    return first, np.bincount(first, minlength=count)
