"""Safe unpacking of untrusted zip archives: completely, or not at all."""

import lzma
import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.fetch import Megabytes
from vitcli.core.files import require_room, writing_in

_CHUNK = 1 << 18
_LARGEST_RATIO = 200
"""Unpacked bytes per byte of the archive that are allowed: photos have 1, tables 10, zip bombs far more."""
_HARMLESS = 100 * 10**6
"""Unpacked bytes that are always allowed, whatever the ratio."""
_ENCRYPTED = 0x1
_DRIVE = re.compile(r"[A-Za-z]:")


class ArchiveError(DataError):
    """An archive that is damaged or unsafe to unpack. Another copy may work; the same file never will."""

    usual_hint = "nothing was unpacked; tell the author of the archive"


def unpack(archive: Path, folder: Path, *, keep: Callable[[str], bool] = lambda _: True, emit: Emit = ignore) -> None:
    """Unpack a zip archive into a new folder, which appears only when it is complete.

    Files that a killed process left behind are removed at the next start. Only one process at a time may unpack
    into a folder. Symbolic links, devices and the like are skipped. An archive with names that differ only in case is
    refused if the file system cannot tell them apart.

    Args:
        archive: the zip file; it is not changed.
        folder: the new folder; it must not exist, or must be empty.
        keep: tells from a member's path, with slashes, whether to unpack the member.
        emit: receives the progress, in megabytes, and warnings about skipped members.

    Raises:
        ArchiveError: the archive is damaged, encrypted or not a zip file; it has a name that leads out of the folder,
            or the same name twice; it unpacks to far more than its size; or it has no member to unpack.
        DataError: no room on the disk, or a folder that cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.unpacking")
    with writing_in(folder.parent):
        if temporary.exists():
            shutil.rmtree(temporary)
        if folder.exists() and any(folder.iterdir()):
            raise DataError(f"{folder} is there already", hint="remove it, then try again")
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _reading(archive):
        opened = zipfile.ZipFile(archive)
    with opened:
        members = _members(opened, keep, emit)
        _check_size(sum(member.file_size for member in members.values()), archive, folder.parent)
        try:
            with writing_in(folder.parent):
                temporary.mkdir()
                _write(opened, members, temporary, Megabytes(f"unpacking {archive.name}", emit))
                _sync_everything()
                if folder.exists():
                    folder.rmdir()  # it is empty; Windows does not rename over an existing folder
                temporary.rename(folder)
        finally:
            if temporary.exists():
                shutil.rmtree(temporary, ignore_errors=True)


def _members(opened: zipfile.ZipFile, keep: Callable[[str], bool], emit: Emit) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """List the members to unpack, by path; refuse unsafe ones."""
    members: dict[PurePosixPath, zipfile.ZipInfo] = {}
    odd = []
    for info in opened.infolist():
        path = _safe_path(info)
        if info.is_dir() or not keep(str(path)):
            continue
        if stat.S_IFMT(info.external_attr >> 16) not in {0, stat.S_IFREG}:
            odd.append(str(path))
            continue
        if info.flag_bits & _ENCRYPTED:
            raise ArchiveError(f"{opened.filename} is encrypted: {str(path)!r} needs a password")
        if path in members:
            raise ArchiveError(f"{opened.filename} has {str(path)!r} twice")
        members[path] = info
    folders = {parent for path in members for parent in path.parents}
    for path in members:
        if path in folders:
            raise ArchiveError(f"{opened.filename} has {str(path)!r} as a file and as a folder")
    if odd:
        emit(Warned(text=f"links and devices in {opened.filename} are skipped: {len(odd):,}, the first is {odd[0]!r}"))
    if not members:
        raise ArchiveError(f"{opened.filename} has none of the expected files", hint="`unzip -l` lists its files")
    return members


def _safe_path(info: zipfile.ZipInfo) -> PurePosixPath:
    """Return the path of a member relative to the folder; refuse a path that leads out of it."""
    name = info.orig_filename  # the name in the archive, before zipfile changes it
    path = PurePosixPath(name)
    if "\\" in name or "\0" in name or path.is_absolute() or ".." in path.parts or not path.parts or _DRIVE.match(name):
        raise ArchiveError(f"the archive has a name that could lead out of its folder: {name!r}")
    return path


def _check_size(declared: int, archive: Path, folder: Path) -> None:
    """Refuse zip bombs and archives that do not fit on the disk; ``declared`` is the unpacked size in bytes."""
    size = archive.stat().st_size
    if declared > max(_HARMLESS, _LARGEST_RATIO * size):
        raise ArchiveError(f"{archive} has {size / 1e6:.3g} MB and would unpack to {declared / 1e6:,.0f} MB")
    require_room(declared, folder, f"{archive.name}, unpacked,")


def _write(
    opened: zipfile.ZipFile, members: dict[PurePosixPath, zipfile.ZipInfo], folder: Path, report: Megabytes
) -> None:
    """Write members into an empty folder, and check that each has the size that the archive declares."""
    done, total = 0, sum(member.file_size for member in members.values())
    report(0, total)
    for path, member in members.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        try:
            file = target.open("xb")
        except FileExistsError:
            raise ArchiveError(f"{opened.filename} has two names that are equal on this disk: {str(path)!r}") from None
        with file:
            for chunk in _content(opened, member):
                written += len(chunk)
                if written > member.file_size:
                    break
                file.write(chunk)
                report(done + written, total)
        if written != member.file_size:
            raise ArchiveError(f"{opened.filename}: {str(path)!r} is not {member.file_size:,} bytes long, as declared")
        done += written


def _content(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Read the bytes of a member in chunks; its CRC is checked after the last chunk."""
    assert opened.filename
    archive = Path(opened.filename)
    with _reading(archive):
        source = opened.open(member)
    with source:
        while True:
            with _reading(archive):
                chunk = source.read(_CHUNK)
            if not chunk:
                return
            yield chunk


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn exceptions while an archive is read into errors with a message."""
    try:
        yield
    except NotImplementedError as error:
        raise ArchiveError(f"{archive} is packed in a way that Python does not know: {error}") from error
    except (zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, ValueError, RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # bz2 raises OSErrors without a number
            raise DataError(f"{archive} cannot be read: {error.strerror}") from error
        raise ArchiveError(
            f"{archive} is damaged, or not a zip archive: {error}", hint="remove it, then try again"
        ) from error


def _sync_everything() -> None:
    """Flush all files to the disk before the folder gets its name; together, because one by one takes hours."""
    if hasattr(os, "sync"):
        os.sync()
