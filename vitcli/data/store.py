"""Where data sets are kept, and which of them are there; standard library only.

DATA_DIR/downloads/NAME/                 what a source fetched, as it came
DATA_DIR/prepared/NAME[-FINGERPRINT]/    facts-1.json, and one .safetensors file per split and geometry
"""

import os
from datetime import UTC, datetime
from pathlib import Path

from vitcli.core.files import write_text
from vitcli.data.registry import find_entry


def data_dir(setting: str = "") -> Path:
    """Where data sets are kept: the setting, else ``$VIT_DATA_DIR``, else the user's cache folder."""
    if chosen := setting or os.environ.get("VIT_DATA_DIR"):
        return Path(chosen).expanduser()
    if os.name == "nt":
        cache = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "vitcli"


def is_present(name: str, directory: Path) -> bool:
    """Whether a data set that has a name is on this machine."""
    downloads = downloads_folder(name, directory)
    return facts_file(named_folder(name, directory)).is_file() or (downloads.is_dir() and any(downloads.iterdir()))


def newest_download(directory: Path) -> str | None:
    """The data set that was asked for last with ``download``."""
    marks = [path.read_text(encoding="utf-8").partition(" ") for path in (directory / "prepared").glob("*/downloaded")]
    known = [(when, name) for when, _, name in marks if find_entry(name) and is_present(name, directory)]
    return max(known)[1] if known else None


def mark_downloaded(name: str, directory: Path) -> None:
    """Remember that this data set was asked for last."""
    write_text(named_folder(name, directory) / "downloaded", f"{datetime.now(UTC).isoformat()} {name}")


def named_folder(name: str, directory: Path) -> Path:
    """Where the prepared images of a data set that has a name are."""
    return directory / "prepared" / _as_folder(name)


def downloads_folder(name: str, directory: Path) -> Path:
    """Where a data set that has a name is fetched to; it is there when it is whole."""
    return directory / "downloads" / _as_folder(name)


def _as_folder(name: str) -> str:
    return name.replace(":", ".").replace("/", ".")  # no name has a dot of its own


def facts_file(folder: Path) -> Path:
    """The file that is written last: where it is, a data set is complete. A change of its schema changes its name."""
    return folder / "facts-1.json"
