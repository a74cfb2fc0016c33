"""Out-of-fold predictions of a cross-validation, read again: every image, as the fold predicts it that was not trained on it."""

import csv
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitcli.core.errors import RunError, counted, some
from vitcli.core.events import Emit, Warned
from vitcli.core.files import plain_cell
from vitcli.core.runs import Run

OUT_OF_FOLD = "out-of-fold.csv"
"""The file of the table in the folder of a cross-validation."""
PROBABILITY = "probability of "
"""The beginning of the name of a class's column."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class OutOfFoldRows:
    """The rows of a stored table."""

    path: Path
    names: tuple[str, ...]
    """The name of each image, or its number as text if the data set has no files."""
    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """(images, classes)"""

    def of(self, names: Sequence[str | None], classes: Sequence[str]) -> NDArray[np.float32]:
        """Return the probabilities of these classes for images, (N, K); NaN for images without a row, or a name.

        Raises:
            RunError: the table is of other classes.
        """
        if {*classes} != {*self.classes}:
            odd = sorted({*classes} ^ {*self.classes})
            raise _unusable(self.path, f"is of other classes: {some(odd)}")
        rows: dict[str | None, int] = {name: row for row, name in enumerate(self.names)}
        order = [self.classes.index(name) for name in classes]
        found = np.full((len(names), len(order)), np.nan, dtype=np.float32)
        for at, name in enumerate(names):
            if name in rows:
                found[at] = self.probabilities[rows[name]][order]
        return found


def read_out_of_fold(folds: Sequence[Run], emit: Emit) -> OutOfFoldRows:
    """Read the table of a cross-validation; warn if images that its folds validate on have no row.

    Raises:
        RunError: the table is missing or broken.
    """
    path = folds[0].path.parent / OUT_OF_FOLD
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
        why = "" if all(fold.status == "finished" for fold in folds) else ": not all folds are finished"
        hint = f"`vit train --resume {shlex.quote(str(path.parent))}` writes it"
        raise RunError(f"{path} is missing{why}", hint=hint) from None
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from None
    except (ValueError, StopIteration):
        raise _unusable(path, "is not a table of out-of-fold predictions") from None
    if not np.isfinite(probabilities).all():
        raise _unusable(path, "is broken: some probabilities are not numbers")
    validated = {name for fold in folds for name in _validated(fold)}
    if missing := len(validated.difference(names)):
        why = f"no prediction of {missing:,} of {counted(len(validated), 'image')} that the folds validate on"
        emit(Warned(text=f"{path} has {why}: they could not be read, or the table was cut off"))
    classes = tuple(each.removeprefix(PROBABILITY) for each in header[3:])
    return OutOfFoldRows(path=path, names=tuple(names), classes=classes, probabilities=probabilities)


def by_fold(folds: Sequence[Run], names: Sequence[str | int]) -> list[list[int]]:
    """Return the positions of the images that each fold predicts, because it was not trained on them."""
    return [[at for at, name in enumerate(names) if str(name) in each] for each in map(_validated, folds)]


def _validated(fold: Run) -> set[str]:
    """Return the names of the images that a fold validates on."""
    if not fold.split:
        again = f"`vit train --from-run {shlex.quote(str(fold.path.parent))}` trains the folds again"
        raise RunError(f"{fold.path} has no split.json, so the images that it validates on are not known", hint=again)
    return {*map(str, fold.split["held_out"].get("val", ()))}


def _unusable(path: Path, why: str) -> RunError:
    hint = f"remove it, then `vit train --resume {shlex.quote(str(path.parent))}` writes it again"
    return RunError(f"{path} {why}", hint=hint)
