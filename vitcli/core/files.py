"""Atomic writing of files: a reader never sees half a file."""

import csv
import errno
import itertools
import json
import os
import shlex
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vitcli.core.errors import DataError, FileError, VitError, counted

_ABANDONED = 3600.0
"""Seconds without a write after which a temporary file counts as left by a killed process."""
DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
"""Errors of the system where a disk, or the part of it that a user may fill, is full."""
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_FOLDERS = {".png", ".pdf", ".svg", ".jpg", ".jpeg", ".gif", ".html", ".csv", ".json"}
"""Endings of files, which a new folder is not meant to have."""
_LONGEST_PREFIX = 50
"""Letters of a file's name that its temporary file has too: a name has at most 255 bytes, and a letter up to 4."""
_ELSEWHERE = "name another folder with --data-dir or $VIT_DATA_DIR"


@contextmanager
def replacing(path: Path, *, makes_folder: bool = True) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, which replaces ``path`` when the block succeeds.

    If ``path`` is a link, the file that it points to is replaced. Who may read a file that is replaced stays as it was.

    The data is on the disk before the file gets its name (fsync, then rename), so that a crash at any moment leaves
    the old file or the new one. If the block fails, the temporary file is removed. Without ``makes_folder``, the folder must
    exist already: a folder that was removed meanwhile is not made again.

    Raises:
        FileError: ``path`` exists and is not a regular file.
        OSError: the disk is full, or the folder cannot be written; the error names ``path``, not the temporary file.
    """
    path = path.resolve()
    try:
        before = path.stat().st_mode  # one look, as its folder may be removed at any moment
    except OSError:
        before = stat.S_IFREG | 0o666 & ~_umask()  # it is not there, or writing it says why it cannot be
    if not stat.S_ISREG(before):
        raise FileError(f"{path} is not a regular file", hint="give the name of a file")
    temporary, prefix = None, f".{path.stem[:_LONGEST_PREFIX]}-"
    try:
        if makes_folder:
            path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=f".tmp{path.suffix}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        _sync(temporary, os.O_RDWR)  # Windows syncs only files that are open for writing
        temporary.chmod(before & 0o777)
        temporary.replace(path)
        if os.name == "posix":
            _sync(path.parent, os.O_RDONLY)
    except BaseException as error:
        if temporary:
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and (not error.filename or Path(str(error.filename)).name.startswith(prefix)):
            error.filename = str(path)
        raise


def expanded(path: str | Path) -> Path:
    """Return a path in which ``~`` or ``~NAME`` at the beginning is a home folder; if there is no such user, it stays."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the name of a file may begin with ~ too
        return Path(path)


def ends() -> Iterator[str]:
    """Yield what makes a name new if others have it already: nothing, then ``-2``, ``-3`` and so on."""
    yield ""
    yield from (f"-{number}" for number in itertools.count(2))


def unused_end(*paths: Path) -> str:
    """Return the first of the ``ends`` with which none of the paths exists; it goes between stem and suffix."""
    return next(end for end in ends() if not any(with_end(path, end).exists() for path in paths))


def with_end(path: Path, end: str) -> Path:
    """Insert an end between the stem and the suffix of a path."""
    return path.with_name(f"{path.stem}{end}{path.suffix}")


def remove_abandoned(folder: Path, *, after: float = _ABANDONED) -> None:
    """Remove the temporary files of ``replacing`` that killed processes left in a folder.

    Args:
        folder: the folder to search.
        after: seconds without a write after which a file is removed; 0 if no other process can be writing.
    """
    for path in folder.glob(".*-*.tmp*"):
        with suppress(OSError):  # another process removed it first, or still has it open
            if time.time() - path.stat().st_mtime >= after:
                path.unlink()


