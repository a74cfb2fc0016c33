"""Labels of a folder of images, from a table: a CSV file, or a plain list of names and labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, counted, did_you_mean, some
from vitcli.core.events import Emit, Note
from vitcli.data.raw import FileSplit, RawDataset, SplitName
from vitcli.data.sources.image_folder import SPLIT_WORDS, mind_links, split_of
from vitcli.data.sources.image_index import ImageIndex
from vitcli.data.sources.image_search import in_order
from vitcli.data.sources.label_map import class_names
from vitcli.data.sources.label_rows import labelled_images
from vitcli.data.sources.names import NO_LABEL, WHOLE_NUMBER, is_for_testing, natural, plain
from vitcli.data.sources.table_file import Nested, Table, join_splits, read_table

_LABEL_NAMES = ("label", "labels", "class", "class_name", "classname", "target", "category", "species", "breed", "y")
_SPLIT_NAMES = ("split", "set", "subset", "data set", "dataset", "partition", "split folder")
_SAMPLE = 200
"""Number of rows that are read to recognise the columns."""
_ONES, _ZEROS = {"1", "1.0"}, {"0", "0.0"}


class NoImagesNamedError(DataError):
    """A table in which no column names images."""


def find_tables(folder: Path) -> list[Path]:
    """Find the file of labels in a folder, or those in its folders of splits; empty if there is none, or no clear one.

    Hugging Face's image folders have the latter: ``train/metadata.csv`` beside the images, or ``metadata.jsonl``.
    """
    files = [path for path in possible_tables(folder) if path.suffix == ".csv"] or sorted(folder.glob("metadata.jsonl"))
    preferred = [path for path in files if _is_called_for_training(path)]
    if len(preferred) == 1 or len(files) == 1:
        return (preferred or files)[:1]
    metadata = [path for path in folder.glob("*/metadata.*") if path.suffix in {".csv", ".jsonl", ".parquet"}]
    found = sorted(
        {path.parent: path for path in sorted(metadata, reverse=True) if split_of(path.parent.name)}.values()
    )
    return found if "train" in {split_of(path.parent.name) for path in found} else []


def possible_tables(folder: Path) -> list[Path]:
    """List the files in a folder that may be tables of labels, those that are called so first."""
    files = [path for path in folder.glob("[!.]*") if path.suffix.lower() in {".csv", ".tsv"}]
    labelled = [path for path in files if not is_for_testing(path.stem, by_its_end=True)]
    return sorted(labelled, key=lambda path: (not _is_called_for_training(path), path))


def _is_called_for_training(path: Path) -> bool:
    return path.stem.lower().startswith(("train", "label"))


def read(folder: Path, table_files: Sequence[Path], config: DataConfig, emit: Emit) -> RawDataset[FileSplit]:
    """Read the images of a folder, with the labels of a table.

    Args:
        folder: the folder that contains the images, at any depth.
        table_files: the table; its first row may name the columns, and a plain list has a name and a label per line.
            Or the table of each split, in the folder of the split.
        config: the columns, if they are not obvious, and what to do with rows that cannot be used.
        emit: receives notes about guesses, and warnings about rows that are left out.

    Raises:
        DataError: the file, the images or a column are missing, it is not obvious which column has the labels, rows cannot
            be used, or there is only one class.
    """
    index = ImageIndex(folder)
    tables = [read_table(file, is_image=index.has, emit=emit) for file in table_files]
    table = (
        tables[0] if len(tables) == 1 else join_splits(tables, config.image_column or _file_column(tables[0], index))
    )
    table, image, label = _columns(table, index, config, emit)
    _refuse_cells_that_are_no_names(table, image, label)
    split = _split_column(table, emit)
    _write_alike(table, label, emit)
    mind_links(index.passed_over, folder, emit)
    left_out: dict[str, tuple[str, ...]] = {}
    labelled = labelled_images(table, index, (image, label, split), config, left_out, emit)
    if not labelled:
        raise DataError(f"no row of {table.path} can be used", hint="fix the table; --on-bad-image error says why")
    values = sorted({value for value, _ in labelled.values()}, key=natural)
    _refuse_what_are_no_classes(values, len(labelled), table, label)
    names = class_names(values, folder, config, emit)
    number = {value: at for at, value in enumerate(values)}
    splits: dict[SplitName, dict[Path, int]] = {}
    for file, (value, row) in labelled.items():
        name = "train" if split is None else split_of(table.rows[row][split])
        assert name is not None
        splits.setdefault(name, {})[file] = number[value]
    if "train" not in splits:
        raise DataError(f"{table.path} has no rows for training", hint=f"it has {', '.join(splits)}")
    return RawDataset(
        name=folder.resolve().name,
        classes=names,
        splits={
            name: FileSplit(files=list(splits[name]), labels=np.array(list(splits[name].values()), dtype=np.int64))
            for name in get_args(SplitName)
            if name in splits
        },
        root=folder,
        values=tuple(values),
        left_out=left_out,
        passed_over=in_order(index.passed_over, folder),
    )


def _file_column(table: Table, index: ImageIndex) -> str:
    """Return the name of the column that names images in the table's own folder; else Hugging Face's usual name."""
    folder = table.path.parent.name
    cells = zip(table.header, table.rows[0], strict=True)
    found = [(name, cell) for name, cell in cells if cell and index.find(f"{folder}/{cell}")]
    whole = [name for name, cell in found if Path(cell).suffix]  # a number of a row has no ending
    return next(iter([*whole, *(name for name, _ in found)]), "file_name")


def _split_column(table: Table, emit: Emit) -> int | None:
    """Find the column that names the split of each row, if there is one."""
    for at, name in enumerate(table.header):
        found = {row[at].lower() for row in table.rows}
        if name.lower() not in _SPLIT_NAMES or not any(map(split_of, found)):
            continue
        if unknown := [repr(value) for value in sorted(found) if not split_of(value)]:
            raise DataError(
                f"column {name!r} of {table.path} has splits that are not known: {some(unknown)}",
                hint=f"known are {', '.join(SPLIT_WORDS)}; rename the column if it means something else",
            )
        emit(Note(text=f"splits: column {name!r} of {table.path}"))
        return at
    return None


def _columns(table: Table, index: ImageIndex, config: DataConfig, emit: Emit) -> tuple[Table, int, int]:
    """Find the columns of image names and of labels, and add the latter if it is one-hot; report guesses."""
    image = _named_column(table, config.image_column, "--image-column")
    if image is None:
        sample = table.rows[:_SAMPLE]
        found = [[(row[at], file) for row in sample for file in index.find(row[at])] for at in range(len(table.header))]
        # Labels may also match images, as 0 matches 0.png, but few different ones; numbers of rows match as many
        hits = [len({file for _, file in each}) for each in found]
        whole = [sum(name.endswith(file.suffix) for name, file in each) for each in found]
        image = max(range(len(hits)), key=lambda at: (hits[at], whole[at]))
        if not hits[image]:
            raise NoImagesNamedError(
                f"no column of {table.path} names images of {index.folder}: for example {table.rows[0]}",
                hint="--image-column NAME says which, and the images must be in the folder, and called as in the table",
            )
    label = _named_column(table, config.label_column, "--label-column")
    if label is None:
        others = [at for at, name in enumerate(table.header) if at != image and name.lower() not in _SPLIT_NAMES]
        called = [at for at in others if table.header[at].lower() in _LABEL_NAMES]
        if len(called) == 1 or len(others) == 1:
            label = (called if len(called) == 1 else others)[0]
        else:
            table, label = _with_labels(table, index, image, others), len(table.header)
    if not (config.image_column and config.label_column):
        columns = f"images in {table.header[image]!r}, labels in {table.header[label]!r}"
        emit(Note(text=f"labels: {table.path}, {columns}"))
    return table, image, label


def _with_labels(table: Table, index: ImageIndex, image: int, others: Sequence[int]) -> Table:
    """Add a column of labels to a table that has a column of 0 and 1 for each class (one-hot)."""
    binary = [at for at in others if all(row[at] in _ONES | _ZEROS for row in table.rows)]
    labels = [[table.header[at] for at in binary if row[at] in _ONES] for row in table.rows]
    folders = {parts[0] for parts in index.parts.values() if len(parts) > 1}
    classes = [name for name in folders if not split_of(name) and not is_for_testing(name)]
    if len(classes) > 1 or len(binary) < 2 or (len(binary) < len(others) and any(len(each) != 1 for each in labels)):
        names = ", ".join(table.header[at] for at in others)
        raise DataError(f"which column of {table.path} is the label: {names}?", hint="--label-column NAME")
    columns = some([table.header[at] for at in binary])
    if several := [row[image] for row, each in zip(table.rows, labels, strict=True) if len(each) > 1]:
        raise DataError(
            f"{counted(len(several), 'row')} of {table.path} with a 1 in several of the columns {columns}: {some(several)}",
            hint="an image can have one class only; --label-column NAME takes one column as the label",
        )
    rows = [[*row, "".join(each)] for row, each in zip(table.rows, labels, strict=True)]
    return replace(table, header=(*table.header, f"{columns} (one-hot)"), rows=rows)


def _refuse_cells_that_are_no_names(table: Table, image: int, label: int) -> None:
    """Refuse names and labels of several lines, as a quote that is not closed makes them, and lists in JSON lines."""
    is_json = table.path.suffix == ".jsonl"
    for line, row in zip(table.lines, table.rows, strict=True):
        for at in (image, label):
            where = f"line {line} of {table.path} has, in column {table.header[at]!r}, "
            if len(row[at].splitlines()) > 1 and not is_json:
                hint = "close the quote before it, or write the cell in one line"
                raise DataError(f"{where}a line break: {row[at]!r}", hint=hint)
            if isinstance(row[at], Nested):
                option = "--image-column" if at == image else "--label-column"
                hint = f"expected: a text or a number; {option} NAME takes another column"
                raise DataError(f"{where}a list or an object: {row[at]}", hint=hint)


def _write_alike(table: Table, label: int, emit: Emit) -> None:
    """Write equal labels alike: with composed letters, and 1.0 as 1 if both are there."""
    for row in table.rows:
        row[label] = plain(row[label])
    values = {row[label] for row in table.rows if row[label].lower() not in NO_LABEL}
    numbers = {value: str(int(found[1])) for value in values if (found := WHOLE_NUMBER.fullmatch(value))}
    counts = Counter(numbers.values())
    alike = sorted(value for value, number in numbers.items() if counts[number] > 1)
    if not alike:
        return
    text = f"column {table.header[label]!r} of {table.path} has the labels {some(alike)}"
    if len(numbers) < len(values):
        raise DataError(f"{text}, and others that are not whole numbers: are they one class?", hint="write them alike")
    emit(Note(text=f"{text}: equal numbers are one class"))
    for row in table.rows:
        row[label] = numbers.get(row[label], row[label])


def _named_column(table: Table, name: str, option: str) -> int | None:
    if not name:
        return None
    places = [at for at, known in enumerate(table.header) if plain(known) == plain(name)]
    if len(places) > 1:
        raise DataError(f"{table.path} has {len(places)} columns called {name!r}", hint="rename one of them")
    if not places:
        hint = did_you_mean(name, table.header, otherwise=f"it has {', '.join(table.header)}")
        raise DataError(f"{table.path} has no column {name!r} ({option})", hint=hint)
    return places[0]


def _refuse_what_are_no_classes(values: Sequence[str], images: int, table: Table, label: int) -> None:
    column, another = f"column {table.header[label]!r} of {table.path} has", "--label-column NAME names another"
    if len(values) < 2:
        raise DataError(f"{column} one class only: {values[0]!r}", hint="two are needed")
    if len(values) == images > 2:
        raise DataError(f"{column} a different value for each of {images:,} images: is this the label?", hint=another)
    if len(values) > 50 and len(values) > images / 2:
        raise DataError(f"{column} {len(values):,} values for {images:,} images: too many classes", hint=another)
