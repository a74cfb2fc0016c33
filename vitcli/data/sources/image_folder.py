"""Image folders: ``train/ [val/] [test/]`` with one subfolder per class, or one folder of class subfolders."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from vitcli.core.errors import DataError, some
from vitcli.core.events import Emit, LeftOut, Note, Warned, ignore
from vitcli.core.provenance import typed_with
from vitcli.data.raw import FileSplit, RawDataset, SplitName
from vitcli.data.sources.image_search import (
    INSTEAD_OF_LINKS,
    LINKED_FOLDERS,
    NO_DATA,
    PassedOver,
    find_images,
    image_names,
    in_order,
    is_image,
    without_images,
)
from vitcli.data.sources.names import natural, plain
from vitcli.data.sources.paths import check_folder

SPLIT_WORDS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "eval": "val",
    "test": "test",
    "testing": "test",
    "holdout": "test",
}
_SPLIT = re.compile(rf"({'|'.join(SPLIT_WORDS)})[ _.-]?(set|data|images|split)?")


def split_of(name: str) -> SplitName | None:
    """Return the split named by a folder or a table cell, such as ``train``, ``Training_set`` or ``val images``."""
    found = _SPLIT.fullmatch(name.lower())
    return SPLIT_WORDS[found[1]] if found else None


def read(folder: Path, *, skip_bad: bool = False, emit: Emit = ignore) -> RawDataset[FileSplit]:
    """Find the images of a folder and their classes; classes are aligned by name across splits.

    Args:
        folder: the folder.
        skip_bad: leave out classes without images, instead of raising an error.
        emit: receives warnings about folders that are ignored, or that may not be classes.

    Raises:
        DataError: the folder does not exist, has no classes, no images or only one class, or a split lacks a class.
    """
    check_folder(folder)
    split_folders = _split_folders(folder, emit)
    if "train" not in split_folders and split_folders:
        names = ", ".join(f"{path.name}/" for path in split_folders.values())
        hint = f"it has {names}; if these are classes, give them other names"
        raise DataError(f"{folder} has no train/ folder", hint=hint)
    order: tuple[SplitName, ...] = get_args(SplitName)
    roots = {name: _inner(split_folders[name]) for name in order if name in split_folders} or {"train": folder}
    test = roots.get("test")
    if test and "train" in split_folders and not _subfolders(test) and find_images(test):
        emit(Note(text=f"{test} has no class subfolders, so its images have no labels: `vit predict` takes them"))
        del roots["test"]
    passed_over: PassedOver = {}
    found = {split: _images_by_class(root, passed_over, skip_bad=skip_bad, emit=emit) for split, root in roots.items()}
    empty = tuple(sorted({name for images in found.values() for name, files in images.items() if not files}))
    what = f"of {len({name for images in found.values() for name in images}):,} class folders without images"
    if empty:
        emit(LeftOut(text=f"left out: {len(empty):,} {what}: {', '.join(empty)}"))
    found = {split: {name: files for name, files in images.items() if files} for split, images in found.items()}
    classes = _aligned_classes({roots[split]: set(images) for split, images in found.items()})
    if not split_folders:
        _mind_folders_of_classes(folder, emit)
    mind_links(passed_over, folder, emit)
    outside = [str(path) for root in {folder, *roots.values()} for path in _loose_images(root)]
    return RawDataset(
        name=folder.resolve().name,
        classes=classes,
        splits={split: _file_split(images, classes) for split, images in found.items()},
        root=folder,
        left_out={what: empty} if empty else {},
        passed_over=in_order(passed_over | ({"outside of the classes": outside} if outside else {}), folder),
    )


def has_split_folders(folder: Path) -> bool:
    """Tell whether there is a ``train/`` folder with class subfolders in it.

    ``train_images/`` does not count, because its subfolders may be scenes or patients.
    """
    named = [path for path in _called_like_splits(folder) if not path.name.lower().endswith(("images", "data"))]
    train = [path for path in named if split_of(path.name) == "train"]
    return any(len(_subfolders(_inner(path))) > 1 for path in train)


def unlabelled_train(folder: Path) -> Path | None:
    """Return the folder of the training split if its images have no classes; None: there is none, or they have."""
    train = next((path for path in _subfolders(folder) if split_of(path.name) == "train"), None)
    return train if train and any(_loose_images(train)) and not _subfolders(train) else None


def has_class_folders(folder: Path) -> bool:
    """Tell whether at least two subfolders contain images."""
    return sum(any(True for _ in image_names(os.fspath(path), {})) for path in _subfolders(folder)) > 1


def mind_links(passed_over: PassedOver, folder: Path, emit: Emit) -> None:
    """Warn about linked folders that are not followed."""
    if links := in_order(passed_over, folder).get(LINKED_FOLDERS):
        emit(Warned(text=f"linked folders below {folder} are not followed: {some(links)}; {INSTEAD_OF_LINKS}"))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(NO_DATA))


def _called_like_splits(folder: Path, emit: Emit = ignore) -> list[Path]:
    """Find the folders of splits; none if the only folder called so is a class, such as ``train`` beside ``bus``.

    It is a class if images lie directly in it and in a folder beside it, and it has no class subfolders.
    """
    subfolders = _subfolders(folder)
    named = [path for path in subfolders if split_of(path.name)]
    if len(named) != 1 or named[0].name.lower() not in SPLIT_WORDS or not any(_loose_images(named[0])):
        return named
    classes = [path.name for path in subfolders if path not in named and any(_loose_images(path))]
    if not classes or has_class_folders(_inner(named[0])):
        return named
    what = f"{named[0]} is taken as a class, as {some(classes)} beside it, because it has no class subfolders"
    emit(Warned(text=f"{what}: if it is a split, give it class subfolders, or move it to another place"))
    return []


def _split_folders(folder: Path, emit: Emit) -> dict[SplitName, Path]:
    """Find the folders of splits, if there are any, and warn about other folders beside them, which are ignored."""
    splits: dict[SplitName, Path] = {}
    for path in _called_like_splits(folder, emit):
        split = split_of(path.name)
        if split in splits:
            raise DataError(
                f"{folder} has two folders for one split: {splits[split].name}/ and {path.name}/",
                hint="give one of them another name, or merge them",
            )
        if split:
            splits[split] = path
    beside = [f"{path.name}/" for path in _subfolders(folder) if path not in splits.values()]
    if splits and beside:
        emit(Warned(text=f"{folder} has split folders, so other folders beside them are ignored: {', '.join(beside)}"))
    return splits


def _inner(split: Path) -> Path:
    """Return the folder that contains a split's classes: archives often have ``test_set/test_set/CLASS``."""
    below = _subfolders(split)
    return _inner(below[0]) if len(below) == 1 and len(_subfolders(below[0])) > 1 else split


