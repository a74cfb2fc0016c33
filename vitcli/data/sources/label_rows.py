"""Rows of a table of labels, each matched to the image that it names; rows that cannot be used are counted and named."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, counted, some
from vitcli.core.events import Emit, LeftOut, Note, Warned
from vitcli.data.sources.image_folder import split_of
from vitcli.data.sources.image_index import ImageIndex
from vitcli.data.sources.names import NO_LABEL, is_for_testing
from vitcli.data.sources.table_file import Table

_ABOUT_IMAGES = (".csv", ".json", ".jsonl", ".md", ".tsv", ".txt")
"""Endings of files that are expected beside a table."""


def labelled_images(
    table: Table,
    index: ImageIndex,
    columns: tuple[int, int, int | None],
    config: DataConfig,
    left_out: dict[str, tuple[str, ...]],
    emit: Emit,
) -> dict[Path, tuple[str, int]]:
    """Return the label and row number of every image with a label; rows that cannot be used go into ``left_out``.

    Args:
        table: the rows.
        index: the images.
        columns: the columns of image names, of labels, and of splits; None: there are no splits.
        config: whether rows that cannot be used are left out.
        left_out: receives the names in rows that cannot be used, by reason.
        emit: receives warnings.

    Raises:
        DataError: a name may mean several images, or rows cannot be used and are not to be left out.
    """
    image, label, split = columns
    found: dict[Path, tuple[str, int]] = {}
    missing, again = [], []
    unlabelled: dict[str, Path] = {}
    files = _images_of_rows(table, index, image, split, emit)
    for number, (row, file) in enumerate(zip(table.rows, files, strict=True)):
        if not file:
            missing.append(row[image] or f"line {table.lines[number]}")
        elif row[label].lower() in NO_LABEL:
            unlabelled[row[image]] = file
        elif file not in found:
            found[file] = row[label], number
        else:
            again.append((file, row))
    about_label = {file: row[image] for file, row in again if row[label] != found[file][0]}
    about_split = {
        file: row[image]
        for file, row in again
        if split is not None and split_of(row[split]) != split_of(table.rows[found[file][1]][split])
    }
    total, with_label, disagreeing = len(table.rows), len(found), {*about_label, *about_split}
    useless = {
        f"of {total:,} rows with images that are not there": missing,
        f"of {total:,} rows without a label": list(unlabelled),
        f"of {with_label:,} images with rows that disagree about the label": list(about_label.values()),
        f"of {with_label:,} images with rows that disagree about the split": list(about_split.values()),
    }
    for what, names in useless.items():
        if names:
            _complain(what, names, config, emit, all_of=total)
            left_out[what] = tuple(names)
    if repeated := [row[image] for file, row in again if file not in disagreeing]:
        emit(Warned(text=f"{counted(len(repeated), 'row repeats')} other rows: {some(repeated)}"))
    _pass_over_others(index, {*found, *unlabelled.values()})
    return {file: labelled for file, labelled in found.items() if file not in disagreeing}


def _images_of_rows(table: Table, index: ImageIndex, image: int, split: int | None, emit: Emit) -> list[Path | None]:
    """Return the image that each row names: in the folder of the row's split, if there is one; None: it is missing."""
    candidates = [index.find(row[image]) for row in table.rows]
    are_numbered_alike = split is None and any(
        len({_is_for_testing(index, file) for file in files}) > 1 for files in candidates
    )
    chosen: list[Path | None] = []
    dropped: list[str] = []
    for number, (row, files) in enumerate(zip(table.rows, candidates, strict=True)):
        wanted = None if split is None else split_of(row[split])
        fitting = [file for file in files if wanted and _split_of_folder(index, file) == wanted]
        fitting = fitting or files
        for_training = [file for file in fitting if not _is_for_testing(index, file)] or fitting
        dropped += [row[image]] * (len(for_training) < len(fitting))
        file = _image_of_row(table, number, row[image], for_training)
        # Images for testing that are called as those for training are not those of this table
        is_other = file and are_numbered_alike and _is_for_testing(index, file) and not _has_folder(row[image])
        chosen.append(None if is_other else file)
    elsewhere = [
        row[image]
        for row, file in zip(table.rows, chosen, strict=True)
        if file and index.is_in_another_folder(row[image], file)
    ]
    if elsewhere:
        are_rows = (
            f"{counted(len(elsewhere), 'row')} of {table.path} with the name of another folder: {some(elsewhere)}"
        )
        emit(Warned(text=f"{are_rows}; images of the same names in {index.folder} are taken"))
    if dropped:
        are_names = f"{counted(len(dropped), 'name')} of {table.path} could also mean images for testing"
        emit(Note(text=f"{are_names}, which are not taken: {some(dropped)}"))
    return chosen


def _pass_over_others(index: ImageIndex, known: AbstractSet[Path]) -> None:
    """Record images without a row as ignored files; do not report files that are expected beside a table."""
    for kind in _ABOUT_IMAGES:
        index.passed_over.pop(kind, None)
    for file in index.files:
        if file not in known:
            kind = "for testing, without a row" if _is_for_testing(index, file) else "without a row"
            index.passed_over.setdefault(kind, []).append(str(file))


def _image_of_row(table: Table, number: int, name: str, files: list[Path]) -> Path | None:
    """Return the image that a row names, of those that it may name, or None if it is missing."""
    if len(files) > 1:
        places = " and ".join(str(file) for file in files[:2])
        raise DataError(
            f"line {table.lines[number]} of {table.path} names {name!r}, which may be {places}",
            hint="write the folder too",
        )
    return files[0] if files else None


def _split_of_folder(index: ImageIndex, file: Path) -> str | None:
    """Return the split that the folders of an image name; None: they name none."""
    named = next(filter(None, map(split_of, index.parts[file][:-1])), None)
    return named or ("test" if _is_for_testing(index, file) else None)


def _is_for_testing(index: ImageIndex, file: Path) -> bool:
    """Tell whether an image is in a folder of images without labels."""
    parts = index.parts[file]
    return len(parts) > 1 and is_for_testing(parts[0])


def _has_folder(name: str) -> bool:
    return len(PurePosixPath(name.replace("\\", "/")).parts) > 1


def _complain(what: str, names: Sequence[str], config: DataConfig, emit: Emit, *, all_of: int = 0) -> None:
    """Report rows: raise an error, or only warn if ``on_bad_image`` is "skip" and other rows remain."""
    text = f"{len(names):,} {what}: {some(names)}"
    if config.on_bad_image == "error" or len(names) == all_of:
        raise DataError(text, hint="fix the table, or --on-bad-image skip leaves them out")
    emit(LeftOut(text=f"left out: {text}"))
