"""The text around attention maps."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from vitcli.core.short_names import distinct
from vitcli.figures.attention_style import (
    NOTE,
    TITLE,
    VERDICT,
    MapPicture,
    Norm,
    Style,
    Subject,
    is_nearly_even,
    scale_of,
)
from vitcli.figures.board import FAINT, INK, RIGHT, WRONG, Line

_SHORTEST = 8
"""Characters of the shortest name."""
NORM_WORDS: dict[Norm, str] = {
    "p99": "colours end at the 99th percentile",
    "max": "colours end at the maximum",
    "minmax": "colours from minimum to maximum, of signed maps to the same distance on both sides of 0",
    "none": "colours from 0 to 1, of signed maps from -1 to 1",
}


def norm_words(norm: Norm, pictures: Iterable[MapPicture]) -> str:
    """Describe the colours of several maps."""
    even = [is_nearly_even(picture.weights, is_signed=picture.is_signed) for picture in pictures]
    if norm != "p99" or not any(even):
        return NORM_WORDS[norm]
    if all(even):
        return "colours from minimum to maximum"
    return f"{NORM_WORDS[norm]}, of nearly even maps from minimum to maximum"


def evenness(picture: MapPicture) -> str:
    """Describe a map in which there is little to see; empty: its patches weigh differently."""
    weights = picture.weights
    if not weights.any():
        return "all weights are 0: there is nothing to see"
    if not is_nearly_even(weights, is_signed=picture.is_signed):
        return ""
    if scale_of(weights, "max", is_signed=False).is_flat:
        return "even: all patches weigh the same"
    mean = float(weights.mean(dtype=float))
    least, most = float(weights.min()) / mean, float(weights.max()) / mean
    digits = 1 - math.floor(math.log10(max(1 - least, most - 1)))
    return f"nearly even: {least:.{digits}f} to {most:.{digits}f} × the mean"


def short_evenness(picture: MapPicture) -> str:
    """Describe a map in which there is little to see in a few words, for example ``nearly even``; else empty."""
    return evenness(picture).partition(":")[0]


def heading(subject: Subject, style: Style, width: int) -> list[Line]:
    """Return the image's name, then prediction and truth, each on a line of its own if both do not fit into ``width``."""
    words = [text for text in (prediction_of(subject), truth_of(subject)) if text]
    size, colour = style.points(VERDICT), verdict_colour(subject)
    together = Line(text="  ·  ".join(words), size=size, colour=colour)
    lines = [together] if together.width <= width else [Line(text=text, size=size, colour=colour) for text in words]
    name = Line(text=subject.name, size=style.points(TITLE), is_bold=True)
    return [part for line in (name, *(lines if words else [])) for part in line.wrapped(width)]


def verdict_colour(subject: Subject) -> str:
    """Return green if the prediction is right, red if it is wrong, and a neutral colour if that is unknown."""
    return {True: RIGHT, False: WRONG, None: INK}[subject.is_right]


def prediction_of(subject: Subject) -> str:
    """Describe the prediction, with a mark that says right or wrong without colour."""
    mark = {True: "✓ ", False: "✗ ", None: ""}[subject.is_right]
    share = "" if subject.probability is None else f", {100 * subject.probability:.1f} %"
    return f"{mark}predicted {subject.predicted}{share}" if subject.predicted else ""


def with_short_names(subjects: Sequence[Subject], style: Style, width: int) -> list[Subject]:
    """Shorten the names of classes until prediction and truth fit into ``width``; different names stay different."""
    names = [*dict.fromkeys(name for each in subjects for name in (each.predicted, each.truth) if name)]
    found, room = list(subjects), max(map(len, names), default=0)
    while room > _SHORTEST and not all(
        Line(text=text, size=style.points(NOTE)).width <= width
        for each in found
        for text in (prediction_of(each).replace("predicted ", ""), truth_of(each))
    ):
        room = max(room * 9 // 10, _SHORTEST)
        short = dict(zip(names, distinct(names, room), strict=True))
        found = [
            replace(each, predicted=short.get(each.predicted, ""), truth=short.get(each.truth or "", each.truth))
            for each in subjects
        ]
    return found


def truth_of(subject: Subject) -> str:
    """Describe the true class; empty if it is unknown."""
    return "" if subject.truth is None else f"truth {subject.truth}"


def legend(style: Style, width: int, *parts: str) -> list[Line]:
    """Return the lines below a figure of this width."""
    line = Line(text=" · ".join(filter(None, parts)), size=style.points(NOTE), colour=FAINT)
    return line.wrapped(width, most=6)
