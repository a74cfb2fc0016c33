"""Everything that a user can cause, as one small tree.

VitError                what happened, what to do about it, exit code 1
├── UsageError          a wrong name, key or value in what the user typed
├── DataError           images, labels, splits, downloads
├── ModelError          a configuration that is not a model, a checkpoint that cannot be read
├── RunError            experiment directories
├── DeviceError         a device that this machine lacks
├── TrainingError       training that cannot continue
├── EndedElsewhere      another process of the same training is gone, or could not continue
└── Interrupted         Ctrl-C (exit code 130) or SIGTERM (143), after everything was saved

They are raised where the fault is known and turned into a message once, in ``vitcli.cli.app.main``.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class VitError(Exception):
    """A fault that the user can fix: ``message`` says what, ``hint`` what to type next."""

    exit_code = 1
    usual_hint = ""
    rank = 0
    """Of the processes that train together, the one that tells of it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint


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
    """An experiment directory that is missing, taken or broken."""

    usual_hint = "`vit runs` lists the runs"


class DeviceError(VitError):
    """A device that this machine does not have."""


class TrainingError(VitError):
    """Training that cannot continue, for example a loss that is no longer finite."""


class EndedElsewhere(VitError):
    """Another of the processes that train together is gone, or could not do its part; the first one tells of it."""


class Interrupted(VitError):
    """Training stopped by a signal, after its state was saved."""

    def __init__(self, message: str, *, hint: str = "", exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """The hint that follows an unknown name: the nearest known one, else ``otherwise``."""
    near = get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else otherwise


def some(names: Sequence[str], most: int = 5) -> str:
    """Examples in a message."""
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")
