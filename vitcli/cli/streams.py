"""stdin, stdout and stderr that end no command: with any encoding, closed, or on a full disk."""

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO


def readable(stream: TextIO | None) -> TextIO:
    """Return a stream that can be read; one with nothing in it if the stream is closed."""
    if stream is None:  # `vit predict - <&-`
        return open(os.devnull, encoding="utf-8")  # noqa: PTH123 - it stays open like the one it replaces
    return stream


def usable(stream: TextIO | None) -> TextIO:
    """Return a stream that can write any letter, as an escape if need be; one to nowhere if the stream is closed."""
    if stream is None:  # `vit runs >&-`
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - it stays open like the one it replaces
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    return stream


def write_as_file(text: str) -> None:
    """Write a text to stdout with the bytes that a file would have: UTF-8, and file names that are not, as they are."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    sys.stdout.write(text)


class Unbreakable(io.TextIOBase):
    """A stream for messages, which are lost if they cannot be written: a training must not end for want of a log."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or nothing."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is left in the buffer, or nothing."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Tell whether the stream is a terminal."""
        return bool(self._stream.isatty())

    def fileno(self) -> int:
        """Return the number of the file."""
        number: int = self._stream.fileno()
        return number

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"
