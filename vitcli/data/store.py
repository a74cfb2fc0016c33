"""Where data sets are kept, and which of them are there; standard library only.

DATA_DIR/downloads/NAME/                 what a source fetched, as it came
DATA_DIR/prepared/NAME[-FINGERPRINT]/    facts-1.json, and one .safetensors file per split and geometry
"""

import os
from datetime import UTC, datetime
from pathlib import Path

from vitcli.core.files import write_text
from vitcli.data.registry import DATASETS


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
    """Whether a registered data set is ready for use."""
    return facts_file(named_folder(name, directory)).is_file()


def newest_download(directory: Path) -> str | None:
    """The registered data set that was asked for last with ``download``."""
    markers = [
        path
        for path in (directory / "prepared").glob("*/downloaded")
        if path.parent.name in DATASETS and facts_file(path.parent).is_file()
    ]
    return max(markers, key=lambda path: path.read_text()).parent.name if markers else None


def mark_downloaded(name: str, directory: Path) -> None:
    """Remember that this data set was asked for last."""
    write_text(named_folder(name, directory) / "downloaded", datetime.now(UTC).isoformat(timespec="microseconds"))


def named_folder(name: str, directory: Path) -> Path:
    """Where the prepared images of a registered data set are."""
    return directory / "prepared" / name


def facts_file(folder: Path) -> Path:
    """The file that is written last: where it is, a data set is complete. A change of its schema changes its name."""
    return folder / "facts-1.json"
