"""Checks of the paths of image folders and tables of labels, made before anything is read."""

import shlex
from pathlib import Path

from vitcli.core.errors import DataError
from vitcli.core.files import expanded


def check_folder(folder: Path, *, labels: str = "") -> None:
    """Refuse a folder of images that does not exist or is a run, or whose table of labels does not exist.

    Raises:
        DataError: the path is not a folder, or that of a run or a group, or the table is missing or is not a file.
    """
    check_no_run(folder, called=str(folder))
    if not folder.is_dir():
        wanted = "a folder of class subfolders, or a name of `vit datasets`"
        raise DataError(
            f"{folder} is not a folder", hint=f"give {'the folder that the images are in' if labels else wanted}"
        )
    if labels:
        check_table(table_path(folder, expanded(labels)))


def check_no_run(folder: Path, *, called: str) -> None:
    """Raise DataError if a folder is that of a run, or of a group of runs; ``called`` is its name in a command."""
    if any(any(folder.glob(f"{place}run.json")) for place in ("", "fold-*/", "seed-*/")):
        raise DataError(
            f"{folder} is a run, not a data set",
            hint=f"--model={shlex.quote(called)} uses it; `vit train DATA --init-from {shlex.quote(called)}` starts from it",
        )


def table_path(folder: Path, table: Path) -> Path:
    """Find a table of labels by its path from the working directory, or from inside the folder."""
    return table if table.exists() or not (folder / table).exists() else folder / table


def check_table(path: Path) -> None:
    """Refuse a table of labels that is not a file.

    Raises:
        DataError: the path does not exist, or is a folder.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file of labels", hint="--labels FILE.csv")
    if not path.exists():
        raise DataError(f"no such file of labels: {path}", hint="--labels FILE.csv")
