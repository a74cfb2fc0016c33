"""Downloads that resume after an interruption, are verified, and get their name only when they are complete."""

import contextlib
import hashlib
import http.client
import math
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vitcli.core.addresses import CHECK, CHECK_CONNECTION, encoded, separate_login, unreachable, without_secrets
from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Emit, Note, TaskProgress, ignore
from vitcli.core.files import bytes_in_words, require_room, writing_in
from vitcli.core.partial_file import PartialFile, Version

_TIMEOUT = 20.0
"""Seconds without a byte before a connection counts as lost."""
_ATTEMPTS = 5
"""Number of failures in a row after which a download gives up."""
_PROGRESS = 1 << 20
"""Bytes of progress that reset the count of failures: a long download may be interrupted any number of times."""
_WAIT = 0.5
"""Seconds before the first retry; each further retry waits twice as long."""
_LONGEST_WAIT = 60.0
"""Maximum seconds to wait, even if a server asks for more."""
_WORTH_SAYING = 5.0
"""Seconds of waiting from which on the user is told."""
_CHUNK = 1 << 18
BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Status codes after which a retry may succeed."""
_SLOWEST, _SLOW_SECONDS = 1000, 60.0
"""Bytes per second below which a transfer is given up, and the seconds over which they are measured."""
_MOST_GB = 20.0
"""The largest download, unless ``VIT_MAX_DOWNLOAD_GB`` says otherwise."""
_MOST_DIGITS = 19
_EXPIRED = frozenset({400, 401, 403, 410})
"""Status codes of a storage when its signed address has expired."""
_NOT_SATISFIABLE = 416


class Megabytes:
    """A progress reporter that turns bytes into megabytes, and reports only when their number changes."""

    def __init__(self, task: str, emit: Emit) -> None:
        self.task = f"{task} (MB)"
        self.emit = emit
        self._last = (-1, -1)

    def __call__(self, done: int, total: int) -> None:
        """Report that ``done`` of ``total`` bytes have arrived; total 0: not known, nothing is reported."""
        now = (-(-done // 10**6), -(-total // 10**6))
        if total and now != self._last:
            self._last = now
            self.emit(TaskProgress(task=self.task, done=now[0], total=now[1]))


def fetch_file(
    url: str,
    path: Path,
    *,
    sha256: str = "",
    room: float = 1.0,
    most: int | None = None,
    renew: Callable[[], str] | None = None,
    check: Callable[[Path], None] | None = None,
    emit: Emit = ignore,
) -> None:
    """Download a file; an interrupted download is resumed from the part that it left (``.part``), now or next time.

    It is resumed only if the file on the server has not changed, according to its ETag or date, which are stored
    beside the part (``.part.json``); if the server sends neither, only if the hash is known.

    Args:
        url: the address, http or https.
        path: the file to write once the download is complete.
        sha256: the expected hash, or its first digits; empty: only the length is checked.
        room: required room on the disk, as a multiple of the file size; 2 for an archive that will be unpacked.
        most: the largest file, in bytes; None: ``VIT_MAX_DOWNLOAD_GB``.
        renew: returns a new address when the current address has expired.
        check: raises DataError if the file that arrived is not what was wanted; then it is deleted.
        emit: receives the progress, in megabytes.

    Raises:
        DataError: no network, an answer other than the file, a download that keeps failing, a different hash; no room
            on the disk, or a folder that cannot be written.
    """
    part = PartialFile(path, is_verified=bool(sha256))
    with writing_in(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    report = Megabytes(f"fetching {path.name}", emit)
    failures, is_renewed = 0, False
    while not part.is_whole():  # whole already if a process was killed before the renaming
        if not part.is_resumable():
            with writing_in(path.parent):
                part.discard()
        before = part.size()
        if (failure := _attempt(url, part, room, most, report)) is None:
            break
        gained = part.size() - before
        if gained >= _PROGRESS and part.is_resumable():
            failures, is_renewed = 0, False
        if renew and failure.status in _EXPIRED and not is_renewed:
            url, is_renewed = renew(), True
            continue
        failures += 1
        can_go_on = failure.status in BUSY if failure.status else failures > 1 or gained > 0  # else no connection
        if failures == _ATTEMPTS or not can_go_on:
            text = str(failure) if failure.is_whole else f"{without_secrets(url)} {failure}"
            is_kept = part.is_resumable() or not part.size()
            raise DataError(text, hint=failure.hint if is_kept else f"{CHECK}, then try again")
        _pause(failures, failure.retry_after, path.name, emit)
    found = file_hash(part.path) if sha256 else ""
    if not found.startswith(sha256):
        part.discard()
        raise DataError(
            f"{without_secrets(url)} has another hash than expected: {found[: len(sha256)]}, not {sha256}",
            hint="the download was deleted; the file may have been changed on the way",
        )
    if check:
        try:
            check(part.path)
        except DataError as error:
            part.discard()
            raise DataError(f"{without_secrets(url)}: {error.message}", hint=error.hint) from None
    with writing_in(path.parent):
        part.finish()


def file_hash(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seconds_to_wait(failures: int, retry_after: str = "") -> float:
    """Compute the seconds to wait after a failure: as long as the server asks, else twice as long each time.

    Args:
        failures: number of failures in a row, 1 or more.
        retry_after: the Retry-After header, seconds or a date; empty: the server sent none.
    """
    seconds = _WAIT * 2.0 ** (failures - 1)
    if retry_after.strip().isdecimal():
        seconds = float(retry_after)
    elif retry_after:
        with contextlib.suppress(ValueError, TypeError):  # not a date, or a date without a time zone
            seconds = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
    return float(min(max(seconds, 0.0), _LONGEST_WAIT))


class _TransferError(Exception):
    """A download that failed; the text is the end of a sentence that starts with the address, unless it is whole."""

    def __init__(
        self,
        text: str,
        *,
        status: int = 0,
        headers: Message | Mapping[str, str] = MappingProxyType({}),
        is_whole: bool = False,
    ) -> None:
        super().__init__(text)
        self.is_whole = is_whole
        self.status = status
        """Status code of the answer; 0: the connection failed."""
        self.retry_after = headers.get("Retry-After", "")
        self.length = headers.get("Content-Range", "").removeprefix("bytes */")
        """Length of the file in bytes, which a server sends if the requested range starts after its end."""
        if status == http.client.NOT_FOUND:
            self.hint = "check the address"
        else:
            self.hint = "try again later" if status else CHECK_CONNECTION


def _attempt(url: str, part: PartialFile, room: float, most: int | None, report: Megabytes) -> _TransferError | None:
    try:
        _transfer(url, part, room, most, report)
    except _TransferError as failure:
        return failure
    return None


def _transfer(url: str, part: PartialFile, room: float, most: int | None, report: Megabytes) -> None:
    """Make one request and add the answer to ``part``; start again if the part belongs to another version."""
    done, recorded = part.size(), part.version()
    try:
        response = _request(url, done, recorded.validator)
    except _TransferError as refusal:
        if refusal.status != _NOT_SATISFIABLE or not done:
            raise
        if done < recorded.total and refusal.length == str(done):  # a new download would fail in the same way
            part.discard()
            raise DataError(
                f"{without_secrets(url)} announces {recorded.total:,} bytes and has {done:,}", hint="try again later"
            ) from None
        response = None
    if response is not None:
        with response:
            start, version = _described(response)
            _refuse_endless(version.total, most)
            if start in {0, done} and not (start and recorded.is_other_than(version)):
                _receive(response, part, start, version, room, most, report)
                return
        if not done:
            raise _TransferError("sends a range that was not asked for")
    with writing_in(part.path.parent):  # longer than the file, or of another version: start again
        part.discard()
    _transfer(url, part, room, most, report)


def _receive(
    response: Any, part: PartialFile, start: int, version: Version, room: float, most: int | None, report: Megabytes
) -> None:
    """Write the bytes of an answer after the first ``start`` bytes, which have arrived already."""
    done, total = start, version.total
    with writing_in(part.path.parent):
        require_room(int(total * room) - done, part.path.parent, part.target.name)
        if not start:
            part.begin(version)
        with part.path.open("ab" if start else "wb") as file:
            report(done, total)
            pace = _Pace(done)
            while chunk := _read(response, min(_CHUNK, total - done) if total else _CHUNK):
                file.write(chunk)
                done += len(chunk)
                report(done, total)
                pace.check(done)
                _refuse_endless(done, most)
    if done < total:
        raise _TransferError(f"broke off: {done:,} of {total:,} bytes")


class _Pace:
    """The speed of a transfer, which is given up if it is too slow to end."""

    def __init__(self, done: int) -> None:
        self._before, self._since = done, time.monotonic()

    def check(self, done: int) -> None:
        """Raise _TransferError if hardly anything arrived within the last while."""
        seconds = time.monotonic() - self._since
        if seconds < _SLOW_SECONDS:
            return
        rate = (done - self._before) / seconds
        if rate < _SLOWEST:
            raise _TransferError(f"sends only {bytes_in_words(round(rate))} a second")
        self._before, self._since = done, time.monotonic()


def _refuse_endless(size: int, allowed: int | None) -> None:
    """Raise DataError if a file is larger than it may be; None: than any download may be."""
    if allowed is not None:
        if size > allowed:
            raise DataError(f"the download has more than {bytes_in_words(allowed)}")
        return
    most = _most_gb()
    if size > most * 10**9:
        raise DataError(f"the download has more than {most:g} GB", hint=f"VIT_MAX_DOWNLOAD_GB={2 * most:g} allows more")


def _most_gb() -> float:
    text = os.environ.get("VIT_MAX_DOWNLOAD_GB") or str(_MOST_GB)
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise UsageError(f"VIT_MAX_DOWNLOAD_GB={text} is not a number above 0", hint=f"VIT_MAX_DOWNLOAD_GB={_MOST_GB:g}")


def _request(url: str, done: int, validator: str) -> Any:
    headers = {"User-Agent": "vitcli", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
        if validator and not validator.startswith("W/"):  # If-Range does not allow a weak ETag
            headers["If-Range"] = validator
    address, login = separate_login(url)
    request = urllib.request.Request(encoded(address), headers=headers)  # noqa: S310 - the caller names the address
    if login:
        request.add_unredirected_header("Authorization", login)
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        text = f"answers {error.code} {error.reason}".strip()
        raise _TransferError(text, status=error.code, headers=error.headers) from None
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(f"{unreachable(url, error)} for {without_secrets(url)}", is_whole=True) from None


def _described(response: Any) -> tuple[int, Version]:
    """Return the position in the file where an answer starts, and the version of the file."""
    headers = response.headers
    length = headers.get("Content-Length", "").strip()
    start, total = 0, int(length) if length.isascii() and length.isdecimal() and len(length) < _MOST_DIGITS else 0
    if response.status == http.client.PARTIAL_CONTENT:
        found = re.match(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", headers.get("Content-Range", ""))
        start = int(found[1]) if found else -1
        total = int(found[2]) if found and found[2] != "*" else 0
    return start, Version(validator=headers.get("ETag") or headers.get("Last-Modified") or "", total=total)


def _read(response: Any, most: int) -> bytes:
    """Read the bytes that have arrived, so that none are lost if the connection breaks; empty at the end."""
    try:
        chunk: bytes = response.read1(most) if most else b""
    except (OSError, http.client.HTTPException) as error:
        raise _TransferError(f"broke off: {_reason(error)}") from None
    return chunk


def _pause(failures: int, retry_after: str, name: str, emit: Emit) -> None:
    seconds = seconds_to_wait(failures, retry_after)
    if seconds >= _WORTH_SAYING:
        emit(Note(text=f"the transfer of {name} was interrupted; it continues in {seconds:.0f} s"))
    time.sleep(seconds)


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return f"no data arrived for {_TIMEOUT:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
