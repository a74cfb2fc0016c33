"""Line charts as SVG inside a page: their colours follow the page, and their numbers stand in a table below."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vitcli.figures.markup import Html, details, element, sortable_table

_WIDTH, _HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 44
"""Space around the panel, for the numbers and the names of the axes."""
COLOURS = 8
"""Number of colours; with more lines, they are used again."""
_APART = 16
"""Distance between the middles of two labels of lines, at least, as far as there is room."""
_FROM_LINE = 9
"""Distance of a label from lines with other labels, at least, as far as there is room."""
_PLACES = 60
"""Steps along a line that are tried for its label."""
_DIGITS = 4
"""Significant digits of the numbers in the table."""

Spot = tuple[float, float]
"""A place on the drawing, from the left and from the top."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of a chart."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    is_dashed: bool = False
    label: str = ""
    """A short text on the line and in the legend, which tells it from lines of other colours; empty: none."""
    has_dots: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """An axis of a chart."""

    name: str
    ends: tuple[float, float] | None = None
    """The values at its ends; None: those of the lines."""
    is_whole: bool = False
    """True: only whole numbers are written beside it."""


def line_chart(
    name: str, title: str, lines: Sequence[Line], *, across: Axis, up: Axis, table: Html | None = None
) -> Html:
    """Return a chart with its legend, and its numbers in a table that is closed at first.

    Args:
        name: a name that no other chart of the page has.
        title: the title.
        lines: the lines; values that are not finite are left out of the drawing.
        across: the horizontal axis.
        up: the vertical axis.
        table: the table of its numbers; None: those of the lines.
    """
    drawn = [[point for point in line.points if all(map(math.isfinite, point))] for line in lines]
    flat = [point for points in drawn for point in points]
    xs = across.ends or _ends([x for x, _ in flat])
    ys = up.ends or _ends([y for _, y in flat])
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[str, str]:
        return (
            f"{_LEFT + width * (x - xs[0]) / (xs[1] - xs[0]):.1f}",
            f"{_TOP + height * (1 - (y - ys[0]) / (ys[1] - ys[0])):.1f}",
        )

    # The grid with its numbers, then the lines, then the names of the axes
    parts = list[Html]()
    for y in _ticks(*ys, least=float(up.is_whole)):
        _, at = place(xs[0], y)
        parts.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(element("text", f"{y:g}", x=_LEFT - 6, y=at, dy="0.35em", text_anchor="end"))
    for x in _ticks(*xs, least=float(across.is_whole)):
        at, _ = place(x, ys[0])
        parts.append(element("line", x1=at, x2=at, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="grid"))
        parts.append(element("text", f"{x:g}", x=at, y=_HEIGHT - _BOTTOM + 16, text_anchor="middle"))
    labelled = list[tuple[str, Sequence[Spot]]]()
    for line, points in zip(lines, drawn, strict=True):
        kind = f"line{' dashed' if line.is_dashed else ''} c{line.colour % COLOURS}"
        places = [place(x, y) for x, y in points]
        parts.append(element("polyline", points=" ".join(map(",".join, places)), class_=kind))
        if line.has_dots or len(points) == 1:
            parts += [element("circle", cx=x, cy=y, r=3, class_=f"dot c{line.colour % COLOURS}") for x, y in places]
        if line.label and places:
            labelled.append((line.label, [(float(x), float(y)) for x, y in places]))
    parts += _labels(labelled)  # above all lines
    middle = _TOP + height / 2
    parts.append(element("text", across.name, x=_LEFT + width / 2, y=_HEIGHT - 8, text_anchor="middle"))
    parts.append(element("text", up.name, x=14, y=middle, text_anchor="middle", transform=f"rotate(-90 14 {middle})"))
    picture = element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", _description(lines, across, up), id=f"{name}-desc"),
        *parts,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )
    return element(
        "figure",
        element("figcaption", title),
        picture,
        element("ul", *map(_legend, lines), class_="legend"),
        details("The numbers as a table", table or _table(title, lines, across)),
        class_="chart",
    )


