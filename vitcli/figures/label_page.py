"""A single web page on which a person decides about doubtful labels, and downloads a table of labels."""

import base64
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vitcli.core.files import replacing, safe_cell
from vitcli.figures.offline_page import page_parts, picture_address, safe_json

MOST_BYTES = 14_000_000
"""Size of a page, at most: pictures that would exceed it are left out."""
_SMALL = 64
"""Pixels of the longer side up to which a picture is stored without loss, and shown with square pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelTable:
    """The labels of all images, from which the page makes the table to download."""

    names: Sequence[str]
    labels: Sequence[int]
    classes: Sequence[str]
    values: Sequence[str]
    """The label of each class as a table of labels writes it."""
    splits: Sequence[str] = ()
    """The split of each image on disk; empty: all are in one, so the table has no column of splits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """The findings of one kind: a heading, a note, and entries of an image or a group each."""

    title: str
    note: str
    entries: Sequence[tuple[str, Sequence[int]]]
    """The heading of each entry, empty for a single image, and the rows of its images in the table."""


class LabelPage:
    """A page that is being written, one image after the other; ``label_page`` creates it."""

    def __init__(self, file: TextIO, table: LabelTable, room: int) -> None:
        self._file = file
        self._table = table
        self._room = room
        self.rows: set[int] = set()
        """The rows of the images that were added."""

    def add(
        self,
        row: int,
        pixels: NDArray[np.uint8],
        *,
        split: str,
        reasons: Sequence[str],
        suggested: int | None = None,
        overlay: NDArray[np.uint8] | None = None,
    ) -> bool:
        """Write an image; return False if the page has no room for it.

        Args:
            row: its row in the table.
            pixels: the picture, (C, H, W).
            split: the name of its split.
            reasons: a line for every finding about it.
            suggested: the class that it probably has.
            overlay: the picture with its attention map, (C, H, W).
        """
        is_small = max(pixels.shape[1:]) <= _SMALL
        facts = {
            "row": row,
            "name": self._table.names[row],
            "label": self._table.labels[row],
            "suggested": suggested,
            "split": split,
            "reasons": list(reasons),
            "isSmall": is_small,
            "picture": picture_address(pixels, lossy=not is_small),
            "map": "" if overlay is None else picture_address(overlay, lossy=True),
        }
        block = f'<script type="application/json" class="image">{safe_json(facts)}</script>\n'
        if len(block) > self._room:
            return False
        self._room -= self._file.write(block)
        self.rows.add(row)
        return True


@contextmanager
def label_page(
    path: Path,
    *,
    title: str,
    notes: Sequence[str],
    table: LabelTable,
    file: str,
    sections: list[Section],
    most_bytes: int = MOST_BYTES,
) -> Iterator[LabelPage]:
    """Write a page that needs no other file and no network; the file appears when the block succeeds.

    Args:
        path: the HTML file.
        title: the title of the page.
        notes: paragraphs below the title.
        table: the labels of all images.
        file: the name of the table that the page downloads.
        sections: the findings; the block may fill the list. They may only name images that were added.
        most_bytes: the size of the page, at most, without the table.
    """
    rows = {
        "names": [safe_cell(name) for name in table.names],
        "labels": list(table.labels),
        "splits": list(table.splits),
    }
    packed = base64.b64encode(zlib.compress(safe_json(rows).encode(), level=6)).decode()
    facts: dict[str, Any] = {
        "classes": list(table.classes),
        "values": [safe_cell(value) for value in table.values],
        "hasSplits": bool(table.splits),
        "file": file,
        "total": len(table.names),
    }
    head, tail, values = page_parts("label_page", title=title, notes=notes)
    filled = values | {"facts": safe_json(facts), "rows": packed}
    head = Template(head).substitute(filled)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace", newline="\n") as text:
        text.write(head)
        page = LabelPage(text, table, most_bytes - len(head) - len(values["script"]))
        yield page
        shown = [
            {
                "title": section.title,
                "note": section.note,
                "entries": [{"title": heading, "rows": list(those)} for heading, those in section.entries],
            }
            for section in sections
        ]
        assert {row for section in sections for _, those in section.entries for row in those} <= page.rows
        text.write(Template(tail).substitute(filled | {"sections": safe_json(shown)}))
