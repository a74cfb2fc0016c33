"""Image folders: ``train/ [val/] [test/]`` with one subfolder per class, or one folder of class subfolders."""

from pathlib import Path

import numpy as np

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, Warned, ignore
from vitcli.data.raw import FileSplit, RawDataset, SplitName, stratified_split

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
_SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_SPLIT_SEED = 0
"""Of the test split, which must be the same for every run that is compared."""


def read(folder: Path, *, test_fraction: float, emit: Emit = ignore) -> RawDataset[FileSplit]:
    """Find the images of a folder and their classes; classes are aligned by name across splits.

    Args:
        folder: the folder.
        test_fraction: share held out for testing where the folder has no splits.
        emit: warned about folders that are passed over.

    Raises:
        DataError: no folder, no classes, no images, one class only, or a class that one of the splits lacks.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder", hint="give a folder of class subfolders, or a name of `vit datasets`")
    split_folders = _split_folders(folder, emit)
    if "train" not in split_folders and split_folders:
        raise DataError(f"{folder} has no train/ folder", hint=f"it has {', '.join(_names(split_folders))}")
    roots = split_folders or {"train": folder}
    found = {split: _images_by_class(root) for split, root in roots.items()}
    classes = _aligned_classes({roots[split]: set(images) for split, images in found.items()})
    splits = {split: _file_split(images, classes) for split, images in found.items()}
    if not split_folders:
        splits = _with_test_split(splits["train"], test_fraction, classes)
    return RawDataset(name=folder.resolve().name, classes=classes, splits=splits)


def find_images(folder: Path) -> list[Path]:
    """Every image file below a folder, sorted; hidden files and folders are passed over."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__MACOSX")))


def _split_folders(folder: Path, emit: Emit) -> dict[SplitName, Path]:
    """The folders of the splits, where there are some; what stands beside them does not count, and that is said."""
    subfolders = _subfolders(folder)
    splits: dict[SplitName, Path] = {}
    for path in subfolders:
        split = _SPLIT_FOLDERS.get(path.name.lower())
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


def _with_test_split(split: FileSplit, fraction: float, classes: tuple[str, ...]) -> dict[SplitName, FileSplit]:
    train, test = stratified_split(split.labels, fraction=fraction, seed=_SPLIT_SEED, classes=classes)
    return {"train": split.take(train), "test": split.take(test)}


def _names(folders: dict[SplitName, Path]) -> list[str]:
    return [f"{path.name}/" for path in folders.values()]
