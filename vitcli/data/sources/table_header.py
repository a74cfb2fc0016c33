"""First rows of tables: the names of the columns, or an image already."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vitcli.core.events import Emit, Warned
from vitcli.data.sources.image_search import IMAGE_SUFFIXES
from vitcli.data.sources.names import words_in

_USUAL_WORDS = frozenset(
    [
        *("image", "images", "img", "photo", "picture", "file", "filename", "filepath", "path", "folder", "name", "id"),
        *("filenames", "fname", "paths", "uid", "uuid", "key"),
        *("label", "labels", "class", "classname", "target", "category", "species", "breed", "y"),
        *("split", "set", "subset", "data", "dataset", "partition"),
    ]
)
"""Words of the usual names of columns."""
_SAMPLE = 200
"""Number of rows that the first one is compared with."""


def has_column_names(path: Path, rows: Sequence[Sequence[str]], is_image: Callable[[str], bool], emit: Emit) -> bool:
    """Tell whether the first row of a table has the names of its columns.

    It has if a cell is a usual name, even if an image is called so; it has not if it looks like the rows below it.

    Args:
        path: the file, for the warning.
        rows: the rows of the table.
        is_image: tells whether a cell names an image exactly.
        emit: receives a warning if the first row has no usual name and looks different, and other rows name images.
    """
    first, others = rows[0], rows[1:][:_SAMPLE]
    if any(Path(cell).suffix.lower() in IMAGE_SUFFIXES for cell in first):
        return False
    columns = [[row[at] for row in others if at < len(row)] for at in range(len(first))]
    words = [set() if cell in below else {*words_in(cell)} for cell, below in zip(first, columns, strict=True)]
    if any(each and each <= _USUAL_WORDS for each in words):
        return True
    images = [(cell, below) for cell, below in zip(first, columns, strict=True) if cell and any(map(is_image, below))]
    if any(map(is_image, first)) or any(_shape(cell) in map(_shape, below) for cell, below in images):
        return False
    if any(each & _USUAL_WORDS for each in words):
        return True
    if any(_has_digit(cell) and all(map(_has_digit, below)) for cell, below in images):
        return False
    if images:
        names = ", ".join(repr(cell) for cell in first)
        text = f"the first row of {path} is taken as the names of the columns: {names}"
        emit(Warned(text=f"{text}; if it is an image, put a row `image,label` above it"))
    return True


def _shape(cell: str) -> str:
    return re.sub(r"\d+", "0", cell)


def _has_digit(cell: str) -> bool:
    return any(letter.isdecimal() for letter in cell)