def _hidden_classes(folder: Path) -> Path | None:
    """Return the folder whose subfolders may be the real classes, however deep, if no image lies above them."""
    inner = folder
    while not any(_loose_images(inner)):
        below = _subfolders(inner)
        if len(below) != 1:
            return inner if has_class_folders(inner) else None
        inner = below[0]
    return None


def _loose_images(root: Path) -> Iterator[Path]:
    """Yield the images that lie directly in a folder, not in a class folder."""
    return (path for path in root.iterdir() if path.name[0] != "." and path.is_file() and is_image(os.fspath(path)))


def _mind_folders_of_classes(root: Path, emit: Emit) -> None:
    """Warn if all classes hold folders of images, because these may be the real classes."""
    folders = _subfolders(root)
    below = {folder: [path.name for path in _subfolders(folder)] for folder in map(_inner, folders)}
    inner, names = max(below.items(), key=lambda each: len(each[1]))
    if min(map(len, below.values())) < 2:
        return
    if all(set(each) == set(names) for each in below.values()):
        above = (
            "put the splits above the classes"
            if all(map(split_of, names))
            else "call the folders above train/ and test/"
        )
        text = f"each has the subfolders {some(names)}: if that is wrong, {above}"
    elif not any(any(_loose_images(folder)) for folder in below):
        text = f"each holds only folders of images: if those are classes, {typed_with(inner)}"
    else:
        return
    emit(Warned(text=f"the classes are {some([folder.name for folder in folders])}, and {text}"))


def _images_by_class(root: Path, passed_over: PassedOver, *, skip_bad: bool, emit: Emit) -> dict[str, list[Path]]:
    subfolders = _subfolders(root)
    if not subfolders:
        contents = "is empty" if not any(root.iterdir()) else "has no class subfolders"
        hint = (
            "put the images of each class into a subfolder of that name; if this is one class, give the folder above it"
        )
        hint += "; `vit pretrain` learns from images without classes" * any(_loose_images(root))
        raise DataError(f"{root} {contents}", hint=hint)
    _refuse_folders_of_classes(subfolders)
    images: dict[str, list[Path]] = {}
    for path in subfolders:
        if plain(path.name) in images:
            same = "which differ only in composed and decomposed letters: they are one class"
            emit(Note(text=f"{root} has two folders called {plain(path.name)!r}, {same}"))
        images.setdefault(plain(path.name), []).extend(find_images(path, passed_over))
    if not any(images.values()):
        raise without_images(f"{root} has no images", root, passed_over)
    for path in subfolders:
        if not images[plain(path.name)] and not skip_bad:
            raise without_images(f"class {plain(path.name)!r} has no images in {root}", path, passed_over)
    if sum(map(bool, images.values())) < 2:
        only = next(path for path in subfolders if images[plain(path.name)])
        needed = "at least two are needed to train"
        if inner := _hidden_classes(only):
            what = f"{only} holds only folders of images, and no other folder of {root} has images"
            command = typed_with(inner)
            raise DataError(what, hint=f"{command}, if the classes are in there; {needed}")
        raise DataError(f"{root} has one class only: {plain(only.name)!r}", hint=needed)
    return images


def _refuse_folders_of_classes(subfolders: Sequence[Path]) -> None:
    """Refuse a folder that holds only folders of images beside one that holds images: it is no class, but has some."""
    direct = next((path for path in subfolders if any(_loose_images(path))), None)
    deep = ((path, inner) for path in subfolders if (inner := _hidden_classes(path)))
    if direct and (found := next(deep, None)):
        folder, inner = found
        raise DataError(
            f"{folder} holds only folders of images, and {direct.name}/ beside it holds images, so it is not clear"
            " which folders are the classes",
            hint=f"{typed_with(inner)}, if the classes are in there; else move its images up",
        )


def _aligned_classes(by_root: dict[Path, set[str]]) -> tuple[str, ...]:
    """Return the classes of all splits; raise an error if a split lacks one of them."""
    everything = set().union(*by_root.values())
    for root, classes in by_root.items():
        missing = sorted(everything - classes, key=natural)
        if missing:
            what = "a class" if len(missing) == 1 else f"{len(missing)} classes"
            names = some([repr(name) for name in missing])
            raise DataError(f"{root} lacks {what}: {names}", hint="each split needs every class")
    return tuple(sorted(everything, key=natural))


def _file_split(images: dict[str, list[Path]], classes: tuple[str, ...]) -> FileSplit:
    files = [path for name in classes for path in images[name]]
    counts = [len(images[name]) for name in classes]
    return FileSplit(files=files, labels=np.repeat(np.arange(len(classes), dtype=np.int64), counts))
