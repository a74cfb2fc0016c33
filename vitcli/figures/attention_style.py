"""The parts of attention pictures: an image, its maps, and the scale on which a map's values become colours."""

from dataclasses import dataclass
from functools import cache
from typing import Literal, get_args

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from vitcli.core.errors import UsageError, did_you_mean

Norm = Literal["p99", "max", "minmax", "none"]
Interpolation = Literal["bilinear", "nearest", "bicubic"]

ONE_SIGN = "inferno"
TWO_SIGNS = "PuOr_r"
"""Purple below 0, white at 0, orange above: a pair that no colour blindness mixes up."""

_SAME = 1e-6
"""Values that differ by less, relative to the largest, are one value: their difference is rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """The way in which a map is drawn over an image."""

    cmap: str = ""
    """A colour map of matplotlib; empty: one for maps without a sign, and another for those with one."""
    alpha: float = 0.55
    """Opacity of the map, 0 to 1."""
    norm: Norm = "p99"
    """Where the colours end: at the 99th percentile, at the maximum, from minimum to maximum, or 0 to 1 as it is."""
    interp: Interpolation = "bilinear"
    """How patches become pixels; nearest shows the patches themselves."""
    min_size: int = 448
    """Smaller images are enlarged to this many pixels by a whole factor: their pixels stay sharp squares."""

    def __post_init__(self) -> None:
        if self.cmap and self.cmap not in colormaps:
            near = did_you_mean(self.cmap, colormaps, otherwise="inferno, viridis, magma, turbo or gray, for example")
            raise UsageError(f"unknown colour map {self.cmap!r}", hint=near)
        if not 0 <= self.alpha <= 1:
            raise UsageError(f"the opacity of a map is 0 to 1, not {self.alpha}", hint="0.55 is usual")
        if self.min_size < 1:
            raise UsageError(f"an image cannot be enlarged to {self.min_size} pixels", hint="448 is usual")
        for name, known in ((self.norm, get_args(Norm)), (self.interp, get_args(Interpolation))):
            if name not in known:
                raise UsageError(f"{name!r} is none of {', '.join(known)}", hint=did_you_mean(name, known))

    def colours(self, *, is_signed: bool) -> NDArray[np.uint8]:
        """The colour map as a table, (256, 3)."""
        return _table(self.cmap or (TWO_SIGNS if is_signed else ONE_SIGN))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MapPicture:
    """One map of one image."""

    method: str
    target: str = ""
    """The class that it explains; empty: the method knows none."""
    weights: NDArray[np.float32]
    """(h, w) of the patch grid."""
    is_signed: bool = False
    """Values below 0 speak against the class."""
    unit: str = ""
    """What a value is, for example "share of attention per patch"."""

    @property
    def name(self) -> str:
        """The method, and the class that it explains."""
        return f"{self.method} for {self.target}" if self.target else self.method


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Subject:
    """An image, and what all its maps share."""

    name: str
    pixels: NDArray[np.uint8]
    """What the model saw, (C, H, W)."""
    predicted: str = ""
    """Empty: the model has no classifier."""
    probability: float | None = None
    truth: str | None = None
    """None: unknown."""
    whole: NDArray[np.uint8] | None = None
    """The picture as it was found, (C, H, W) of its own."""
    box: tuple[float, float, float, float] | None = None
    """What the model saw of it: left, top, right, bottom in pixels of ``whole``."""

    @property
    def is_right(self) -> bool | None:
        """Tell whether the prediction is the truth; None where one of them is unknown."""
        return self.predicted == self.truth if self.predicted and self.truth is not None else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """The values at both ends of the colours, and those that there are."""

    low: float
    high: float
    least: float
    most: float

    @property
    def is_flat(self) -> bool:
        """All values are one: there is nothing to tell apart."""
        return self.low == self.high

    def fractions(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """0 at the low end to 1 at the high end; one half everywhere where all values are one."""
        if self.is_flat:
            return np.full_like(values, 0.5)
        return ((values - self.low) / (self.high - self.low)).clip(0, 1)


def scale_of(weights: NDArray[np.float32], norm: Norm, *, is_signed: bool) -> Scale:
    """The scale of one map, or one for several.

    A scale with signs is symmetric about 0. A percentile that leaves nothing to see (most values are 0) gives way to
    the maximum.
    """
    values = weights.astype(np.float64)
    assert np.isfinite(values).all(), "a map with NaN or infinity"
    least, most = float(values.min()), float(values.max())
    if most - least <= _SAME * max(abs(least), abs(most)):
        return Scale(low=least, high=least, least=least, most=most)
    if norm == "none":
        return Scale(low=-1.0 if is_signed else 0.0, high=1.0, least=least, most=most)
    if is_signed:
        end = _end(np.abs(values), norm)
        return Scale(low=-end, high=end, least=least, most=most)
    low = least if norm == "minmax" else min(0.0, least)
    return Scale(low=low, high=max(_end(values, norm), 0.0), least=least, most=most)


def _end(values: NDArray[np.float64], norm: Norm) -> float:
    percentile = float(np.percentile(values, 99)) if norm == "p99" else 0.0
    return percentile if percentile > 0 else float(values.max())


def colour_indices(weights: NDArray[np.float64], scale: Scale) -> NDArray[np.uint8]:
    """Rows of the table of 256 colours; the browser's page computes the same."""
    return (scale.fractions(weights) * 256).clip(0, 255).astype(np.uint8)


def number(value: float) -> str:
    """Three digits of a value."""
    digits, _, exponent = f"{value:.3g}".partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits


@cache
def _table(name: str) -> NDArray[np.uint8]:
    return np.ascontiguousarray(colormaps[name](np.arange(256), bytes=True)[:, :3])
