"""Image folders: ``train/ [val/] [test/]`` with one subfolder per class, or one folder of class subfolders."""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.data.raw import FileSplit, RawDataset, SplitName

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SPLIT_FOLDERS: dict[str, SplitName] = {
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


def read(folder: Path, *, emit: Emit = ignore) -> RawDataset[FileSplit]:
    """Find the images of a folder and their classes; classes are aligned by name across splits.

    Args:
        folder: the folder.
        emit: warned about folders that are passed over.

    Raises:
        DataError: no folder, no classes, no images, one class only, or a class that one of the splits lacks.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", hint="give a folder of class subfolders, or a name of `vit datasets`")
    split_folders = _split_folders(folder, emit)
    if "train" not in split_folders and split_folders:
        raise DataError(f"{folder} has no train/ folder", hint=f"it has {', '.join(_names(split_folders))}")
    roots = dict(split_folders) or {"train": folder}
    test = roots.get("test")
    if test and "train" in split_folders and not _subfolders(test) and find_images(test):
        emit(Note(text=f"{test} has no class subfolders, so its images have no labels: `vit predict` takes them"))
        del roots["test"]
    found = {split: _images_by_class(root) for split, root in roots.items()}
    classes = _aligned_classes({roots[split]: set(images) for split, images in found.items()})
    splits = {split: _file_split(images, classes) for split, images in found.items()}
    return RawDataset(name=folder.resolve().name, classes=classes, splits=splits, root=folder)


def has_split_folders(folder: Path) -> bool:
    """Whether there is a ``train/`` with class subfolders in it."""
    train = [path for path in _subfolders(folder) if SPLIT_FOLDERS.get(path.name.lower()) == "train"]
    return any(len(_subfolders(path)) > 1 for path in train)


def has_class_folders(folder: Path) -> bool:
    """Whether there are at least two subfolders with images in them."""
    return sum(any(True for _ in _image_names(os.fspath(path))) for path in _subfolders(folder)) > 1


def find_images(folder: Path) -> list[Path]:
    """Every image file below a folder, sorted; hidden files and folders are passed over."""
    return [Path(name) for name in sorted(_image_names(os.fspath(folder)), key=lambda name: name.split(os.sep))]  # noqa: PTH206


def _image_names(folder: str) -> Iterator[str]:
    """Strings, for there may be a million: paths take their time."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__MACOSX")):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _image_names(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():  # noqa: PTH122
                yield entry.path


class ImageIndex:
    """The images below a folder, found by however their names are written.

    With or without folders, whichever of them; with or without the suffix; composed or decomposed letters.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = find_images(folder)
        if not self.files:
            raise DataError(f"{folder} has no images", hint="give the folder that the images are in")
        self.parts = {file: PurePosixPath(_plain(file.relative_to(folder).as_posix())).parts for file in self.files}
        self._by_end: dict[tuple[str, ...], list[Path]] = {}
        for file, parts in self.parts.items():
            for name in {parts[-1], PurePosixPath(parts[-1]).stem}:
                for end in {(name,), (*parts[-2:-1], name), (*parts[:-1], name)}:
                    self._by_end.setdefault(end, []).append(file)

    def find(self, name: str) -> list[Path]:
        """The images that a name may mean: none, one, or several of one name in different folders."""
        wanted = tuple(part for part in PurePosixPath(_plain(name.replace("\\", "/"))).parts if part not in {"/", "."})
        if not wanted:
            return []
        ends = wanted, wanted[-2:], wanted[-1:]  # the longest first: thousands may share a name in different folders
        candidates = next((found for end in ends if (found := self._by_end.get(end))), [])
        whole = [file for file in candidates if self.parts[file][-1] == wanted[-1]] or candidates
        fitting = [file for file in whole if _ends_alike(self.parts[file][:-1], wanted[:-1])]
        exact = [file for file in fitting if self.parts[file][:-1] == wanted[:-1]]
        return exact if len(exact) == 1 else fitting


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _split_folders(folder: Path, emit: Emit) -> dict[SplitName, Path]:
    """The folders of the splits, where there are some; what stands beside them does not count, and that is said."""
    subfolders = _subfolders(folder)
    splits: dict[SplitName, Path] = {}
    for path in subfolders:
        split = SPLIT_FOLDERS.get(path.name.lower())
        if split in splits:
            raise DataError(f"{folder} has two folders for one split: {splits[split].name}/ and {path.name}/")
        if split:
            splits[split] = path
    beside = [f"{path.name}/" for path in subfolders if path not in splits.values()]
    if splits and beside:
        emit(Warned(text=f"{folder} has splits, so what stands beside them is passed over: {', '.join(beside)}"))
    return splits


def _images_by_class(root: Path) -> dict[str, list[Path]]:
    subfolders = _subfolders(root)
    if not subfolders:
        contents = "is empty" if not any(root.iterdir()) else "has no class subfolders"
        raise DataError(f"{root} {contents}", hint="put the images of each class into a subfolder of that name")
    images = {path.name: find_images(path) for path in subfolders}
    if not any(images.values()):
        raise DataError(f"{root} has no images", hint=f"files that count: {' '.join(sorted(IMAGE_SUFFIXES))}")
    for name, files in images.items():
        if not files:
            raise DataError(f"class {name!r} has no images in {root}", hint="add some, or remove the folder")
    if len(images) < 2:
        raise DataError(f"{root} has one class only: {next(iter(images))!r}", hint="at least two are needed to train")
    return images


def _aligned_classes(by_root: dict[Path, set[str]]) -> tuple[str, ...]:
    """The classes of all splits; every split must have all of them."""
    everything = set().union(*by_root.values())
    for root, classes in by_root.items():
        missing = sorted(everything - classes)
        if missing:
            names = ", ".join(repr(name) for name in missing[:5]) + (" ..." if len(missing) > 5 else "")
            raise DataError(f"{root} lacks {_count(missing)}: {names}", hint="each split needs every class")
    return tuple(sorted(everything))


def _count(missing: list[str]) -> str:
    return "a class" if len(missing) == 1 else f"{len(missing)} classes"


def _file_split(images: dict[str, list[Path]], classes: tuple[str, ...]) -> FileSplit:
    files = [path for name in classes for path in images[name]]
    counts = [len(images[name]) for name in classes]
    return FileSplit(files=files, labels=np.repeat(np.arange(len(classes), dtype=np.int64), counts))


def _names(folders: dict[SplitName, Path]) -> list[str]:
    return [f"{path.name}/" for path in folders.values()]


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _ends_alike(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether the shorter of two paths is the end of the longer."""
    length = min(len(one), len(other))
    return length == 0 or tuple(one[-length:]) == tuple(other[-length:])
