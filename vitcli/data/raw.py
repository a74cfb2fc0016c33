"""What a source hands over: images as arrays or as files, with labels, per split; and ways to divide them."""

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


def stratified_split(
    labels: Labels, *, fraction: float, seed: int, classes: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of what stays and of what is held out: the given share of every class, at least one image of each.

    Raises:
        DataError: a class is too small to be split.
    """
    generator = np.random.default_rng(seed)
    kept, held_out = [], []
    for index, name in enumerate(classes):
        members = generator.permutation(np.flatnonzero(labels == index))
        count = max(1, round(len(members) * fraction))
        if len(members) - count < 1:
            raise DataError(
                f"class {name!r} has too few images ({len(members)}) to hold some out",
                hint="add images, or make the folders train/, val/ and test/ yourself",
            )
        held_out.append(members[:count])
        kept.append(members[count:])
    return np.sort(np.concatenate(kept)), np.sort(np.concatenate(held_out))


def stratified_folds(labels: Labels, *, folds: int, seed: int, classes: tuple[str, ...]) -> Labels:
    """The fold of every image, from 0: parts of one size, with every class spread evenly over them.

    Raises:
        DataError: a class has fewer images than there are folds.
    """
    generator = np.random.default_rng(seed)
    result = np.empty_like(labels)
    dealt = 0
    for index, name in enumerate(classes):
        members = generator.permutation(np.flatnonzero(labels == index))
        if len(members) < folds:
            raise DataError(
                f"class {name!r} has too few images ({len(members)}) for {folds} folds",
                hint=f"add images, or --folds {len(members)}" if len(members) > 1 else "add images",
            )
        result[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return result
