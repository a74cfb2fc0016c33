"""The folders of data sets, and the data sets that are on this machine; standard library only.

DATA_DIR/downloads/NAME/                 the files of a source, as downloaded
DATA_DIR/prepared/NAME[-FINGERPRINT]/    facts-4.json, and one .safetensors file per split and geometry
"""

import os
import shlex
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitcli.core.errors import DataError, UsageError, nearest
from vitcli.core.events import Emit, Note
from vitcli.core.files import expanded, write_text
from vitcli.data.registry import DATASETS, canonical_name, find_dataset, full_name
from vitcli.data.sources.kaggle_reference import KaggleReference
from vitcli.data.sources.paths import check_folder, check_no_run, check_table, table_path

if TYPE_CHECKING:
    from vitcli.core.config import DataConfig

_LONGEST_NAME = 200
"""Bytes; file systems allow 255, and more is added."""


def data_dir(setting: str = "") -> Path:
    """Return the folder of data sets: the setting, else ``$VIT_DATA_DIR``, else the user's cache folder."""
    if chosen := setting or os.environ.get("VIT_DATA_DIR"):
        return expanded(chosen)
    if os.name == "nt":
        cache = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vitcli"


def words_of(data: "DataConfig") -> list[str]:
    """Return the words of a command that name images and their table of labels.

    The folder of data sets is among them unless it is the usual one.
    """
    is_usual = not data.dir or expanded(data.dir).resolve() == data_dir().resolve()
    return [*data.words, *([] if is_usual else ["--data-dir", data.dir])]


def preview_of(data: "DataConfig") -> str:
    """Return the command that draws images."""
    return shlex.join(["vit", "preview", *words_of(data)])


def weights_dir() -> Path:
    """Return the folder of weights that are downloaded from plain URLs."""
    return data_dir() / "weights"


def make(directory: Path) -> None:
    """Create the folder for data sets if it does not exist.

    Raises:
        DataError: the folder cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"{directory} cannot be created: {error.strerror}", hint="--data-dir names another place for data sets"
        ) from None


def located(data: "DataConfig") -> dict[str, Any]:
    """Return the settings that name a data set and its tables, for use in any working directory: paths are absolute."""
    given = {"labels": data.labels, "label_map": data.label_map}
    folder = expanded(data.name)
    paths = {key: str(table_path(folder, expanded(value)).resolve()) for key, value in given.items() if value}
    return {"name": canonical_name(data.name), **paths}


def check_dataset(name: str, *, labels: str = "", output_dir: Path = Path("experiments")) -> None:
    """Refuse a text that is neither the name of a data set nor a folder, before anything is read or downloaded.

    Args:
        name: the text from the command line; empty: none was given.
        labels: the path of a table of labels, if there is one.
        output_dir: the folder of all runs, to recognise the name of a run.

    Raises:
        DataError: the text is neither a known name nor a path, or it is that of a run; the path is not a folder, or the
            table does not exist.
    """
    name = full_name(name)
    if not name or find_dataset(name):
        if labels:
            check_table(expanded(labels))
        return
    path = expanded(name)
    if path.exists() or path.is_absolute() or len(path.parts) > 1:
        check_folder(path, labels=labels)
        return
    try:
        DATASETS[name]
    except UsageError as error:
        check_no_run(output_dir / name, called=name)
        folders = [each.name for each in Path().iterdir() if each.is_dir() and not each.name.startswith(".")]
        near = nearest(name, [*DATASETS, *folders])
        hint = f"did you mean {near!r}?" if near in folders else error.hint
        raise DataError(f"{name!r} is neither a data set nor a folder", hint=hint) from None


def tell_of_folder(name: str, emit: Emit) -> None:
    """Say that a name which was typed is taken as that of a data set, if a folder has this name too."""
    if find_dataset(name) and Path(name).is_dir():
        emit(Note(text=f"{name} is a data set of `vit datasets`; ./{name} names the folder"))


def is_present(name: str, directory: Path) -> bool:
    """Tell whether a data set known by name is on this machine."""
    downloads = downloads_folder(name, directory)
    return facts_file(named_folder(name, directory)).is_file() or (downloads.is_dir() and any(downloads.iterdir()))


def downloads(directory: Path) -> list[str]:
    """List the data sets requested with ``vit download``, the latest first; some may have been removed since."""
    marks = []
    for path in (directory / "prepared").glob("*/downloaded"):
        with suppress(OSError, UnicodeDecodeError, UsageError):  # a broken mark is none
            when, _, name = path.read_text(encoding="utf-8").partition(" ")
            if find_dataset(name):
                marks.append((when, name))
    return [name for _, name in sorted(marks, reverse=True)]


def unlisted(directory: Path) -> list[str]:
    """List the names of Kaggle data sets that are on this machine but not in the table."""
    names = []
    for path in sorted((directory / "downloads").glob("kaggle.*/")):
        with suppress(UsageError):  # the folder of another program
            names.append(str(KaggleReference.parse(path.name.replace(".", ":", 1).replace(".", "/"))))
    return names


def mark_downloaded(name: str, directory: Path) -> None:
    """Record that a data set was requested with ``vit download`` just now."""
    write_text(named_folder(name, directory) / "downloaded", f"{datetime.now(UTC).isoformat()} {name}")


def named_folder(name: str, directory: Path) -> Path:
    """Return the folder of the prepared images of a data set known by name."""
    return directory / "prepared" / as_folder(name)


def downloads_folder(name: str, directory: Path) -> Path:
    """Return the download folder of a data set known by name; it exists only when it is complete."""
    return directory / "downloads" / as_folder(name)


def as_folder(name: str) -> str:
    """Convert a data set's name to the name of a folder, which is always UTF-8, and not too long."""
    name = name.replace(":", ".").replace("/", ".")  # names of data sets have no dots
    return name.encode("utf-8", "replace")[:_LONGEST_NAME].decode("utf-8", "ignore")


def facts_file(folder: Path) -> Path:
    """Return the path of the facts, the file that is written last: if it exists, the data set is complete.

    A new schema of the file gets a new number in its name.
    """
    return folder / "facts-4.json"
