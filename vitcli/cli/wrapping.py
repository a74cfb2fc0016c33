"""Line breaks: at spaces, in paths after a slash, in names after a hyphen; a number keeps its digits, unit and name."""

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len, chop_cells

APART = "   "
"""The gap between parts of a text that stay on one line each, if they fit."""
_UNITS = "%|[x×] ?[0-9]|±|[kMGT]?i?B|ms|s|min|h|points?|pixels?|dpi"
_COUNT = r"[0-9]+(?:,[0-9]+)*(?:[,;]?\s*$|[,;]\s)"
"""A number at the end of an entry of a list, such as ``cat 12, dog 1,034``; it stays beside its name."""
_AT_SPACES = (
    rf"(?<=\S{APART})(?=\S)",
    rf"(?<= )(?!{_COUNT})(?![↓↑])(?<!± )(?<![0-9] [x×] )(?<![0-9] (?=(?:{_UNITS})(?![a-z])))",
)
_IN_WORDS = (r"(?<=[^/\s]/)(?=[^/\s])(?<![0-9]/(?=[0-9]))", r"(?<=\w-)(?=\w)(?<![0-9]-(?=[0-9]))(?<![0-9][eE]-)")
_BREAKS = (*_AT_SPACES, *_IN_WORDS, r"(?<=[.=,])(?=[A-Za-z])")
"""Places where a line may end, the best ones first; the others are used in what is longer than a line."""
_LAST = (r"(?<= )", r"(?<=_)(?=[A-Za-z])")
"""Places that are used only in a line that is shorter than a number with its unit, or than a name with underscores."""


def wrapped(text: str, width: int) -> str:
    """Break a text into lines of at most ``width`` cells; only a name without hyphens that is longer is cut anywhere."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for piece in _pieces(paragraph, width, (*_BREAKS, *_LAST)):
            if line and cell_len(line) + cell_len(piece.rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += piece
        lines.append(line.rstrip())
    return "\n".join(lines)


def longest_piece(text: str) -> int:
    """Return the number of cells that a text needs, if a line ends wherever it may."""
    return max((cell_len(piece.rstrip()) for line in text.split("\n") for piece in _split(line, _BREAKS)), default=0)


def _pieces(text: str, width: int, breaks: Sequence[str]) -> Iterator[str]:
    """Split a text that is longer than a line at the best places where the parts fit into a line."""
    if cell_len(text.rstrip()) <= width:
        yield text
    elif not breaks:
        yield from chop_cells(text, width)
    else:
        for part in re.split(breaks[0], text):
            yield from _pieces(part, width, breaks[1:])


def _split(text: str, breaks: Sequence[str]) -> list[str]:
    parts = [text]
    for each in breaks:
        parts = [piece for part in parts for piece in re.split(each, part)]
    return parts
