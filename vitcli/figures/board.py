"""A figure with exact positions: text is measured before it is written, and panels are pasted, not resampled.

Positions and lengths are in units of 1/150 inch. A figure is drawn with any number of pixels per unit (its density),
or as PDF or SVG, in which text is text.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from vitcli.core.errors import visible
from vitcli.core.files import replacing
from vitcli.figures.fonts import best_font, boxes_for_unknown_letters, lacking, warn_of_boxes

UNITS_PER_INCH = 150
UNITS_PER_POINT = UNITS_PER_INCH / 72

INK = "#1b1b1f"
FAINT = "#6b6b76"
RIGHT = "#0b6e3a"
WRONG = "#b3261e"
"""RIGHT and WRONG differ in hue; a mark beside the text tells them apart for colour-blind readers."""

MARGIN = 24

_MARK = "drawn by vit"
"""Metadata of every figure that a ``Board`` saves, by which it is known again."""
VECTORS: dict[str, Mapping[str, str | None]] = {
    ".pdf": {"CreationDate": None, "Creator": _MARK},
    ".svg": {"Date": None, "Creator": _MARK},
}
"""Ending -> metadata; without the date, the same figure has the same bytes on any day."""

PICTURES = (".png", *VECTORS)
"""The endings of files that a figure can be saved in."""

_AS_VECTORS: Any = {
    "pdf.fonttype": 42,  # TrueType: text can be searched and edited, and publishers accept it
    "svg.fonttype": "none",
    "svg.hashsalt": "vit",  # else the names inside the file are random
}

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of text."""

    text: str
    size: float = 8
    """The font size in points."""
    colour: str = INK
    is_bold: bool = False

    @property
    def height(self) -> int:
        """The distance to the next line in units."""
        return round(1.4 * self.size * UNITS_PER_POINT)

    @property
    def width(self) -> int:
        """The width of the full text in units."""
        return math.ceil(self.font().getlength(_one_line(self.text)))

    def font(self, density: float = 1) -> ImageFont.FreeTypeFont:
        """Return matplotlib's own font, or an installed one that has more of the letters, in the size for a density."""
        return _font(self.font_file, self.size * UNITS_PER_POINT * density)

    @property
    def font_file(self) -> Path:
        """The file of the font."""
        return best_font(self.text, _own_font(is_bold=self.is_bold))

    def shortened(self, width: float) -> "Line":
        """Cut the text to a width in units, by bisection; an ellipsis replaces the rest."""
        text, font = _one_line(self.text), self.font()
        if font.getlength(text) <= width:
            return self if text == self.text else replace(self, text=text)
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            fits = font.getlength(text[:middle].rstrip() + "…") <= width
            low, high = (middle, high) if fits else (low, middle - 1)
        return replace(self, text=text[:low].rstrip() + "…")

    def wrapped(self, width: float, *, most: int = 3) -> list["Line"]:
        """Break the text at spaces into lines that fit into a width in units; the last of ``most`` lines has the rest."""
        first, *words = re.split(" (?![%·])", _one_line(self.text))
        texts, font = [first], self.font()
        for word in words:
            longer = f"{texts[-1]} {word}"
            if len(texts) == most or font.getlength(longer) <= width:
                texts[-1] = longer
            else:
                texts.append(word)
        return [replace(self, text=text) for text in texts]


class _Panel(NamedTuple):
    pixels: NDArray[np.uint8]
    left: int
    top: int


class _Words(NamedTuple):
    line: Line
    left: int
    top: int


class _Frame(NamedTuple):
    box: Box
    """The outer edges."""
    thickness: int
    colour: str


class _Shape(NamedTuple):
    """A line that is one unit wide, or a filled polygon."""

    corners: Sequence[tuple[int, int]]
    colour: str
    is_filled: bool


