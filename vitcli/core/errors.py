"""Errors that a user can cause, as one small tree.

VitError                what happened, what to do about it, exit code 1
├── UsageError          words that no data, runs or machine make right, exit code 2
├── FileError           a file that is missing, in the way, or of the wrong kind
├── InstallError        a library or a login that this machine lacks
├── DataError           images, labels, splits, downloads
├── ModelError          an impossible model configuration, a checkpoint that cannot be read
├── RunError            run directories
├── DeviceError         a device that this machine lacks
├── TrainingError       training that cannot continue
├── EndedElsewhere      another process of the same training has ended or failed
├── InternalError       a mistake in vit; never raised, it stands for an exception of another kind
└── Interrupted         Ctrl-C (exit code 130) or SIGTERM (143), after everything was saved

The class decides the exit code: a UsageError would be the same on any machine; what is wrong with files, data, models, runs
or the machine, or with a value only for these, is an error of another class.

They are raised where the error is found. ``vitcli.cli.app.main`` turns them into messages; a traceback, as in a notebook,
shows ``str(error)``, which is the message and the hint.
"""

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher


class VitError(Exception):
    """An error that the user can fix: ``message`` says what is wrong, ``hint`` what to type next."""

    exit_code = 1
    code = "error"
    """The name of the family in the errors that ``--json`` prints."""
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
    """An option, key or value that does not exist, is malformed or out of range, or contradicts another one."""

    exit_code = 2
    code = "usage"
    usual_hint = "`vit COMMAND --help` says what is possible"


class FileError(VitError):
    """A file or folder that is missing, exists already, or is of the wrong kind."""

    code = "file"
    usual_hint = "check the path"


class InstallError(VitError):
    """A library or a login that this machine lacks."""

    code = "install"


class DataError(VitError):
    """Images, labels, splits or downloads that cannot be used."""

    code = "data"
    usual_hint = "remove or replace it, then try again"


class ModelError(VitError):
    """A model configuration or a checkpoint that cannot be used."""

    code = "model"
    usual_hint = "`vit runs` lists the runs and `vit train` makes one"


class RunError(VitError):
    """A run directory that is missing, broken or already exists."""

    code = "run"
    usual_hint = "`vit runs` lists the runs"


class DeviceError(VitError):
    """A device that this machine does not have."""

    code = "device"


class TrainingError(VitError):
    """Training that cannot continue, for example a loss that is no longer finite."""

    code = "training"


class EndedElsewhere(VitError):
    """The end or failure of another process of the same training; the process with rank 0 shows the error."""

    code = "ended-elsewhere"


class InternalError(VitError):
    """A mistake in vit itself; stderr has the traceback."""

    code = "internal"
    usual_hint = "this is a mistake in vit: please report it, with this text and the output of `vit env`"


class Interrupted(VitError):
    """Training stopped by a signal, after its state was saved."""

    code = "interrupted"

    def __init__(self, message: str, *, hint: str = "", exit_code: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


_NEAR, _NEAR_SHORT, _NEAR_START = 0.75, 0.65, 0.8
"""Similarity from which a known name, one as near to a short name, or the beginning of one is near to an unknown name."""
_SHORT = 3
"""Letters of a short name, of which one may be wrong."""
_OTHER_NAMES = {
    "arch": ("model", "name"),
    "architecture": ("model", "name"),
    "attention": ("attention_map",),
    "backbone": ("model", "name"),
    "batch": ("batch_size",),
    "benchmark": ("bench",),
    "bs": ("batch_size",),
    "cam": ("attention_map",),
    "checkpoint": ("init_from", "model"),
    "classify": ("predict",),
    "convert": ("export",),
    "decay": ("weight_decay", "wd"),
    "evaluate": ("eval",),
    "explain": ("attention_map",),
    "fit": ("train",),
    "gpu": ("device",),
    "gpus": ("devices", "device"),
    "imgsz": ("image_size",),
    "infer": ("predict",),
    "inference": ("predict",),
    "learning_rate": ("lr",),
    "list": ("runs",),
    "ls": ("runs",),
    "num_epochs": ("epochs",),
    "opt": ("optimizer",),
    "optimizer": ("opt",),
    "remove": ("delete",),
    "rm": ("delete",),
    "run": ("name",),
    "scheduler": ("sched", "schedule"),
    "test": ("eval", "test_accuracy"),
    "val": ("eval", "val_accuracy"),
    "validate": ("eval",),
    "wd": ("weight_decay",),
    "weights": ("init_from", "model"),
}
"""Names that other programs use, and what they are called here; the first one that is known is suggested."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that was probably meant; empty: none is near.

    Upper case, dashes and underscores do not count. The usual names of other programs lead to the ones here.
    """
    name, found = _plain(name), dict[str, str]()
    for each in known:
        found.setdefault(_plain(each), each)
    if name in found:
        return found[name]
    likeness = {each: _likeness(name, each) for each in found}
    for other, ours in _OTHER_NAMES.items():
        if each := next(filter(found.__contains__, ours), ""):
            likeness[each] = max(likeness[each], 2 if name == other else _likeness(name, other))
    best = max(likeness, key=likeness.__getitem__, default="")
    return found[best] if best and likeness[best] > 0 else ""


def _plain(name: str) -> str:
    return name.lower().strip("-").replace("-", "_")


def _likeness(name: str, known: str) -> float:
    """Compare a name with a known one, and with its beginning; 0: they are not near."""
    whole, start = (SequenceMatcher(None, each, name).ratio() for each in (known, known[: len(name)]))
    is_near = whole >= (_NEAR if len(name) > _SHORT else _NEAR_SHORT)
    return whole if is_near else whole * (len(name) > 2 and start >= _NEAR_START)


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return the hint for an unknown name: the known name that was probably meant, or else ``otherwise``."""
    near = nearest(name, known)
    return f"did you mean {near!r}?" if near else otherwise


def check_choice(what: str, value: str, known: Iterable[str]) -> None:
    """Raise UsageError unless a value is one of the known ones."""
    if value not in (known := tuple(known)):
        raise UsageError(f"{what} = {value!r} is not one of {', '.join(known)}", hint=did_you_mean(value, known))


def check_at_least(what: str, value: int, least: int) -> None:
    """Raise UsageError if a number is too small."""
    if value < least:
        raise UsageError(f"{what} = {value} is less than {least}", hint="leave it out to take the usual one")


def counted(count: int, what: str) -> str:
    """Write a number of things: ``1 image``, ``2,000 test images``; a verb at the end of ``what`` suits the number."""
    if count == 1:
        return f"1 {what}"
    words, verb = what.split(" "), ""
    if words[-1] in _OF_SEVERAL:
        verb = f" {_OF_SEVERAL[words.pop()]}"
    noun = " ".join(words)
    return f"{count:,} {noun}{'es' if noun.endswith('s') else 's'}{verb}"


_OF_SEVERAL = {"is": "are", "has": "have", "appears": "appear", "repeats": "repeat"}


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
