"""Files from the web: resumed where they were cut, verified, and in place only when they are whole."""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, TaskProgress, ignore

_TIMEOUT = 20.0
"""Seconds without a byte before a connection counts as lost."""
_ATTEMPTS = 4
"""How often a transfer that was cut is taken up again."""
_CHUNK = 1 << 18
_NOT_SATISFIABLE = 416


class Megabytes:
    """Reports bytes as megabytes, and only when their number changes."""

    def __init__(self, task: str, emit: Emit) -> None:
        self.task = f"{task} (MB)"
        self.emit = emit
        self._last = (-1, -1)

    def __call__(self, done: int, total: int) -> None:
        """``done`` of ``total`` bytes are here; 0 in total: nobody knows how many there are."""
        now = (-(-done // 10**6), -(-total // 10**6))
        if total and now != self._last:
            self._last = now
            self.emit(TaskProgress(task=self.task, done=now[0], total=now[1]))


def fetch_file(url: str, path: Path, *, sha256: str = "", emit: Emit = ignore) -> None:
    """Fetch a file; what a broken transfer left beside it (``.part``) is gone on with, now or next time.

    Args:
        url: http or https.
        path: where it goes, once it is whole.
        sha256: its hash, or the first digits of it; empty: only its length is checked.
        emit: told about the progress, in bytes.

    Raises:
        DataError: no network, an answer other than the file, a transfer that keeps breaking, another hash.
    """
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    report = Megabytes(f"fetching {path.name}", emit)
    for attempt in range(1, _ATTEMPTS + 1):
        before = _size(part)
        try:
            _transfer(url, part, report)
            break
        except urllib.error.HTTPError as error:
            error.close()
            raise DataError(f"{url} answers {error.code} {error.reason}", hint=_hint(error.code)) from None
        except (OSError, http.client.HTTPException) as error:
            gained = _size(part) > before
            if attempt == _ATTEMPTS or not (gained or attempt > 1):  # no connection at all: say so at once
                reason = getattr(error, "reason", error)
                what = f"{url} broke off: {reason}" if _size(part) else f"{url} cannot be reached: {reason}"
                raise DataError(what, hint="try again; what has arrived is kept") from None
            time.sleep(0.5 * attempt)
    found = file_hash(part)
    if not found.startswith(sha256):
        part.unlink()
        raise DataError(
            f"{url} has another hash than expected: {found[: len(sha256)]}, not {sha256}",
            hint="nothing of it was kept; somebody may have changed it on the way",
        )
    _sync(part)
    part.replace(path)


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _transfer(url: str, part: Path, report: Megabytes) -> None:
    """One request, which adds to ``part``."""
    done = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "vitcli", "Accept-Encoding": "identity"})  # noqa: S310
    if done:
        request.add_header("Range", f"bytes={done}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 - the caller names the address
    except urllib.error.HTTPError as error:
        if error.code != _NOT_SATISFIABLE:
            raise
        error.close()
        part.unlink()  # longer than the file, or whole already: begin anew
        _transfer(url, part, report)
        return
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            done = 0
        total = done + int(response.headers.get("Content-Length") or 0)
        with part.open("ab" if done else "wb") as file:
            report(done, total)
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(done, total)
    if done < total:
        raise ConnectionError(f"{done:,} of {total:,} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _hint(status: int) -> str:
    if status == http.client.NOT_FOUND:
        return "check the address"
    return "try again later"


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