class Board:
    """A white figure to draw on; it is rendered when it is saved.

    Args:
        width: the width in units.
        height: the height in units.
        density: pixels per unit, of the panels and of the figure.
    """

    def __init__(self, width: int, height: int, density: float = 1) -> None:
        self.width = width
        self.height = height
        self.density = density
        self._marks: list[_Panel | _Words | _Frame | _Shape] = []

    def paste(self, pixels: NDArray[np.uint8], left: int, top: int) -> None:
        """Paste an image, (H, W, 3), at a position; its pixels are those of the figure."""
        self._marks.append(_Panel(pixels, left, top))

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
            shown = line.shortened(width)
            warn_of_boxes(lacking(shown.text, shown.font_file))
            free = 0.0 if align == "left" else width - shown.font().getlength(shown.text)
            self._marks.append(_Words(shown, left + round(free / 2 if align == "middle" else free), top))
            top += line.height

    def outline(self, box: Box, colour: str = "white") -> None:
        """Draw a frame around a box that is visible on every background."""
        left, top, right, bottom = (round(at) for at in box)
        for margin, thickness, ink in ((3, 4, "black"), (2, 2, colour)):
            outer = left - margin, top - margin, right + margin, bottom + margin
            self._marks.append(_Frame(outer, thickness, ink))

    def line(self, start: tuple[int, int], end: tuple[int, int], colour: str = INK) -> None:
        """Draw a line that is one unit wide."""
        self._marks.append(_Shape((start, end), colour, is_filled=False))

    def polygon(self, corners: Sequence[tuple[int, int]], colour: tuple[int, int, int]) -> None:
        """Draw a filled polygon."""
        self._marks.append(_Shape(corners, "#{:02x}{:02x}{:02x}".format(*colour), is_filled=True))

    def image(self) -> Image.Image:
        """Render the figure as pixels."""
        scale = self.density
        image = Image.new("RGB", (round(self.width * scale), round(self.height * scale)), "white")
        draw = ImageDraw.Draw(image)
        for mark in self._marks:
            match mark:
                case _Panel(pixels, left, top):
                    image.paste(Image.fromarray(pixels), (round(left * scale), round(top * scale)))
                case _Words(line, left, top):
                    at = round(left * scale), round(top * scale)
                    draw.text(at, line.text, fill=line.colour, font=line.font(scale))
                case _Frame(box, thickness, colour):
                    edges = [round(edge * scale) for edge in box]
                    inner = edges[0], edges[1], edges[2] - 1, edges[3] - 1  # Pillow draws the last pixels, too
                    draw.rectangle(inner, outline=colour, width=max(round(thickness * scale), 1))
                case _Shape(corners, colour, is_filled):
                    places = [(round(x * scale), round(y * scale)) for x, y in corners]
                    if is_filled:
                        draw.polygon(places, fill=colour)
                    else:
                        draw.line(places, fill=colour, width=max(round(scale), 1))
        return image

    def save(self, path: Path) -> None:
        """Write the figure atomically as PNG, PDF or SVG, by the file's ending; the same figure gives the same bytes."""
        ending, dpi = path.suffix.lower(), round(self.density * UNITS_PER_INCH)
        with replacing(path) as temporary:
            if ending in VECTORS:
                self._save_vectors(temporary, ending)
            else:
                metadata = PngInfo()
                metadata.add_text("Software", _MARK)
                self.image().save(temporary, format="png", dpi=(dpi, dpi), compress_level=2, pnginfo=metadata)

    def _save_vectors(self, path: Path, ending: str) -> None:
        from matplotlib.figure import Figure  # slow to import, and rarely needed

        size = self.width / UNITS_PER_INCH, self.height / UNITS_PER_INCH
        with mpl.rc_context(_AS_VECTORS), boxes_for_unknown_letters():
            figure = Figure(figsize=size, dpi=self.density * UNITS_PER_INCH, facecolor="white")
            axes = figure.add_axes((0, 0, 1, 1), xlim=(0, self.width), ylim=(self.height, 0), autoscale_on=False)
            axes.set_axis_off()
            for order, mark in enumerate(self._marks):
                match mark:
                    case _Panel(pixels, left, top):
                        height, width = (side / self.density for side in pixels.shape[:2])
                        extent = left, left + width, top + height, top
                        # With another interpolation, matplotlib would merge neighbours into one image
                        axes.imshow(pixels, extent=extent, aspect="auto", interpolation="none", zorder=order)
                    case _Words(line, left, top):
                        font = line.font()
                        axes.text(
                            left,
                            top + font.getmetrics()[0],  # the baseline
                            line.text,
                            color=line.colour,
                            fontsize=line.size,
                            family=[str(font.getname()[0]), "DejaVu Sans"],
                            weight="bold" if line.is_bold else "normal",
                            parse_math=False,
                            usetex=False,
                            zorder=order,
                        )
                    case _Frame(box, thickness, colour):
                        near, far = thickness / 2, -thickness / 2  # matplotlib draws to both sides of a line
                        xs, ys = (box[0] + near, box[2] + far), (box[1] + near, box[3] + far)
                        points = thickness / UNITS_PER_POINT
                        axes.fill(
                            (*xs, *xs[::-1]),
                            (ys[0], ys[0], ys[1], ys[1]),
                            fill=False,
                            edgecolor=colour,
                            linewidth=points,
                            joinstyle="miter",
                            zorder=order,
                        )
                    case _Shape(corners, colour, is_filled):
                        xs, ys = zip(*((x + 0.5, y + 0.5) for x, y in corners), strict=True)
                        if is_filled:
                            axes.fill(xs, ys, facecolor=colour, linewidth=0, zorder=order)
                        else:
                            axes.plot(xs, ys, color=colour, linewidth=1 / UNITS_PER_POINT, zorder=order)
            figure.savefig(path, format=ending[1:], dpi="figure", metadata=VECTORS[ending])


def is_drawn_by_vit(path: Path) -> bool:
    """Tell whether a file has the mark of the figures that a ``Board`` saves."""
    return _MARK.encode() in path.read_bytes()


def height_of(lines: Iterable[Line]) -> int:
    """Compute the height of several lines in units."""
    return sum(line.height for line in lines)


def _one_line(text: str) -> str:
    return visible(" ".join(text.split()))


@cache
def _own_font(*, is_bold: bool) -> Path:
    return Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf" if is_bold else "DejaVuSans.ttf")


@cache
def _font(file: Path, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
