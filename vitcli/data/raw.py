"""The images that a source hands over, as arrays or as files, with labels, per split; and ways to divide them."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from vitcli.core.errors import DataError

SplitName = Literal["train", "val", "test"]
Labels = NDArray[np.int64]


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
        """Some of the images, in the order given."""
        return FileSplit(files=[self.files[index] for index in members], labels=self.labels[members])


Split = TypeVar("Split", ArraySplit, FileSplit)


@dataclass(frozen=True, kw_only=True, slots=True)
class RawDataset(Generic[Split]):
    """A data set before its images are prepared. ``train`` is always there; labels index ``classes``."""

    name: str
    classes: tuple[str, ...]
    splits: dict[SplitName, Split]
    root: Path | None = None
    """The folder that the files are in."""
    values: tuple[str, ...] = ()
    """What a table of labels calls the classes, where that is something else."""
    left_out: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By reason, rows and images that are of no use, where these are skipped."""
    passed_over: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By kind, files that are not errors and belong to no class: of other endings, for one."""


def fingerprints(raw: RawDataset[FileSplit]) -> tuple[str, str]:
    """Hash the data (splits, labels, names and sizes of all files), and the files that they are in here and now."""
    assert raw.root is not None
    names = repr((raw.classes, raw.values)).encode()
    data, state = hashlib.sha256(names), hashlib.sha256(os.fsencode(raw.root.resolve()) + names)
    before = len(raw.root.parts)
    for name, split in sorted(raw.splits.items()):
        for file, label in zip(split.files, split.labels, strict=True):
            stat = os.stat(file)  # noqa: PTH116 - a little faster, and there may be a million
            row = f"{name} {label} {stat.st_size} ".encode() + os.fsencode("/".join(file.parts[before:]))
            data.update(row + b"\n")
            state.update(row + f" {stat.st_mtime_ns}\n".encode())
    return data.hexdigest(), state.hexdigest()


def stratified_split(
    labels: Labels, *, fraction: float, seed: int, classes: tuple[str, ...], first: Labels | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of what stays and of what is held out: the given share of every class, at least one image of each.

    A class with one image only stays; images that are the same go the same way, counted in the class of the first.

    Args:
        labels: (N,).
        fraction: to be held out.
        seed: of the choice.
        classes: their names.
        first: (N,), of every image the first one that is the same; None: no two are.

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
        for member in members[:-1]:  # something has to stay
            if copies[member] <= room:
                chosen.append(member)
                room -= copies[member]
            if not room:
                break
        if not chosen and len(members) > 1:  # all are there more often than that
            chosen.append(min(members[:-1], key=lambda member: copies[member]))
        is_held_out[chosen] = True
    if not is_held_out.any():
        raise DataError("no class has two different images, so none can be held out", hint="add images")
    is_held_out = is_held_out[first]
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def stratified_folds(
    labels: Labels, *, folds: int, seed: int, classes: tuple[str, ...], first: Labels | None = None
) -> Labels:
    """The fold of every image, from 0: parts of one size, with every class spread evenly over them.

    A class with fewer images than folds is in none, -1; images that are the same are in the same.

    Args:
        labels: (N,).
        folds: how many.
        seed: of the choice.
        classes: their names.
        first: (N,), of every image the first one that is the same; None: no two are.

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
    """Find the first of every group of equal images, and how often it is there; 0 for all but these first ones."""
    if first is None:
        first = np.arange(count)
    return first, np.bincount(first, minlength=count)
