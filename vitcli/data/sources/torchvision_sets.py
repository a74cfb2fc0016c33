"""Data sets that torchvision downloads and verifies."""

import contextlib
import io
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypedDict
from urllib.error import URLError

import numpy as np

from vitcli.core.addresses import CHECK, CHECK_CONNECTION
from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.core.events import Emit
from vitcli.core.fetch import fetch_file
from vitcli.core.files import DISK_FULL, write_json
from vitcli.core.stored import read_json
from vitcli.data.dataset_entry import DatasetEntry
from vitcli.data.locks import only_one
from vitcli.data.raw import ArraySplit, FileSplit, RawDataset, SplitName

_TRAIN_OR_NOT: dict[SplitName, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
_SPLITS: dict[str, dict[SplitName, dict[str, Any]]] = {
    "SVHN": {"train": {"split": "train"}, "test": {"split": "test"}},
    "STL10": {"train": {"split": "train"}, "test": {"split": "test"}},
    "Food101": {"train": {"split": "train"}, "test": {"split": "test"}},
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "Flowers102": {"train": {"split": "train"}, "val": {"split": "val"}, "test": {"split": "test"}},
    "EuroSAT": {"train": {}},
}
"""The arguments that select a split in torchvision's classes."""
_TIMEOUT = 20.0
"""Seconds without an answer before a download fails."""
_LISTING = "vit-files.json"
"""The list of files by split and class, so that torchvision does not have to be imported again."""


def read(
    entry: DatasetEntry, folder: Path, _config: DataConfig, emit: Emit
) -> RawDataset[ArraySplit] | RawDataset[FileSplit]:
    """Read a data set of torchvision from ``folder``; download and verify it first if the folder does not exist.

    The folder appears only when it is complete; an interrupted download is resumed.

    Raises:
        DataError: the download failed or has the wrong checksum, or the files are damaged.
    """
    if (folder / _LISTING).is_file():
        return _listed(folder)
    from torchvision import datasets

    kind = getattr(datasets, entry.torchvision_class)
    try:
        if not folder.exists():
            with only_one(folder, f"fetching {folder.name}", emit):
                _download(kind, folder, emit)
        loaded = _load(kind, folder)
        classes = _classes(loaded["train"])
        if hasattr(loaded["train"], "data"):
            splits = {name: _array_split(dataset) for name, dataset in loaded.items()}
            return RawDataset(name=folder.name, classes=classes, splits=splits)
        _list(loaded, classes, folder)
    except (OSError, RuntimeError, EOFError, ValueError, HTTPException) as error:
        if folder.exists():
            message, first = f"{folder.name} in {folder} is damaged", "remove that folder"
        else:
            message = f"{folder.name} could not be downloaded"
            is_full = getattr(error, "errno", None) in DISK_FULL
            first = f"make room on the disk of {folder.parent}" if is_full else "check the connection"
        reason = " ".join(str(error).split())
        raise DataError(f"{message}: {reason}", hint=f"{first}, then `vit download {folder.name}`") from error
    return _listed(folder)


def _download(kind: Any, folder: Path, emit: Emit) -> None:
    if folder.exists():  # another process was quicker
        return
    archives, temporary = (folder.with_name(f".{folder.name}.{what}") for what in ("archives", "loading"))
    shutil.rmtree(temporary, ignore_errors=True)  # left by a process that was killed
    try:
        with _fetching(archives, emit):
            _load(kind, temporary)
        temporary.rename(folder)
    except DataError as error:  # the files that have arrived are kept, to resume
        raise DataError(
            f"{folder.name} could not be downloaded: {error.message}",
            hint=f"{CHECK if error.hint == CHECK_CONNECTION else error.hint}; `vit download {folder.name}` continues",
        ) from error
    except (KeyboardInterrupt, SystemExit):  # likewise
        raise
    except Exception as error:  # for example, a file has the wrong checksum; it is not to blame for a full disk
        if getattr(error, "errno", None) not in DISK_FULL:
            shutil.rmtree(archives, ignore_errors=True)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    shutil.rmtree(archives, ignore_errors=True)


@contextlib.contextmanager
def _fetching(archives: Path, emit: Emit) -> Iterator[None]:
    """Replace torchvision's downloads with ours, which show progress, resume, and have time-outs.

    Raises:
        DataError: a file could not be fetched, from the first mirror if there are several.
    """
    from torchvision.datasets import utils

    failures: list[DataError] = []

    def fetch(url: str, filename: str | Path, *_: object) -> None:
        archive = archives / Path(filename).name
        try:
            if not archive.exists():
                fetch_file(url, archive, room=2.0, emit=emit)
        except DataError as error:
            failures.append(error)
            raise URLError(error.message) from error  # so that torchvision tries the next mirror, if there is one
        failures.clear()
        try:
            os.link(archive, filename)
        except OSError:
            shutil.copy(archive, filename)

    theirs, timeout = utils._urlretrieve, socket.getdefaulttimeout()  # noqa: SLF001 - all its downloads go through it
    redirected = utils._get_redirect_url  # noqa: SLF001
    utils._urlretrieve = fetch  # noqa: SLF001
    utils._get_redirect_url = lambda url, **_: url  # noqa: SLF001 - our downloads follow redirections themselves
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    except (URLError, RuntimeError) as error:
        if failures:
            raise failures[0] from error
        raise
    finally:
        utils._urlretrieve, utils._get_redirect_url = theirs, redirected  # noqa: SLF001
        socket.setdefaulttimeout(timeout)


def _load(kind: Any, folder: Path) -> dict[SplitName, Any]:
    """Load every split; torchvision downloads missing files, and its output is hidden."""
    splits = _SPLITS.get(kind.__name__, _TRAIN_OR_NOT)
    with contextlib.redirect_stdout(io.StringIO()):
        return {name: kind(str(folder), **words, download=True) for name, words in splits.items()}


def _classes(dataset: Any) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None)
    if names is None:  # the labels are numbers, which are their own names
        names = sorted(set(np.asarray(dataset.labels).tolist()))
    return tuple(str(name).split(" - ")[0] for name in names)  # MNIST has "0 - zero"


