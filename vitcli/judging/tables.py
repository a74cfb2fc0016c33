"""CSV tables of an evaluation: one row per image, and the confusion matrix."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcli.core.errors import DataError
from vitcli.core.files import csv_text, safe_cell, write_text

if TYPE_CHECKING:
    from vitcli.judging.answers import Answers  # needs torch


def write_predictions(path: Path, answers: "Answers", names: Sequence[str] | Sequence[int]) -> None:
    """Write one row for each image, in the order of the data set.

    Columns: path, truth, prediction, probability, margin, rank of the truth, loss, then the most probable classes with
    their probabilities. Texts that a spreadsheet would compute begin with an apostrophe, as in ``vit predict --csv``.
    """
    classes = [safe_cell(name) for name in answers.classes]
    tops = range(1, answers.top.shape[1] + 1)
    of_top = [f"{what}_{place}" for place in tops for what in ("class", "probability")]
    lines: list[tuple[Any, ...]] = [("path", "truth", "prediction", "probability", "margin", "rank", "loss", *of_top)]
    columns = (answers.truth, answers.margin, answers.rank, answers.loss, answers.top, answers.probability)
    rows = zip(names, *(column.tolist() for column in columns), strict=True)
    for name, truth, margin, rank, loss, top, probabilities in rows:
        best = [part for pair in zip((classes[at] for at in top), probabilities, strict=True) for part in pair]
        cell = safe_cell(name) if isinstance(name, str) else name
        lines.append((cell, classes[truth], best[0], best[1], margin, rank, loss, *best))
    write_text(path, csv_text(lines))


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredAnswer:
    """The stored answer to one image."""

    truth: str
    prediction: str
    probability: float
    """The probability of the predicted class."""
    loss: float


def read_predictions(path: Path) -> dict[str, StoredAnswer]:
    """Read the table of ``write_predictions``: the answer by the name of the image; texts are as in the table.

    Raises:
        DataError: the file is missing, broken, or is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            return {
                row["path"]: StoredAnswer(
                    truth=row["truth"],
                    prediction=row["prediction"],
                    probability=float(row["probability"] or "nan"),
                    loss=float(row["loss"] or "nan"),
                )
                for row in csv.DictReader(file)
            }
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is not a table of predictions, or is broken: {error}") from None


def write_confusion(path: Path, confusion: Sequence[tuple[int, int, int]], classes: Sequence[str]) -> None:
    """Write the numbers of images that are not 0: true class, predicted class, images; one row for each pair."""
    names = [safe_cell(name) for name in classes]
    rows = [(names[truth], names[predicted], images) for truth, predicted, images in confusion]
    write_text(path, csv_text([("truth", "prediction", "images"), *rows]))
