"""A figure with exact pixel positions: panels are pasted, not resampled, and text is measured before it is written."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vitcli.core.errors import visible
from vitcli.core.files import replacing
from vitcli.figures.fonts import east_asian_fonts, is_east_asian

INK = "#1b1b1f"
FAINT = "#6b6b76"
RIGHT = "#0b6e3a"
WRONG = "#b3261e"
"""RIGHT and WRONG differ in hue; a mark beside the text tells them apart for colour-blind readers."""

MARGIN = 24


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of text."""

    text: str
    size: int = 16
    """The font size in pixels."""
    colour: str = INK
    is_bold: bool = False

    @property
    def height(self) -> int:
        """The distance to the next line in pixels."""
        return round(1.4 * self.size)

    @property
    def width(self) -> int:
        """The width of the full text in pixels."""
        return math.ceil(self.font.getlength(_one_line(self.text)))

    @property
    def font(self) -> ImageFont.FreeTypeFont:
        """The font that comes with matplotlib, or an installed font for letters that matplotlib's font lacks."""
        others = list(east_asian_fonts().values()) if is_east_asian(self.text) else []
        return _font(others[0] if others else _own_font(is_bold=self.is_bold), self.size)


class Board:
    """A white image to draw on, with a size in pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), "white")
        self._draw = ImageDraw.Draw(self.image)

    def paste(self, pixels: NDArray[np.uint8], left: int, top: int) -> None:
        """Paste an image, (H, W, 3), at a position."""
        self.image.paste(Image.fromarray(pixels), (left, top))

    def write(
        self,
        lines: Iterable[Line],
        left: int,
        top: int,
        width: int,
        *,
        align: Literal["left", "middle", "right"] = "left",
    ) -> None:
        """Write lines below each other; a line that is too wide is cut and ends in an ellipsis."""
        for line in lines:
            text = _shortened(line, width)
            free = width - line.font.getlength(text)
            shift = {"left": 0.0, "middle": free / 2, "right": free}[align]
            self._draw.text((left + round(shift), top), text, fill=line.colour, font=line.font)
            top += line.height

    def outline(self, box: tuple[float, float, float, float], colour: str = "white") -> None:
        """Draw a frame around left, top, right, bottom that is visible on every background."""
        left, top, right, bottom = (round(at) for at in box)
        self._draw.rectangle((left - 3, top - 3, right + 2, bottom + 2), outline="black", width=4)
        self._draw.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline=colour, width=2)

    def line(self, start: tuple[int, int], end: tuple[int, int], colour: str = INK) -> None:
        """Draw a line that is one pixel wide."""
        self._draw.line((*start, *end), fill=colour)

    def polygon(self, corners: list[tuple[int, int]], colour: tuple[int, int, int]) -> None:
        """Draw a filled polygon."""
        self._draw.polygon(corners, fill=colour)

    def save(self, path: Path) -> None:
        """Write the image as PNG, atomically."""
        with replacing(path) as temporary:
            self.image.save(temporary, format="png", dpi=(150, 150), compress_level=2)


def height_of(lines: Iterable[Line]) -> int:
    """Compute the height of several lines in pixels."""
    return sum(line.height for line in lines)


def _shortened(line: Line, width: int) -> str:
    """Cut the text of a line to a width in pixels, by bisection."""
    text = _one_line(line.text)
    if line.font.getlength(text) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = line.font.getlength(text[:middle].rstrip() + "…") <= width
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low].rstrip() + "…"


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))


def _own_font(*, is_bold: bool) -> Path:
    return Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf")


@cache
def _font(file: Path, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
