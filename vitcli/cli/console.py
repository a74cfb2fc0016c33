"""Output of the commands: data (tables or JSON) on stdout; notes, warnings, progress and errors on stderr."""

import json
import math
import re
import sys
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from vitcli.cli.examples import EXAMPLES
from vitcli.cli.progress import PlainListener
from vitcli.cli.wrapping import APART, longest_piece, wrapped
from vitcli.core.errors import Interrupted, VitError, visible
from vitcli.core.events import Emit
from vitcli.core.preprocessing import format_size
from vitcli.core.provenance import program
from vitcli.core.words import percent

_PACKAGE = Path(__file__).parents[1]
_UNLIMITED = 10_000
_GAP = 2
"""Characters between two columns of a table."""
_NAMES, _PROSE = 24, 12
"""Minimum width in characters of the first column of a table, and of other text columns.

It is less if the text is shorter; the first column needs only half of its longest name, which then takes two lines.
"""


_COMMAND = re.compile(rf"(?<![\w./-])vit(?= (?:{'|'.join(EXAMPLES)}|COMMAND)\b)")
"""The name of the program in a command to type."""


class SafeConsole(Console):
    """A console that shows control and direction characters as escapes, wherever a text comes from.

    On stderr, commands to type begin with the words that started this program, for example ``uv run vit``.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a text with markup, as for ``Console``."""
        if self.stderr and (typed := program()) != "vit":
            text = _COMMAND.sub(lambda _: escape(typed), text)
        return super().render_str(visible(text), **options)


def stdout() -> Console:
    """Return a new console for data, because stdout may be redirected; lines in files and pipes are not wrapped."""
    return SafeConsole(highlight=False, width=None if sys.stdout.isatty() else _UNLIMITED)


def stderr() -> Console:
    """Return a new console for everything that is not data."""
    return SafeConsole(stderr=True, highlight=False, width=None if sys.stderr.isatty() else _UNLIMITED)


