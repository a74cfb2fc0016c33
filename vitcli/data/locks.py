"""Locks that let one process at a time work in a folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitcli.core.errors import VitError
from vitcli.core.events import Emit, Note
from vitcli.core.files import writing_in


@contextmanager
def only_one(folder: Path, what: str, emit: Emit) -> Iterator[None]:
    """Let one process at a time create a folder or a file; other processes wait.

    Args:
        folder: the folder or the file; the lock, ``.NAME.lock``, is beside it.
        what: the work, in words for the processes that wait: "fetching mnist".
        emit: receives a note if this process waits.
    """
    from filelock import FileLock, Timeout

    with writing_in(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            emit(Note(text=f"another process is {what}; waiting for it"))
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone_in(folder: Path, *, otherwise: VitError) -> Iterator[None]:
    """Make this process the only one that works in a folder while the block runs.

    The lock ends with its process, even if the process is killed.

    Raises:
        otherwise: another process works in the folder.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise otherwise from None
    try:
        yield
    finally:
        lock.release()


def is_worked_in(folder: Path) -> bool:
    """Tell whether a process works in a folder and has locked it with ``alone_in``."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    if not Path(lock.lock_file).exists():
        return False
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):  # OSError: the lock belongs to another user and cannot be tested
        return True
    lock.release()
    return False