def _array_split(dataset: Any) -> ArraySplit:
    images = np.asarray(dataset.data)
    if images.ndim == 3:  # (N, H, W)
        images = images[:, None]
    elif images.shape[1] not in {1, 3}:  # (N, H, W, C)
        images = images.transpose(0, 3, 1, 2)
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return ArraySplit(images=np.ascontiguousarray(images), labels=np.asarray(labels, dtype=np.int64))


def _list(loaded: Mapping[SplitName, Any], classes: tuple[str, ...], folder: Path) -> None:
    """Write the list of files of every split with their labels."""
    splits = {}
    for name, dataset in loaded.items():
        if hasattr(dataset, "samples"):
            pairs = dataset.samples
        else:
            files = dataset._images if hasattr(dataset, "_images") else dataset._image_files  # noqa: SLF001
            pairs = zip(files, dataset._labels, strict=True)  # noqa: SLF001
        splits[name] = [[Path(file).relative_to(folder).as_posix(), int(label)] for file, label in pairs]
    write_json(folder / _LISTING, {"classes": classes, "splits": splits})


class _Listing(TypedDict):
    classes: list[str]
    splits: dict[SplitName, list[tuple[str, int]]]


def _listed(folder: Path) -> RawDataset[FileSplit]:
    try:
        listing = read_json(folder / _LISTING, _Listing)
    except ValueError as error:
        raise DataError(f"{folder / _LISTING} is broken: {error}", hint=f"remove {folder} and try again") from None
    return RawDataset(
        name=folder.name,
        classes=tuple(listing["classes"]),
        splits={
            name: FileSplit(
                files=[folder / file for file, _ in pairs],
                labels=np.array([label for _, label in pairs], dtype=np.int64),
            )
            for name, pairs in listing["splits"].items()
        },
        root=folder,
    )
