"""The text around attention maps."""

from vitcli.figures.attention_style import Norm, Subject
from vitcli.figures.board import FAINT, INK, RIGHT, WRONG, Line

NORM_WORDS: dict[Norm, str] = {
    "p99": "colours end at the 99th percentile",
    "max": "colours end at the maximum",
    "minmax": "colours from minimum to maximum",
    "none": "colours from 0 to 1, of signed maps from -1 to 1",
}


def heading(subject: Subject, width: int) -> list[Line]:
    """Return the image's name, then prediction and truth: on one line if they fit into ``width``, else on two."""
    words = [text for text in (prediction_of(subject), truth_of(subject)) if text]
    together = Line(text="  ·  ".join(words), size=19, colour=verdict_colour(subject))
    lines = (
        [together] if together.width <= width else [Line(text=text, size=19, colour=together.colour) for text in words]
    )
    return [Line(text=subject.name, size=23, is_bold=True), *(lines if words else [])]


def verdict_colour(subject: Subject) -> str:
    """Return green if the prediction is right, red if it is wrong, and a neutral colour if that is unknown."""
    return {True: RIGHT, False: WRONG, None: INK}[subject.is_right]


def prediction_of(subject: Subject) -> str:
    """Describe the prediction, with a mark that says right or wrong without colour."""
    mark = {True: "✓ ", False: "✗ ", None: ""}[subject.is_right]
    share = "" if subject.probability is None else f", {100 * subject.probability:.1f} %"
    return f"{mark}predicted {subject.predicted}{share}" if subject.predicted else ""


def truth_of(subject: Subject) -> str:
    """Describe the true class; empty if it is unknown."""
    return "" if subject.truth is None else f"truth {subject.truth}"


def legend(*parts: str) -> Line:
    """Return the line below a figure."""
    return Line(text=" · ".join(filter(None, parts)), size=15, colour=FAINT)