def show_error(error: VitError) -> None:
    """Print the message of an error and its hint, one line each; a stop by the user is not labelled as an error."""
    console = stderr()
    label = "" if isinstance(error, Interrupted) else "[bold red]error:[/] "
    console.print(label + escape(error.message))
    if error.hint:
        console.print(f"[dim]hint:[/] {escape(error.hint)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorFacts:
    """One error."""

    code: str
    """The family of the error."""
    message: str
    """The cause: the value that is wrong, and what was expected."""
    hint: str
    """The next command or action; empty: none is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorDocument:
    """The output of a command that fails."""

    error: ErrorFacts
    """The error that ended the command."""


def print_error(error: VitError) -> None:
    """Print an error as JSON on stdout, in place of the result."""
    print_json(ErrorDocument(error=ErrorFacts(code=error.code, message=error.message, hint=error.hint)))


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """Show a warning of ours or of Pillow in one line, the latter with the name of the image; others as Python does.

    It has the arguments of ``warnings.showwarning``, which it replaces.
    """
    is_ours, is_pillow = Path(filename).is_relative_to(_PACKAGE), Path(filename).parent.name == "PIL"
    if not (is_ours or is_pillow):
        _show_as_python_does(message, category, filename, lineno, file, line)
        return
    from vitcli.data.decoding import being_read

    path = being_read() if is_pillow else None
    what = " ".join(str(message).split())
    stderr().print(f"[yellow]warning:[/] {escape(f'{path}: {what}' if path else what)}")


_show_as_python_does = warnings.showwarning


def restore_terminal() -> None:
    """End the line of a progress bar, and show the hidden cursor again."""
    if sys.stderr.isatty():
        console = Console(stderr=True)
        console.show_cursor()
        console.line()


def print_json(value: Any) -> None:
    """Print a result as JSON on stdout; ``docs/schemas/`` describes it."""
    sys.stdout.write(json.dumps(_plain(value), indent=2, allow_nan=False) + "\n")


def print_rows(rows: Sequence[Any], columns: dict[str, str], *, title: str = "", empty: str = "none") -> None:
    """Print a table with one row per dataclass.

    Args:
        rows: the dataclasses.
        columns: headings by field name.
        title: title above the table.
        empty: note on stderr if there are no rows.
    """
    if not rows:
        stderr().print(empty)
        return
    fields = list(columns)
    numbers = [at for at, field in enumerate(fields) if all(_is_number(getattr(row, field)) for row in rows)]
    cells = [[_cell(getattr(row, field)) for field in fields] for row in rows]
    print_table(list(columns.values()), cells, numbers=numbers, title=title)


def print_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: Collection[int],
    title: str = "",
    below: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> None:
    """Print a table on stdout; if it is too wide, text columns are wrapped, and numbers stay on one line.

    In a terminal that is still too narrow, each row becomes a paragraph: its first cell (a number with its heading), then
    the others with their headings.

    Args:
        headings: headings of the columns.
        rows: cells of each row.
        numbers: indices of the columns that hold numbers, from 0.
        title: title above the table.
        below: a line below each row; empty: none.
        styles: a style for each row; empty: none.
    """
    console = stdout()
    headings, *rows = [[visible(cell) for cell in row] for row in (headings, *rows)]
    widths = _fitted([headings, *rows], numbers, console.width)
    lines = [Text(title, "italic")] if title else []
    if widths:
        lines += _side_by_side(headings, widths, ["bold"] * len(widths), numbers)
    for number, (cells, style) in enumerate(zip(rows, styles or [""] * len(rows), strict=True)):
        if widths:
            lines += _side_by_side(cells, widths, [style] * len(widths), numbers)
        else:
            named = [f"{heading}: {cell}" for heading, cell in zip(headings, cells, strict=True) if cell]
            first = f"{headings[0]} {cells[0]}" if cells[0] and 0 in numbers else cells[0]
            lines += _lines(first, console.width, style or "bold")
            lines += _lines(APART.join(named[bool(cells[0]) :]), console.width, style, indent=_GAP)
        if below:
            lines += _lines(visible(below[number]), console.width, "dim", indent=_GAP)
    console.print(Text("\n").join(lines), soft_wrap=True)


def print_facts(facts: dict[str, str]) -> None:
    """Print names and values in two aligned columns; in a terminal that is too narrow, values are below their names."""
    console = stdout()
    rows = [(visible(name), visible(value)) for name, value in facts.items()]
    names = max((cell_len(name) for name, _ in rows), default=0)
    room, lines = console.width - names - _GAP, list[Text]()
    whole, pieces = (max((measure(value) for _, value in rows), default=0) for measure in (cell_len, longest_piece))
    has_room = room >= max(min(whole, _NAMES), pieces)
    for name, value in rows:
        if has_room:
            lines += _side_by_side((name, value), (names, room), ("dim", ""))
        else:
            lines += [*_lines(name, console.width, "dim"), *_lines(value, console.width, "", indent=_GAP)]
    console.print(Text("\n").join(lines), soft_wrap=True)


def _fitted(rows: Sequence[Sequence[str]], numbers: Collection[int], room: int) -> list[int]:
    """Choose the widths of columns, the first row being the headings; empty: there is too little room for a table."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    room -= _GAP * (len(widths) - 1)
    if sum(widths) <= room:
        return widths
    least = []
    for at, (heading, *cells) in enumerate(columns):
        pieces = min(max(map(longest_piece, (heading, *cells))), _NAMES)
        whole = max(map(cell_len, cells), default=0)
        least.append(
            max(pieces, whole if at in numbers else min(whole, _PROSE) if at else min((whole + 1) // 2, _NAMES))
        )
    if sum(least) > room:
        return []
    short = widths[0] <= _NAMES  # short names are broken last
    while sum(widths) > room:
        wide = (at for at in range(len(widths)) if widths[at] > least[at])
        widths[max(wide, key=lambda at: (at > 0 or not short, widths[at]))] -= 1
    return widths


def _side_by_side(
    cells: Sequence[str], widths: Sequence[int], styles: Sequence[str], numbers: Collection[int] = ()
) -> list[Text]:
    """Lay out a row of a table, with numbers at the right edges of their columns."""
    broken = [wrapped(cell, width).split("\n") for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for parts in zip_longest(*broken, fillvalue=""):
        line = Text()
        for at, (part, width, style) in enumerate(zip(parts, widths, styles, strict=True)):
            free = " " * (width - cell_len(part))
            line.append(" " * _GAP * bool(at)).append(free + part if at in numbers else part + free, style)
        line.rstrip()
        lines.append(line)
    return lines


def _lines(text: str, width: int, style: str, *, indent: int = 0) -> list[Text]:
    """Break a text into lines; an empty text has none."""
    return [Text(" " * indent + line, style) for line in wrapped(text, width - indent).split("\n") if line]


@contextmanager
def listening() -> Iterator[Emit]:
    """Show events while the block runs: live in a terminal, else as plain lines."""
    console = stderr()
    if not console.is_terminal:
        yield PlainListener(console)
        return
    from vitcli.cli.live import live_listener  # rich's progress bars take a while to import

    with live_listener(console) as listener:
        yield listener


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | None)


def _cell(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return percent(value)
        case (int(), int()):
            return format_size(value)
        case _:
            return str(value)


def _plain(value: Any) -> Any:
    """Convert dataclasses, paths, tuples and arrays to types that JSON has; NaN and infinity, which it lacks, are None.

    Fields with the metadata ``{"json": False}`` are left out.
    """
    if is_dataclass(value) and not isinstance(value, type):
        printed = (field.name for field in fields(value) if field.metadata.get("json", True))
        return {name: _plain(getattr(value, name)) for name in printed}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return _plain(value.tolist()) if hasattr(value, "tolist") else value
