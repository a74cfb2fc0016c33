"""The folders in which data sets are kept, and which of them are there; standard library only.

DATA_DIR/downloads/NAME/                 what a source fetched, as it came
DATA_DIR/prepared/NAME[-FINGERPRINT]/    facts-1.json, and one .safetensors file per split and geometry
"""

import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from vitcli.core.errors import DataError, UsageError
from vitcli.core.files import write_text
from vitcli.data.registry import DATASETS, find_dataset, full_name
from vitcli.data.sources.kaggle_reference import KaggleReference
from vitcli.data.sources.paths import check_folder, check_table


def data_dir(setting: str = "") -> Path:
    """Return the folder of data sets: the setting, else ``$VIT_DATA_DIR``, else the user's cache folder."""
    if chosen := setting or os.environ.get("VIT_DATA_DIR"):
        return Path(chosen).expanduser()
    if os.name == "nt":
        cache = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vitcli"


def weights_dir() -> Path:
    """Return the folder of weights from plain addresses."""
    return data_dir() / "weights"


def make(directory: Path) -> None:
    """See to it that the place for data sets is there.

    Raises:
        DataError: it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{directory} cannot be made: {error.strerror}", hint="--data-dir names another place for data sets"
        ) from None


def check_dataset(name: str, *, labels: str = "") -> None:
    """Refuse what is neither the name of a data set nor a folder, before anything is read or fetched.

    Args:
        name: what was typed; empty: nothing.
        labels: a table of labels, if there is one.

    Raises:
        DataError: a path without a folder, or without the table that is named.
        UsageError: neither a known name nor a path.
    """
    name = full_name(name)
    if not name or find_dataset(name):
        if labels:
            check_table(Path(labels).expanduser())
        return
    path = Path(name).expanduser()
    if path.exists() or path.is_absolute() or len(path.parts) > 1:
        check_folder(path, labels=labels)
        return
    try:
        DATASETS[name]
    except UsageError as error:
        raise UsageError(f"{name!r} is neither a data set nor a folder", hint=error.hint) from None


def is_present(name: str, directory: Path) -> bool:
    """Tell whether a data set that has a name is on this machine."""
    downloads = downloads_folder(name, directory)
    return facts_file(named_folder(name, directory)).is_file() or (downloads.is_dir() and any(downloads.iterdir()))


def downloads(directory: Path) -> list[str]:
    """The data sets that were asked for with ``download``, the last one first; they may have been removed."""
    marks = [path.read_text(encoding="utf-8").partition(" ") for path in (directory / "prepared").glob("*/downloaded")]
    return [name for _, _, name in sorted(marks, reverse=True) if find_dataset(name)]


def unlisted(directory: Path) -> list[str]:
    """The data sets of Kaggle that are on this machine and in no table, by name."""
    names = []
    for path in sorted((directory / "downloads").glob("kaggle.*/")):
        with suppress(UsageError):  # somebody else's folder
            names.append(str(KaggleReference.parse(path.name.replace(".", ":", 1).replace(".", "/"))))
    return names


def mark_downloaded(name: str, directory: Path) -> None:
    """Remember that this data set was asked for last."""
    write_text(named_folder(name, directory) / "downloaded", f"{datetime.now(UTC).isoformat()} {name}")


def named_folder(name: str, directory: Path) -> Path:
    """Return the folder of the prepared images of a data set that has a name."""
    return directory / "prepared" / as_folder(name)


def downloads_folder(name: str, directory: Path) -> Path:
    """Return the folder that a data set with a name is fetched to; it is there when it is whole."""
    return directory / "downloads" / as_folder(name)


def as_folder(name: str) -> str:
    """A data set's name as that of a folder."""
    return name.replace(":", ".").replace("/", ".")  # no name has a dot of its own


def facts_file(folder: Path) -> Path:
    """The file that is written last: where it is, a data set is complete. A change of its schema changes its name."""
    return folder / "facts-1.json"
