"""Out-of-fold predictions of a cross-validation, read again: every image, as the fold predicts it that was not trained on it."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitcli.core.errors import RunError
from vitcli.core.files import plain_cell
from vitcli.core.runs import Run

OUT_OF_FOLD = "out-of-fold.csv"
"""The file of the table in the folder of a cross-validation."""
PROBABILITY = "probability of "
"""The beginning of the name of a class's column."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OutOfFoldRows:
    """The rows of a stored table."""

    names: tuple[str, ...]
    """The name of each image, or its number as text if the data set has no files."""
    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """(images, classes)"""

    def of(self, names: Sequence[str | None], classes: Sequence[str]) -> NDArray[np.float32]:
        """Return the probabilities of these classes for images, (N, K); NaN for images without a row, or a name."""
        rows: dict[str | None, int] = {name: row for row, name in enumerate(self.names)}
        order = [self.classes.index(name) for name in classes]
        found = np.full((len(names), len(order)), np.nan, dtype=np.float32)
        for at, name in enumerate(names):
            if name in rows:
                found[at] = self.probabilities[rows[name]][order]
        return found


def read_out_of_fold(path: Path) -> OutOfFoldRows:
    """Read a table of out-of-fold predictions.

    Raises:
        RunError: the table is missing or broken.
    """
    hint = f"remove it, then `vit train --resume {path.parent}` writes it again"
    names, values = [], []
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            header = next(reader)
            for name, _, _, *cells in reader:
                names.append(plain_cell(name))
                values.append(np.array(cells, dtype=np.float32))
        probabilities = np.stack(values).reshape(len(values), len(header) - 3)
    except FileNotFoundError:
        raise RunError(f"{path} is missing: not all folds are finished", hint=hint.partition("then ")[2]) from None
    except (ValueError, StopIteration):
        raise RunError(f"{path} is not a table of out-of-fold predictions", hint=hint) from None
    classes = tuple(each.removeprefix(PROBABILITY) for each in header[3:])
    return OutOfFoldRows(names=tuple(names), classes=classes, probabilities=probabilities)


def by_fold(folds: Sequence[Run], names: Sequence[str | int]) -> list[list[int]]:
    """Return the positions of the images that each fold predicts, because it was not trained on them."""
    held_out = [{*map(str, (fold.split or {})["held_out"].get("val", ()))} for fold in folds]
    return [[at for at, name in enumerate(names) if str(name) in each] for each in held_out]