def _labels(lines: Sequence[tuple[str, Sequence[Spot]]]) -> list[Html]:
    """Write the label of each line at another part of it, so that labels do not lie on each other.

    Args:
        lines: the label of each line, and its points on the drawing.
    """
    labels, along = [*dict.fromkeys(label for label, _ in lines)], [_along(points) for _, points in lines]
    taken = list[Spot]()
    for label, points in lines:
        others = [spot for (other, _), spots in zip(lines, along, strict=True) if other != label for spot in spots]
        taken.append(_free_place(points, (labels.index(label) + 0.5) / len(labels), taken, others))
    return [
        element("text", label, x=f"{x:.1f}", y=f"{y:.1f}", dy="0.35em", text_anchor="middle", class_="label")
        for (label, _), (x, y) in zip(lines, taken, strict=True)
    ]


def _free_place(points: Sequence[Spot], usual: float, taken: Sequence[Spot], others: Sequence[Spot]) -> Spot:
    """Return the place on a line for its label: the nearest to the usual one that is apart from labels and other lines.

    Args:
        points: the points of the line on the drawing.
        usual: the usual place, as a share of the line from its beginning.
        taken: the places of other labels.
        others: places on lines with other labels, which are crossed if there is no room elsewhere.
    """
    middle = usual * _PLACES
    places = [spot for _, spot in sorted(enumerate(_along(points)), key=lambda pair: abs(pair[0] - middle))]
    if len(points) == 1:  # a single point: the label stands beside it if there is no room above it
        places = [(points[0][0] + _APART * steps, points[0][1]) for steps in range(len(taken) + 1)]

    def room(place: Spot, among: Sequence[Spot] = taken) -> float:
        return min((math.dist(place, other) for other in among), default=math.inf)

    free = [place for place in places if room(place) >= _APART]
    return next((place for place in free if room(place, others) >= _FROM_LINE), (free or [max(places, key=room)])[0])


def _along(points: Sequence[Spot]) -> list[Spot]:
    """Return places on a line from its beginning to its end, on and between its points."""
    spots = []
    for number in range(_PLACES + 1):
        at, rest = divmod(number / _PLACES * (len(points) - 1), 1)
        (left, top), (right, bottom) = points[int(at)], points[min(int(at) + 1, len(points) - 1)]
        spots.append((left + rest * (right - left), top + rest * (bottom - top)))
    return spots


def _description(lines: Sequence[Line], across: Axis, up: Axis) -> str:
    """Describe the lines in words: where each begins and ends."""
    ends = [
        f"{line.name} from {line.points[0][1]:.{_DIGITS}g} to {line.points[-1][1]:.{_DIGITS}g}"
        for line in lines
        if line.points
    ]
    return f"{up.name} by {across.name}: {'; '.join(ends)}. The table below has all numbers."


def _legend(line: Line) -> Html:
    kind = f"line{' dashed' if line.is_dashed else ''} c{line.colour % COLOURS}"
    sample = element("line", x1=0, x2=24, y1=5, y2=5, class_=kind)
    picture = element("svg", sample, viewBox="0 0 24 10", class_="sample", aria_hidden="true")
    return element("li", picture, *([element("b", line.label), " "] if line.label else []), line.name)


def _table(title: str, lines: Sequence[Line], across: Axis) -> Html:
    xs = sorted({x for line in lines for x, _ in line.points})
    columns = [dict(line.points) for line in lines]
    rows = [
        (f"{x:.{_DIGITS}g}", *(f"{column[x]:.{_DIGITS}g}" if x in column else "-" for column in columns)) for x in xs
    ]
    headings = (across.name, *(line.name for line in lines))
    return sortable_table(title, headings, rows, numbers=range(len(headings)))


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis: those of the values; a single value gets some space around it."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    if high > low:
        return low, high
    return low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2


def _ticks(low: float, high: float, *, least: float) -> list[float]:
    """Return about five round numbers between the ends, at a distance of ``least`` or more."""
    rough = max((high - low) / 5, least)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
