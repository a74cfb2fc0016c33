"""The paths that a user gives for a folder of images and its table of labels, checked before anything is read."""

from pathlib import Path

from vitcli.core.errors import DataError


def check_folder(folder: Path, *, labels: str = "") -> None:
    """Refuse a folder of images that is not there, or whose table of labels is not.

    Raises:
        DataError: one of them is missing, or something else.
    """
    if not folder.is_dir():
        wanted = "a folder of class subfolders, or a name of `vit datasets`"
        raise DataError(
            f"{folder} is not a folder", hint=f"give {'the folder that the images are in' if labels else wanted}"
        )
    if labels:
        check_table(table_path(folder, Path(labels).expanduser()))


def table_path(folder: Path, table: Path) -> Path:
    """Find a table by what it is called from here, or from inside the folder."""
    return table if table.exists() or not (folder / table).exists() else folder / table


def check_table(path: Path) -> None:
    """Refuse what is not a file.

    Raises:
        DataError: it is not there, or it is a folder.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder, not a file of labels", hint="--labels FILE.csv")
    if not path.exists():
        raise DataError(f"no such file of labels: {path}", hint="--labels FILE.csv")
