"""Pictures in terminals that can show them, by the protocol of kitty or iTerm2.

Both protocols are escape sequences around the PNG file in base64. They are not written to logs, nor in multiplexers
such as tmux, which do not pass them on.
https://sw.kovidgoyal.net/kitty/graphics-protocol, https://iterm2.com/documentation-images.html
"""

import base64
import os
import shutil
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

Protocol = Literal["kitty", "iterm"]

_CHUNK = 4096
"""Maximum bytes of base64 in one chunk for kitty."""
_MOST_COLUMNS = 100
"""Maximum width in columns; the terminal makes wider pictures smaller."""
_SIZE_IN_PNG = slice(16, 24)
"""Bytes of width and height in a PNG file, big-endian: the first chunk begins with them."""
_KITTY_TERMS = ("xterm-kitty", "xterm-ghostty")
_KITTY_PROGRAMS = ("ghostty", "kitty")
_ITERM_PROGRAMS = ("iTerm.app", "WezTerm")


def can_show() -> bool:
    """Tell whether stdout and stderr are a terminal that is known to show pictures."""
    return sys.stdout.isatty() and sys.stderr.isatty() and detect(os.environ) is not None


def show_image(path: Path) -> None:
    """Show a PNG file on stderr; an unknown terminal is treated like iTerm2."""
    png = path.read_bytes()
    encode = as_kitty if detect(os.environ) == "kitty" else as_iterm
    sys.stderr.write(encode(png, fitting_columns(png, *shutil.get_terminal_size())) + "\n")
    sys.stderr.flush()


def fitting_columns(png: bytes, columns: int, lines: int) -> int:
    """Compute the width in cells at which a picture fits the terminal; a cell is twice as high as wide."""
    width, height = struct.unpack(">II", png[_SIZE_IN_PNG])
    whole: int = 2 * (lines - 2) * width // height
    return max(min(columns, _MOST_COLUMNS, whole), 1)


def detect(environment: Mapping[str, str]) -> Protocol | None:
    """Detect a terminal's protocol from its environment variables; None: not known, or inside a multiplexer."""
    term, program = environment.get("TERM", ""), environment.get("TERM_PROGRAM", "")
    if environment.get("TMUX") or environment.get("STY") or term.startswith(("tmux", "screen")):
        return None
    if program in _ITERM_PROGRAMS or environment.get("WEZTERM_PANE") or environment.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    if program in _KITTY_PROGRAMS or environment.get("KITTY_WINDOW_ID") or term in _KITTY_TERMS:
        return "kitty"
    return None


def as_kitty(png: bytes, columns: int) -> str:
    """Encode a PNG (f=100) for kitty to display (a=T), ``columns`` cells wide, in chunks; q=2 suppresses answers."""
    data = base64.b64encode(png).decode("ascii")
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    pieces = []
    for number, chunk in enumerate(chunks, start=1):
        keys = f"a=T,f=100,q=2,c={columns}," if number == 1 else "q=2,"
        pieces.append(f"\x1b_G{keys}m={int(number < len(chunks))};{chunk}\x1b\\")
    return "".join(pieces)


def as_iterm(png: bytes, columns: int) -> str:
    """Encode a PNG for iTerm2 as OSC 1337, ``columns`` cells wide; the height keeps the aspect ratio."""
    data = base64.b64encode(png).decode("ascii")
    return f"\x1b]1337;File=inline=1;size={len(png)};width={columns};preserveAspectRatio=1:{data}\x07"
