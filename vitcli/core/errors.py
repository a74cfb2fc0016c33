"""Errors that a user can cause, as one small tree.

VitError                what happened, what to do about it, exit code 1
├── UsageError          a wrong name, key or value in what the user typed
├── DataError           images, labels, splits, downloads
├── ModelError          an impossible model configuration, a checkpoint that cannot be read
├── RunError            run directories
├── DeviceError         a device that this machine lacks
├── TrainingError       training that cannot continue
├── EndedElsewhere      another process of the same training has ended or failed
└── Interrupted         Ctrl-C (exit code 130) or SIGTERM (143), after everything was saved

They are raised where the error is found. ``vitcli.cli.app.main`` turns them into messages; a traceback, as in a notebook,
shows ``str(error)``, which is the message and the hint.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class VitError(Exception):
    """An error that the user can fix: ``message`` says what is wrong, ``hint`` what to type next."""

    exit_code = 1
    usual_hint = ""
    rank = 0
    """Rank of the process that shows the error, if several train together."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(VitError):
    """A name, key or value that does not exist or does not fit."""

    usual_hint = "`vit COMMAND --help` says what is possible"


class DataError(VitError):
    """Images, labels, splits or downloads that cannot be used."""

    usual_hint = "remove or replace it, then try again"


class ModelError(VitError):
    """A model configuration or a checkpoint that cannot be used."""

    usual_hint = "`vit runs` lists the runs and `vit train` makes one"


class RunError(VitError):
    """A run directory that is missing, broken or already exists."""

    usual_hint = "`vit runs` lists the runs"


class DeviceError(VitError):
    """A device that this machine does not have."""


class TrainingError(VitError):
    """Training that cannot continue, for example a loss that is no longer finite."""


class EndedElsewhere(VitError):
    """The end or failure of another process of the same training; the process with rank 0 shows the error."""


class Interrupted(VitError):
    """Training stopped by a signal, after its state was saved."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return the hint for an unknown name: the nearest known name, or else ``otherwise``."""
    near = get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else otherwise


def some(names: Sequence[str], most: int = 5) -> str:
    """List the first ``most`` names for a message, followed by "..." if there are more."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


_UNSEEN = {
    *range(0x20), *range(0x7F, 0xA0),  # control characters, with which a terminal can be made to do things
    0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A),  # direction of writing, and line ends
    *range(0xD800, 0xE000),  # bytes of file names that are not UTF-8
}  # fmt: skip
_AS_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _UNSEEN - {0x0A}}
_AS_ESCAPES |= {code: f"\\x{code - 0xDC00:02x}" for code in range(0xDC80, 0xDD00)}


def visible(text: str) -> str:
    """Return a text for people: control and direction characters, and bytes that are no text, become escapes."""
    return text if text.isascii() and text.isprintable() else text.translate(_AS_ESCAPES)
