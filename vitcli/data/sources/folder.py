"""Folders of photos in any layout: class subfolders, with or without splits, or a table of labels beside images."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, counted, some
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.files import expanded
from vitcli.data.raw import NO_CLASSES, FileSplit, RawDataset
from vitcli.data.sources import image_folder, label_table
from vitcli.data.sources.image_index import ImageIndex
from vitcli.data.sources.image_search import NO_DATA, in_order
from vitcli.data.sources.names import alike
from vitcli.data.sources.paths import check_folder, table_path


def read(folder: Path, config: DataConfig, emit: Emit) -> RawDataset[FileSplit]:
    """Recognise the layout of a folder and read it.

    Args:
        folder: the folder; an outer folder that contains only another folder, as in many archives, is skipped.
        config: the path of the table of labels, if the labels are not in the folder itself.
        emit: receives notes about the layout.

    Raises:
        DataError: the folder does not exist, or its layout is not known.
        UsageError: the columns of the table are not obvious.
    """
    check_folder(folder, labels=config.labels)
    if config.labels:
        raw = label_table.read(folder, [table_path(folder, expanded(config.labels))], config, emit)
        _mind_classes_alike(raw, emit)
        return raw
    inner = _unwrapped(folder)
    if inner != folder:
        emit(Note(text=f"{folder} has only folders in folders: its images are read from {inner}"))
    raw = replace(_read(inner, config, emit), name=folder.resolve().name)
    _mind_classes_alike(raw, emit)
    return raw


def _mind_classes_alike(raw: RawDataset[FileSplit], emit: Emit) -> None:
    """Warn about classes that may be one, such as ``Cat`` and ``cat``."""
    if pairs := alike(raw.classes):
        one, other = pairs[0]
        are = f"{counted(len(pairs), 'pair')} of classes of {raw.root} differ{'s' * (len(pairs) == 1)}"
        what = f"{are} only in upper and lower case or in spaces"
        emit(Warned(text=f"{what}, as {one!r} and {other!r}: if they are one class, write them alike"))


def read_images(folder: Path, config: DataConfig, emit: Emit) -> RawDataset[FileSplit]:
    """Read a folder as ``read`` does; if it has neither folders of classes nor a table, all images below it, unlabelled.

    Raises:
        DataError: the folder does not exist or has fewer than two images; or it has classes, and ``read`` refuses it.
    """
    check_folder(folder, labels=config.labels)
    inner = _unwrapped(folder)
    if not (config.labels or label_table.find_tables(folder)) and (train := image_folder.unlabelled_train(inner)):
        emit(Note(text=f"of {folder}, only {train} is read, because the other parts are for testing"))
        return replace(read_images(train, config, emit), name=folder.resolve().name)
    if config.labels or label_table.find_tables(folder) or image_folder.has_class_folders(inner):
        return read(folder, config, emit)
    index = ImageIndex(folder)
    if len(index.files) < 2:
        raise DataError(f"{folder} has one image", hint="at least two are needed: one is held out")
    emit(Note(text=f"{folder} has neither folders of classes nor a table of labels: its images count as one kind"))
    image_folder.mind_links(index.passed_over, folder, emit)
    return RawDataset(
        name=folder.resolve().name,
        classes=NO_CLASSES,
        splits={"train": FileSplit(files=index.files, labels=np.zeros(len(index.files), dtype=np.int64))},
        root=folder,
        passed_over=in_order(index.passed_over, folder),
    )


def _read(inner: Path, config: DataConfig, emit: Emit) -> RawDataset[FileSplit]:
    tables = label_table.find_tables(inner)
    if tables and image_folder.has_split_folders(inner):
        emit(Note(text=f"the folders of {inner} are the classes, so {tables[0]} is not read"))
    elif tables:
        try:
            return label_table.read(inner, tables, config, emit)
        except label_table.NoImagesNamedError as error:
            if len(tables) > 1 or not image_folder.has_class_folders(inner):
                raise
            emit(Note(text=f"{error.message}, so the folders are taken as the classes"))
    others = [path for path in label_table.possible_tables(inner) if path not in tables]
    try:
        raw = image_folder.read(inner, skip_bad=config.on_bad_image == "skip", emit=emit)
    except DataError as error:
        if others:
            error.hint = f"if the labels are in a table, --labels {shlex.quote(str(others[0]))} says which"
        raise
    if others:
        given = f"--labels {shlex.quote(str(others[0]))} takes one as the labels"
        emit(
            Warned(
                text=f"the folders of {inner} are the classes, and tables are not read ({some([path.name for path in others])}): {given}"
            )
        )
    return raw


def _unwrapped(folder: Path) -> Path:
    """Skip outer folders that contain only one folder, however many, and return the folder that contains the images."""
    inner = folder
    while True:
        below = [path for path in inner.iterdir() if not path.name.startswith(NO_DATA)]
        if sum(path.is_dir() for path in below) > 1 or any(path.suffix in {".csv", ".jsonl"} for path in below):
            return inner
        if len(below) != 1 or not below[0].is_dir() or image_folder.split_of(below[0].name):
            return folder  # nothing to unwrap: the errors name the folder that was given
        inner = below[0]
