"""The submission file that a competition expects: its test images, in the columns of its sample submission."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from vitcli.core.errors import DataError, FileError, counted, some
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.files import check_output_file, csv_text
from vitcli.data.dataset import Dataset
from vitcli.data.sources.image_index import ImageIndex
from vitcli.data.sources.names import is_for_testing
from vitcli.data.sources.table_file import read_table

_TEST = "test"


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionForm:
    """The columns of a submission, and one row per test image, in order."""

    columns: tuple[str, ...]
    """The column of image names, then one column of labels or a column of probabilities for every class."""
    rows: tuple[tuple[str, Path], ...]
    """The name of each image in the submission, and its file."""
    sample: Path | None = None
    """The sample submission; None: there is none."""
    has_fractions: bool = False
    """True if the sample has one column of answers, and numbers such as 0.5 in it."""

    def check_file(self, path: Path) -> None:
        """Raise FileError if another file than an earlier submission would be replaced."""
        check_output_file(path)
        if not path.is_file():
            return
        if self.sample and path.samefile(self.sample):
            raise FileError(f"{path} is the sample submission, and would be replaced", hint="give another name")
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            found = [row[:1] for row in islice(csv.reader(file), 2)]
        if found and found != [[self.columns[0]], *([name] for name, _ in self.rows[:1])]:
            raise FileError(f"{path} is a file of another kind, and would be replaced", hint="give another name")

    def has_positive_probability(self, values: Sequence[str], *, with_probabilities: bool) -> bool:
        """Tell whether the one column of answers has the probability of label 1, as asked or as in the sample."""
        is_wanted = with_probabilities or self.has_fractions
        return is_wanted and len(self.columns) == 2 and sorted(map(_whole, values)) == ["0", "1"]

    def filled(
        self,
        classes: Sequence[str],
        values: Sequence[str],
        probabilities: Sequence[Sequence[float]],
        *,
        with_probabilities: bool = False,
    ) -> tuple[tuple[str, ...], str]:
        """Fill in the submission.

        Args:
            classes: the names of the classes.
            values: the labels that the competition uses for the classes.
            probabilities: one sequence per row, with one value per class.
            with_probabilities: instead of one column of labels, write one column of probabilities for every label; of
                the labels 0 and 1, write the probability of 1 into the column of labels, as also if the sample has
                fractions there.

        Returns:
            The columns, and the CSV text.

        Raises:
            DataError: the columns are neither one label nor the classes.
        """
        columns, wanted = self.columns, self.columns[1:]
        order = [] if len(wanted) == 1 else _order(wanted, classes, values)
        if not order and self.has_positive_probability(values, with_probabilities=with_probabilities):
            order = [[_whole(value) for value in values].index("1")]
        elif not order and with_probabilities:
            order = list(range(len(values)))
            columns = (columns[0], *values)
        lines: list[Sequence[str]] = [columns]
        for (name, _), row in zip(self.rows, probabilities, strict=True):
            likeliest = values[max(range(len(row)), key=row.__getitem__)]
            lines.append([name, *([f"{row[at]:.6f}" for at in order] or [likeliest])])
        return columns, csv_text(lines)


def _whole(label: str) -> str:
    """Return a label without the .0 that programs write for whole numbers if other rows have no label."""
    return label.removesuffix(".0")


def find_form(root: Path, emit: Emit = ignore) -> SubmissionForm:
    """Find the test images and the columns of a submission in a competition's folder.

    Args:
        root: the folder of the competition.
        emit: receives a note that names the sample submission, or says what is guessed without one.

    Raises:
        DataError: there are no test images, the sample submission names images that are missing, or any of several
            files may be the sample submission.
    """
    folder, samples = _test_folder(root), _sample_submissions(root)
    if folder is None:
        raise DataError(f"{root} has no test images", hint=f"expected: a folder whose name begins with {_TEST!r}")
    if len(samples) > 1:
        names = some([path.name for path in samples])
        hint = f"move all but the one of the competition out of {root}"
        raise DataError(f"{root} has {len(samples)} files that may be the sample submission: {names}", hint=hint)
    index = ImageIndex(folder)
    if not samples:
        return _guessed_form(root, folder, index.files, emit)
    sample = samples[0]
    table = read_table(sample, is_image=lambda _: False, emit=ignore)
    found = [(row[0], index.find(row[0])) for row in table.rows]
    if missing := [name for name, files in found if len(files) != 1]:
        raise DataError(
            f"{counted(len(missing), 'image')} of {sample} cannot be found in {folder}, for example {missing[0]!r}",
            hint="download the data again",
        )
    rows = tuple((name, files[0]) for name, files in found)
    emit(Note(text=f"sample submission: {sample}, with {counted(len(rows), 'row')}"))
    if lacking := len(index.files) - len({file for _, file in rows}):
        what = f"{counted(lacking, 'image')} of {folder}, so the submission has no rows for them"
        emit(Warned(text=f"{sample} does not name {what}; if it is not that of the competition, move it elsewhere"))
    has_fractions = len(table.header) == 2 and any(_is_fraction(row[1]) for row in table.rows)
    return SubmissionForm(columns=table.header, rows=rows, sample=sample, has_fractions=has_fractions)


def _guessed_form(root: Path, folder: Path, files: Sequence[Path], emit: Emit) -> SubmissionForm:
    """Make the form without a sample: images are called by their names, or if names repeat by their paths."""
    form = SubmissionForm(columns=("image_id", "label"), rows=tuple((file.name, file) for file in files))
    called = "names"
    if len({name for name, _ in form.rows}) < len(files):
        form = replace(form, rows=tuple((file.relative_to(folder).as_posix(), file) for file in files))
        called = f"paths in {folder.name}/"
    guessed = f"the columns are guessed ({', '.join(form.columns)}), and images are called by their {called}"
    emit(Note(text=f"{root} has no sample submission: {guessed}"))
    return form


def _is_fraction(cell: str) -> bool:
    """Tell whether a cell has a number that is not whole."""
    try:
        number = float(cell)
    except ValueError:
        return False
    return math.isfinite(number) and not number.is_integer()


def competition_folder(dataset: Dataset) -> Path | None:
    """Return the folder of test images without labels, on which a competition judges; None: there is no such folder."""
    root = dataset.raw.root if dataset.raw else None
    is_judged_elsewhere = root and "test" not in dataset.facts.counts and _sample_submissions(root)
    return _test_folder(root) if root and is_judged_elsewhere else None


def _test_folder(root: Path) -> Path | None:
    named = sorted(path for path in root.iterdir() if path.name.lower().startswith(_TEST) and path.is_dir())
    folders = [path for path in named if is_for_testing(path.name)]
    return next((path for path in folders if "tfrec" not in path.name.lower()), None)


def _sample_submissions(root: Path) -> list[Path]:
    """List the files that may be the sample submission: those called a sample, else all that are called a submission."""
    named = [path for path in sorted(root.glob("*.csv")) if "submission" in path.stem.lower()]
    return [path for path in named if "sample" in path.stem.lower()] or named


def _order(wanted: Sequence[str], classes: Sequence[str], values: Sequence[str]) -> list[int]:
    for names in (classes, values):
        if sorted(wanted) == sorted(names):
            return [list(names).index(name) for name in wanted]
    raise DataError(f"the columns of the sample submission are not the model's classes: {', '.join(wanted[:5])}")
