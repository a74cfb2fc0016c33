"""Data sets and competitions of Kaggle: fetched, unpacked, and in place only when everything is there."""

import contextlib
from pathlib import Path, PurePosixPath

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.core.events import Emit, ignore
from vitcli.core.fetch import fetch_file
from vitcli.core.unpack import ArchiveError, unpack
from vitcli.data.dataset_entry import DatasetEntry
from vitcli.data.locks import only_one
from vitcli.data.raw import FileSplit, RawDataset
from vitcli.data.sources import folder as any_folder
from vitcli.data.sources.kaggle_api import no_credentials, storage_address
from vitcli.data.sources.kaggle_credentials import find_credentials
from vitcli.data.sources.kaggle_reference import KaggleReference

_ROOM = 2.0
"""The archive and what is in it, in sizes of the archive: photos hardly shrink."""
_UNWANTED = frozenset(
    {".tfrec", ".tfrecord", ".tfrecords"}
    | {".ckpt", ".h5", ".hdf5", ".keras", ".onnx", ".pb", ".pt", ".pth", ".safetensors", ".tflite"}
    | {".avi", ".mov", ".mp3", ".mp4", ".wav"}
)
"""The images once more in the formats of other programs, models, films: large, and of no use here."""


def read(entry: DatasetEntry, folder: Path, config: DataConfig, emit: Emit) -> RawDataset[FileSplit]:
    """The images of a data set or competition, fetched if need be; whatever the layout.

    Raises:
        DataError: it cannot be had, or its layout is none that we know.
        UsageError: Kaggle can have nothing of this name.
    """
    fetch_kaggle(KaggleReference.parse(entry.kaggle), folder, emit=emit)
    return any_folder.read(folder, config, emit)


def fetch_kaggle(reference: KaggleReference, folder: Path, *, offline: bool = False, emit: Emit = ignore) -> None:
    """Fetch and unpack a data set or the data of a competition, unless ``folder`` has them already.

    The folder appears when everything is in it, and not before. What was begun is continued, however it ended.
    Several processes may call this at once: one works, the others wait for it.

    Args:
        reference: what to fetch.
        folder: where the files go; the archive and a lock stand beside it for a time.
        offline: use what is there and nothing else.
        emit: told about the progress, in bytes, and about waiting; warned about secrets that others can read.

    Raises:
        DataError: it is not here and must not be fetched; Kaggle refuses it, does not know it, or cannot be reached;
            the transfer or the archive is broken; the disk is full or cannot be written.
    """
    archive = folder.with_name(folder.name + ".zip")
    if _is_complete(folder):
        with contextlib.suppress(OSError):  # there is one where a process was killed between its last two steps
            archive.unlink()
        return
    if offline:
        raise DataError(
            f"{reference} is not on this machine, and it must not be fetched (offline)", hint="leave out --offline"
        )
    with only_one(folder, f"fetching {reference}", emit):
        if _is_complete(folder):
            return
        if not archive.exists():
            _fetch_archive(reference, archive, emit)
        try:
            unpack(archive, folder, keep=is_wanted, emit=emit)
        except ArchiveError:
            archive.unlink()  # another copy may be better
            raise
        archive.unlink(missing_ok=True)  # who sees the folder may have been quicker


def is_wanted(name: str) -> bool:
    """Tell whether a file of an archive is of use: images and tables are; hidden files, TFRecords and models are not."""
    path = PurePosixPath(name)
    is_hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not is_hidden and path.suffix.lower() not in _UNWANTED


def _is_complete(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _fetch_archive(reference: KaggleReference, archive: Path, emit: Emit) -> None:
    credentials = find_credentials(emit)
    if credentials is None and reference.is_competition:  # a data set may be open to everybody
        raise no_credentials(reference)

    def ask() -> str:
        return storage_address(reference, credentials)

    fetch_file(ask(), archive, room=_ROOM, renew=ask, emit=emit)
