"""One process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitcli.core.errors import VitError
from vitcli.core.events import Emit, Note
from vitcli.core.files import writing_in


@contextmanager
def only_one(folder: Path, what: str, emit: Emit) -> Iterator[None]:
    """Let one process at a time work on a folder that is about to be made; the others wait.

    Args:
        folder: the lock, ``.NAME.lock``, is beside it.
        what: is being done, for those who wait: "fetching mnist".
        emit: told about waiting.
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
    """Be the only process that works in a folder while the block runs; the lock dies with its process.

    Raises:
        otherwise: there is another one.
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
    """Tell whether a process is ``alone_in`` a folder."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    if not Path(lock.lock_file).exists():
        return False
    try:
        lock.acquire(blocking=False)
    except (Timeout, OSError):  # a folder of somebody else's cannot be asked
        return True
    lock.release()
    return False
