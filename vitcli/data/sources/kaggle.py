"""Data sets and competitions of Kaggle, downloaded and unpacked; a folder appears only when it is complete."""

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
from vitcli.data.sources.image_search import NO_DATA
from vitcli.data.sources.kaggle_api import no_credentials, storage_address
from vitcli.data.sources.kaggle_credentials import find_credentials
from vitcli.data.sources.kaggle_reference import KaggleReference

_ROOM = 2.0
"""Disk space for the archive and its files, as a multiple of the archive's size: photos hardly compress."""
_UNWANTED = frozenset(
    {".tfrec", ".tfrecord", ".tfrecords"}
    | {".ckpt", ".h5", ".hdf5", ".keras", ".onnx", ".pb", ".pt", ".pth", ".safetensors", ".tflite"}
    | {".avi", ".mov", ".mp3", ".mp4", ".wav"}
)
"""Endings of files that are not unpacked: copies of the images in other formats, models, films; large and unused."""


def read(entry: DatasetEntry, folder: Path, config: DataConfig, emit: Emit) -> RawDataset[FileSplit]:
    """Read the images of a Kaggle data set or competition in any known layout, downloading them if necessary.

    Raises:
        DataError: the download fails, or the layout is not known.
        UsageError: the name cannot be a name on Kaggle.
    """
    fetch_kaggle(KaggleReference.parse(entry.kaggle), folder, emit=emit)
    return any_folder.read(folder, config, emit)


def fetch_kaggle(reference: KaggleReference, folder: Path, *, offline: bool = False, emit: Emit = ignore) -> None:
    """Download and unpack a data set or the data of a competition, unless ``folder`` has the files already.

    The folder appears only when it is complete. A download that was interrupted in any way is resumed.
    Several processes may call this at once: one works, the others wait for it.

    Args:
        reference: the data set or competition.
        folder: the folder for the files; the archive and a lock are beside it for a time.
        offline: do not download; use only files that are already here.
        emit: receives the progress in bytes, a note about waiting, and a warning about secrets that others can read.

    Raises:
        DataError: the files are not here and ``offline`` is set; Kaggle refuses the request, does not know the name, or
            cannot be reached; the transfer or the archive is broken; the disk is full or cannot be written.
    """
    archive = folder.with_name(folder.name + ".zip")
    if _is_complete(folder):
        with contextlib.suppress(OSError):  # it remains if a process was killed between its last two steps
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
            check_credentials(reference, folder)
            _fetch_archive(reference, archive, emit)
        try:
            unpack(archive, folder, keep=is_wanted, emit=emit)
        except ArchiveError:
            archive.unlink()  # a new download may be intact
            raise
        archive.unlink(missing_ok=True)  # a process that saw the folder may have removed it already


def check_credentials(reference: KaggleReference, folder: Path) -> None:
    """Raise DataError if a download will need credentials, and there are none."""
    has_files = _is_complete(folder) or folder.with_name(folder.name + ".zip").exists()
    if reference.is_competition and not has_files and find_credentials() is None:  # a data set may need no credentials
        raise no_credentials(reference)


def is_wanted(name: str) -> bool:
    """Tell whether a file of an archive is unpacked: images and tables, but not hidden files, TFRecords or models."""
    path = PurePosixPath(name)
    is_hidden = any(part.startswith(NO_DATA) for part in path.parts)
    return not is_hidden and path.suffix.lower() not in _UNWANTED


def _is_complete(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _fetch_archive(reference: KaggleReference, archive: Path, emit: Emit) -> None:
    credentials = find_credentials(emit)

    def ask() -> str:
        return storage_address(reference, credentials)

    fetch_file(ask(), archive, room=_ROOM, renew=ask, emit=emit)
