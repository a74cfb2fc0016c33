"""Table files: CSV with any usual encoding and delimiter, a plain list, or JSON lines."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, Warned
from vitcli.core.files import plain_cell
from vitcli.data.sources.image_search import IMAGE_SUFFIXES
from vitcli.data.sources.paths import check_table
from vitcli.data.sources.table_header import has_column_names

_DELIMITERS = ",;\t|"
_STATED_DELIMITER = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
"""The first line with which a file tells spreadsheets its delimiter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """The rows of a table file; ``lines`` are the line numbers of the rows in the file."""

    path: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]


class Nested(str):
    """The text of a list or an object in JSON lines, which is no name."""

    __slots__ = ()


def read_table(path: Path, *, is_image: Callable[[str], bool], emit: Emit) -> Table:
    """Read the rows of a CSV file with any usual encoding and delimiter, a plain list or JSON lines; skip blank lines.

    Args:
        path: the file.
        is_image: tells whether a cell names an image exactly; a first row with such a cell is usually not a header.
        emit: receives a warning if the encoding or the header had to be guessed.

    Raises:
        DataError: the file does not exist, is not a table or has no rows, or a row has more cells than there are
            columns.
    """
    check_table(path)
    if path.suffix.lower() == ".parquet":
        raise DataError(
            f"{path} is a Parquet file, which vit does not read", hint="write its rows as CSV, with file names"
        )
    is_json = path.suffix.lower() == ".jsonl"
    try:
        text = _decoded(path, emit)
        delimiter = "" if is_json else _delimiter(text)
        found = _json_rows(text) if is_json else _csv_rows(path, text, delimiter)
    except csv.Error as error:
        raise DataError(f"{path} is not a CSV file: {error}") from None
    except (ValueError, TypeError, RecursionError):
        wanted = 'expected in each: {"file_name": "a.jpg", "label": "cat"}'
        raise DataError(f"{path} has lines that are not JSON objects", hint=wanted) from None
    found = [(line, row) for line, row in found if any(row)]
    if _STATED_DELIMITER.match(text):
        found = found[1:]
    if not found:
        raise DataError(f"{path} is empty", hint="expected: a row per image, with its name and its label")
    first = found[0][1]
    has_header = is_json or has_column_names(path, [row for _, row in found], is_image, emit)
    header = first if has_header else [f"column {at + 1}" for at in range(len(first))]
    while header and not header[-1]:
        header.pop()
    rows, lines = [], []
    for line, row in found[has_header:]:
        if any(row[len(header) :]):
            raise DataError(
                f"line {line} of {path} has {len(row)} cells, but there are {len(header)} columns",
                hint='names with commas belong in quotes: "a, b.jpg",cat',
            )
        rows.append((row + [""] * len(header))[: len(header)])
        lines.append(line)
    if not rows:
        raise DataError(f"{path} has a header and no rows")
    return Table(path=path, header=tuple(header), rows=rows, lines=lines)


def join_splits(tables: Sequence[Table], image: str) -> Table:
    """Join tables that lie in the folders of splits: a new column and the names of images tell the folder."""
    header = ("split folder", *dict.fromkeys(name for table in tables for name in table.header))
    rows = []
    for table in tables:
        folder = table.path.parent.name
        for row in table.rows:
            cells = {"split folder": folder, **dict(zip(table.header, row, strict=True))}
            cells |= {image: f"{folder}/{cells[image]}"} if image in cells else {}
            rows.append([cells.get(name, "") for name in header])
    path = tables[0].path.parents[1] / "*" / tables[0].path.name
    return Table(path=path, header=header, rows=rows, lines=[line for table in tables for line in table.lines])


def _json_rows(text: str) -> list[tuple[int, list[str]]]:
    """Return JSON lines as rows with their line numbers, after a row of their keys."""
    found = [(at, {**json.loads(line)}) for at, line in enumerate(text.split("\n"), start=1) if line.strip()]
    keys = list(dict.fromkeys(key for _, row in found for key in row))
    return [(0, keys), *((at, [_json_cell(row.get(key)) for key in keys]) for at, row in found)]


def _json_cell(value: Any) -> str:
    text = str("" if value is None else value).strip()
    return Nested(text) if isinstance(value, list | dict) else text


def _csv_rows(path: Path, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a CSV file with the numbers of their first lines; refuse a quote that swallows lines.

    Quotes with spaces around them, and one that is not closed in the last line, are harmless.
    """
    lines = [*io.StringIO(text, newline="")]
    read = partial(csv.reader, delimiter=delimiter or ",", skipinitialspace=True)
    reader, found, before = read(lines), [], 0
    for row in _split_rows(reader, delimiter):
        found.append((before + 1, [plain_cell(cell.strip()) for cell in row]))
        if reader.line_num > before + 1:
            try:
                list(read(lines[before : reader.line_num], strict=True))
            except csv.Error:
                hint = 'close it or remove it; inside of quotes, one is written twice: "5"" disk.jpg",cat'
                raise DataError(f"line {before + 1} of {path} has a quote that is not closed", hint=hint) from None
        before = reader.line_num
    return found


def _split_rows(reader: Iterable[list[str]], delimiter: str) -> Iterable[list[str]]:
    """Yield the rows; without a delimiter, split each line into a name and a label."""
    for row in reader:
        yield row if delimiter or not row else _name_and_label(",".join(row))


def _name_and_label(line: str) -> list[str]:
    """Split a line after the first word with the ending of an image, else before the last word."""
    for found in re.finditer(r"\S+(?=\s)", line):
        if Path(found[0]).suffix.lower() in IMAGE_SUFFIXES:
            return [line[: found.end()], line[found.end() :].strip()]
    return line.rsplit(maxsplit=1)


def _decoded(path: Path, emit: Emit) -> str:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _strictly(content, "utf-16", path, "UTF-16 text, or it is cut off")
    if b"\0" in content:
        raise DataError(f"{path} is not text", hint="expected: a CSV file; spreadsheets can be saved as one")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = _strictly(content, "cp1252", path, "UTF-8 or Windows-1252 text")
    emit(Warned(text=f"{path} is not UTF-8; it is read as Windows-1252 (cp1252)"))
    return text


def _strictly(content: bytes, encoding: str, path: Path, kind: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path} is not {kind}: byte {error.start:,}, in line {line:,}", hint="save it again, as UTF-8"
        ) from None


def _delimiter(text: str) -> str:
    """Find the delimiter: that of a line ``sep=;``, else the one that splits the first line into the most cells.

    It is empty if none splits it.
    """
    if stated := _STATED_DELIMITER.match(text):
        return stated[1]
    first = next((line for line in text.splitlines() if line.strip()), "")
    cells = {each: len(next(csv.reader([first], delimiter=each), [])) for each in _DELIMITERS}
    best = max(cells, key=lambda each: cells[each])
    return best if cells[best] > 1 else ""