@contextmanager
def writing_in(
    folder: Path, *, fault: type[VitError] = DataError, what_then: str = f"or {_ELSEWHERE}"
) -> Iterator[None]:
    """Turn a disk error while the block writes into this folder into an error with a message.

    Args:
        folder: the folder that is written.
        fault: type of the error that is raised.
        what_then: end of the hint: what to do after the disk is writable again, or instead.

    Raises:
        VitError: of the type ``fault``; the disk is full, or the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        is_full = error.errno in DISK_FULL
        raise fault(
            f"the disk of {folder} is full: {reason}" if is_full else f"{folder} cannot be written: {reason}",
            hint=f"{'make room there' if is_full else 'fix that'}, {what_then}",
        ) from error


def explained(error: OSError) -> VitError:
    """Turn an OSError into an error whose message names the file or folder, and whose hint says what to do."""
    reason, file = error.strerror or str(error), error.filename
    elsewhere = "or name another folder: --output-dir is for runs, --data-dir for data sets"
    if error.errno in DISK_FULL:
        folder = f"the disk of {Path(file).parent}" if file else "a disk"
        return VitError(f"{folder} is full: {reason}", hint=f"make room there, {elsewhere}")
    if error.errno in _REFUSED and file:
        return VitError(f"{file}: {reason}", hint=f"change its permissions, {elsewhere}")
    if isinstance(error, NotADirectoryError) and file:
        above = next((each for each in Path(file).parents if each.is_file()), Path(file))
        return VitError(
            f"{above} is a file, not a folder, so nothing can be written into it", hint=f"remove it, {elsewhere}"
        )
    return VitError(f"{reason}: {file}" if file else reason, hint="VIT_DEBUG=1 shows where")


def require_room(needed: int, folder: Path, what: str) -> None:
    """Check that the disk has room for so many bytes.

    Args:
        needed: bytes to write.
        folder: folder to write to; it must exist.
        what: name of the data, the subject of the message.

    Raises:
        DataError: fewer bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{what} needs {needed / 1e9:.3g} GB in {folder}, where {free / 1e9:.3g} GB are free",
            hint=f"make room there, or {_ELSEWHERE}",
        )


def check_output_folder(folder: Path, option: str = "--output") -> None:
    """Raise FileError if a folder for results is a file, or lies where no file can be written; ``option`` names it."""
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file", hint=f"{option} must be a folder")
    if not folder.exists() and folder.suffix.lower() in _NO_FOLDERS:
        raise FileError(
            f"{folder} is the name of a file, and {option} is the folder of several",
            hint=f"{option} {shlex.quote(str(folder.with_suffix('')))}",
        )
    _check_writable(
        folder, (folder, *folder.absolute().parents), f"{option} must be a folder where files can be written"
    )


def check_output_file(path: Path) -> None:
    """Raise FileError if a file for results is a folder, or lies where no file can be written."""
    if path.is_dir():
        raise FileError(f"{path} is a folder, not a file", hint="give the name of a file in it")
    _check_writable(path, path.absolute().parents, "give a name in another folder")


def _check_writable(path: Path, folders: Iterable[Path], hint: str) -> None:
    """Raise FileError if nothing can be written into the first of the folders that exists."""
    nearest = next(folder for folder in folders if folder.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        what = "no folder that may be written to" if nearest.is_dir() else "a file, not a folder"
        raise FileError(f"{path} cannot be written: {nearest} is {what}", hint=hint)


def check_replaced_file(path: Path, start: str) -> None:
    """Check a file for results as ``check_output_file`` does, and raise FileError if another file is there.

    Args:
        path: the file.
        start: the beginning of the text of such results; a file that begins so may be replaced.
    """
    check_output_file(path)
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        begins = file.read(len(start))
    if begins and begins != start:
        hint = "remove it, or give another name"
        raise FileError(f"{path} is a file of another kind, and would be replaced", hint=hint)


def write_text(path: Path, text: str, *, makes_folder: bool = True) -> None:
    """Write a text file atomically, in UTF-8; bytes of file names that are not UTF-8 are written as they are."""
    with replacing(path, makes_folder=makes_folder) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_json(path: Path, value: Any, *, makes_folder: bool = True) -> None:
    """Write a JSON file atomically; NaN and infinity are refused because JSON does not have them."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", makes_folder=makes_folder)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], *, makes_folder: bool = True) -> None:
    """Write a CSV file atomically, a column for each name in any row; nested names are ``a.b``, missing cells empty."""
    cells = [flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in cells for name in row))
    text = csv_text([names, *([row.get(name, "") for name in names] for row in cells)])
    write_text(path, text, makes_folder=makes_folder)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as CSV; a cell with a carriage return is quoted too, so that it can be read again."""
    lines: list[str] = []
    sink: Any = SimpleNamespace(write=lines.append)
    csv.writer(sink, lineterminator="\r\n").writerows(rows)
    return "".join(f"{line[:-2]}\n" for line in lines)


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""The first characters of a cell that a spreadsheet would compute."""


def safe_cell(text: str) -> str:
    """Return a text for a CSV cell: an apostrophe before what a spreadsheet would compute; ``plain_cell`` removes it."""
    return f"'{text}" if text.startswith(_FORMULA) or plain_cell(text) != text else text


def plain_cell(text: str) -> str:
    """Return the text that ``safe_cell`` made a cell of."""
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(_FORMULA) else text


def flat(row: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Flatten a nested row: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``."""
    cells: dict[str, Any] = {}
    for name, value in row.items():
        cells |= flat(value, f"{above}{name}.") if isinstance(value, Mapping) else {above + name: value}
    return cells


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def bytes_in_words(count: int) -> str:
    """Format a number of bytes: ``512 bytes``, ``17.0 kB``, ``2.5 MB``, ``1.3 GB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return counted(count, "byte")
