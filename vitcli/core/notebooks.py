"""HTML for results in notebooks."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path

from vitcli.core.errors import visible

_MOST_ROWS = 40


def html_table(rows: Sequence[Sequence[str]], *, headings: Sequence[str] = ()) -> str:
    """Format a table; names stay text, whatever they consist of. Of a long table, the remaining rows are counted."""
    shown = [*rows[:_MOST_ROWS], *([(f"and {len(rows) - _MOST_ROWS:,} more",)] if len(rows) > _MOST_ROWS else [])]
    kinds = [*([("th", headings)] if headings else []), *(("td", row) for row in shown)]
    lines = (
        "".join(f'<{kind} style="text-align: left">{escape(visible(cell))}</{kind}>' for cell in row)
        for kind, row in kinds
    )
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def picture_of(file: Path) -> bytes | None:
    """Read a figure; None if it is not there any more."""
    try:
        return file.read_bytes()
    except OSError:
        return None


def html_picture(png: bytes | None) -> str:
    """Embed a PNG file; None gives an empty text."""
    source = b64encode(png or b"").decode()
    return f'<img src="data:image/png;base64,{source}" style="max-width: min(100%, 800px)">' if source else ""
