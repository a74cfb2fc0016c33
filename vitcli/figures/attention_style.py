"""The parts of attention pictures: an image, its maps, and the scale that turns a map's values into colours."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from vitcli.core.errors import UsageError, did_you_mean
from vitcli.figures.board import UNITS_PER_INCH

Norm = Literal["p99", "max", "minmax", "none"]
Interpolation = Literal["bilinear", "nearest", "bicubic"]

ONE_SIGN = "inferno"
TWO_SIGNS = "PuOr_r"
"""Purple below 0, white at 0, orange above: people with any colour blindness can tell these apart."""

_SAME = 1e-6
"""The largest difference, relative to the largest value, between values that count as equal: it is only rounding."""
_EVEN = 0.2
"""The largest such difference in a map that is nearly even: on a scale from 0, nothing could be seen."""

TITLE, VERDICT, LABEL, NOTE, SMALL = 11 / 8, 9 / 8, 1, 7 / 8, 6 / 8
"""Font sizes relative to the labels of a figure."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """The style in which a map is drawn over an image."""

    cmap: str = ""
    """A colour map of matplotlib; empty: one default for unsigned maps, and another for signed maps."""
    alpha: float = 0.55
    """Opacity of the map, 0 to 1."""
    norm: Norm = "p99"
    """The range of the colours: to the 99th percentile (of nearly even maps, from minimum to maximum), to the maximum,
    from minimum to maximum (signed maps: to the same distance on both sides of 0), or from 0 to 1 (signed maps: from -1 to 1)."""
    interp: Interpolation = "bilinear"
    """The interpolation between patches; ``nearest`` shows the patches themselves."""
    min_size: int = 448
    """Smaller images are enlarged to at least this many pixels, at 150 dpi, by a whole factor: pixels stay squares."""
    dpi: int = UNITS_PER_INCH
    """Pixels per inch: a higher number gives a sharper picture of the same size on paper."""
    font_size: float = 8
    """The size of the labels in points; titles are larger, values are smaller."""

    def __post_init__(self) -> None:
        if self.cmap and self.cmap not in colormaps:
            near = did_you_mean(self.cmap, colormaps, otherwise="inferno, viridis, magma, turbo or gray, for example")
            raise UsageError(f"unknown colour map {self.cmap!r}", hint=near)
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"the opacity of a map is 0 to 1, not {self.alpha}", hint="0.55 is usual")
        if self.min_size < 1:
            raise UsageError(f"an image cannot be enlarged to {self.min_size} pixels", hint="448 is usual")
        if not 30 <= self.dpi <= 1200:
            raise UsageError(f"a picture has 30 to 1200 dpi, not {self.dpi}", hint="300 is usual in print")
        if not 4 <= self.font_size <= 40:
            raise UsageError(f"labels have 4 to 40 points, not {self.font_size:g}", hint="8 is usual")
        for name, known in ((self.norm, get_args(Norm)), (self.interp, get_args(Interpolation))):
            if name not in known:
                raise UsageError(f"{name!r} is not one of {', '.join(known)}", hint=did_you_mean(name, known))

    @property
    def density(self) -> float:
        """Pixels per unit of a ``Board``."""
        return self.dpi / UNITS_PER_INCH

    def size_of(self, image: NDArray[np.uint8]) -> tuple[int, int]:
        """Return the height and the width of an image, (H, W, 3), in units of a ``Board``."""
        return math.ceil(image.shape[0] / self.density), math.ceil(image.shape[1] / self.density)

    def points(self, relative: float) -> float:
        """Return a font size: TITLE, VERDICT, LABEL, NOTE or SMALL, in points."""
        return self.font_size * relative

    def room(self, units: int) -> int:
        """Return the room for text that takes so many units of a ``Board`` in the usual font size."""
        return round(units * self.font_size / 8)

    def colours(self, *, is_signed: bool) -> NDArray[np.uint8]:
        """Return the colour map as a table, (256, 3)."""
        return _table(self.cmap or (TWO_SIGNS if is_signed else ONE_SIGN))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MapPicture:
    """One map of one image, ready to draw."""

    method: str
    target: str = ""
    """The class that the map explains; empty: the method does not depend on a class."""
    probability: float | None = None
    """The probability of that class; None: not known."""
    weights: NDArray[np.float32]
    """The weights of the patches, (h, w) of the patch grid."""
    is_signed: bool = False
    """True: values can be negative, which counts against the class."""
    unit: str = ""
    """The meaning of a value, for example "share of attention per patch"."""

    @property
    def name(self) -> str:
        """The method, and the class that the map explains."""
        return f"{self.method} for {self.target}" if self.target else self.method

    @property
    def caption(self) -> str:
        """The method, the class, and the class's probability."""
        return self.name if self.probability is None else f"{self.name} ({100 * self.probability:.1f} %)"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Subject:
    """An image, and the facts that all its maps share."""

    name: str
    pixels: NDArray[np.uint8]
    """The pixels that the model saw, (C, H, W)."""
    predicted: str = ""
    """The predicted class; empty: the model has no classifier."""
    probability: float | None = None
    truth: str | None = None
    """The true class; None: unknown."""
    whole: NDArray[np.uint8] | None = None
    """The whole original picture, (C, H, W), in its own size."""
    box: tuple[float, float, float, float] | None = None
    """The part of ``whole`` that the model saw: left, top, right, bottom in pixels."""

    @property
    def is_right(self) -> bool | None:
        """Tell whether the prediction is right; None if the prediction or the true class is unknown."""
        return self.predicted == self.truth if self.predicted and self.truth is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """The values at both ends of the colours, and the least and the greatest value of the map."""

    low: float
    high: float
    least: float
    most: float

    @property
    def is_flat(self) -> bool:
        """Tell whether all values are equal, so that the map has a single colour."""
        return self.low == self.high

    def values(self, count: int) -> list[str]:
        """Return ``count`` values from the low to the high end as text, with enough digits to tell them apart."""
        if self.is_flat:
            return [number(self.low)]
        values = [float(value) for value in np.linspace(self.low, self.high, count)]
        largest, step = max(abs(self.low), abs(self.high)), values[1] - values[0]
        return [number(value, max(3, 1 + math.ceil(math.log10(largest / step)))) for value in values]

    def extreme(self, value: float) -> str:
        """Return a value beyond an end as text, with at least as many decimals as the end has."""
        end = number(self.low if value < self.low else self.high)
        text, decimals = number(value), len(end.partition(".")[2])
        return text if "e" in end + text or len(text.partition(".")[2]) >= decimals else f"{value:.{decimals}f}"

    def fractions(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scale values from 0 at the low end to 1 at the high end; all become 0.5 if the scale is flat."""
        if self.is_flat:
            return np.full_like(values, 0.5)
        return ((values - self.low) / (self.high - self.low)).clip(0, 1)


def scale_of(weights: NDArray[np.float32], norm: Norm, *, is_signed: bool) -> Scale:
    """Compute the scale of one map, or a common scale for several maps.

    A signed scale is symmetric about 0. If the percentile is 0 because most values are 0, the maximum is used instead.
    Nearly even maps get the scale from minimum to maximum instead of the percentile.
    """
    values = weights.astype(np.float64)
    assert np.isfinite(values).all(), "a map with NaN or infinity"
    least, most = float(values.min()), float(values.max())
    if norm == "none":
        return Scale(low=-1.0 if is_signed else 0.0, high=1.0, least=least, most=most)
    if most - least <= _SAME * max(abs(least), abs(most)):
        return Scale(low=least, high=least, least=least, most=most)
    if is_signed:
        end = _end(np.abs(values), norm)
        return Scale(low=-end, high=end, least=least, most=most)
    if norm == "p99" and is_nearly_even(weights, is_signed=is_signed):
        norm = "minmax"
    low = least if norm == "minmax" else min(0.0, least)
    return Scale(low=low, high=max(_end(values, norm), 0.0), least=least, most=most)


def is_nearly_even(weights: NDArray[np.float32], *, is_signed: bool) -> bool:
    """Tell whether all patches weigh almost the same, or exactly, and not 0; signed maps have colours for that."""
    least, most = float(weights.min()), float(weights.max())
    return not is_signed and least > 0 and most - least <= _EVEN * most


def _end(values: NDArray[np.float64], norm: Norm) -> float:
    percentile = float(np.percentile(values, 99)) if norm == "p99" else 0.0
    return percentile if percentile > 0 else float(values.max())


def colour_indices(weights: NDArray[np.float64], scale: Scale) -> NDArray[np.uint8]:
    """Compute the row of each value in the table of 256 colours; ``attention_page.js`` computes the same."""
    return (scale.fractions(weights) * 256).clip(0, 255).astype(np.uint8)


def number(value: float, digits: int = 3) -> str:
    """Format a value with a number of significant digits."""
    figures, _, exponent = f"{value:.{digits}g}".partition("e")
    return f"{figures}e{int(exponent)}" if exponent else figures


@cache
def _table(name: str) -> NDArray[np.uint8]:
    return np.ascontiguousarray(colormaps[name](np.arange(256), bytes=True)[:, :3])
