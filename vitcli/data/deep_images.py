"""Images with more than 8 bits per value, as microscopes, scanners and thermal cameras write them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitcli.core.errors import DataError
from vitcli.core.preprocessing import ValueRange

OF_16_BITS: ValueRange = (0, 65535)
"""The range of 16-bit integers."""
_USUAL_BITS = (8, 10, 12, 14, 16)
_LARGE_PART = 0.25
"""The share of a usual range that values fill at least, if they come from it."""


def is_deep(image: Image.Image) -> bool:
    """Tell whether a grey image has more than 8 bits per value."""
    return image.mode == "F" or image.mode.startswith("I")


def is_cut(image: Image.Image) -> bool:
    """Tell whether an image has 16 bits per channel, of which Pillow keeps the upper 8."""
    return not is_deep(image) and any(";16" in str(tile) for tile in getattr(image, "tile", ()))


def extremes(image: Image.Image) -> tuple[float, float, bool] | None:
    """Return the smallest and greatest value of an image, and whether all are whole; None if one is not finite."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        return None
    return low, high, image.mode != "F" or bool((values == np.rint(values)).all() and high > 1)


def usual_range(low: float, high: float, *, whole: bool) -> ValueRange:
    """Guess the range of values, of which ``low`` is the smallest and ``high`` the greatest.

    The guess is 0..1 for floats within it, and for whole numbers the smallest range of 8, 10, 12, 14 or 16 bits that
    holds them; but if they fill less than a quarter of 10 bits or more, or no such range holds them, it is their own
    range.

    Args:
        low: the smallest value.
        high: the greatest value.
        whole: whether all values are whole numbers.
    """
    if not whole:
        return (0, 1) if low >= 0 and high <= 1 else (low, high if high > low else low + 1)
    top = next((2**bits - 1 for bits in _USUAL_BITS if low >= 0 and high < 2**bits), 0)
    if top == 0 or (top > 255 and high - low < _LARGE_PART * top):
        return low, max(high, low + 1)
    return 0, top


def to_8_bits(image: Image.Image, value_range: ValueRange | None) -> Image.Image:
    """Convert a deep image to 8 bits of grey: the range becomes 0..255, and values outside it are clipped.

    Pixels of the value that a PNG calls transparent become white.

    Args:
        image: an image that ``is_deep``.
        value_range: the values of black and white; None: 0..65535 for integers, and 0..1 for floats.

    Raises:
        DataError: a value is not finite, or lies outside the range that is assumed if none is given.
    """
    found = extremes(image)
    if found is None:
        raise DataError("has values that are not finite (NaN or infinity)", hint="replace them, or remove the image")
    usual = (0.0, 1.0) if image.mode == "F" else OF_16_BITS
    low, high = value_range or usual
    if value_range is None and not usual[0] <= found[0] <= found[1] <= usual[1]:
        raise DataError(
            f"has values from {found[0]:g} to {found[1]:g}, and it is not known which are black and white",
            hint="convert it to 8 bits",
        )
    values: NDArray[np.float64] = np.asarray(image, dtype=np.float64)
    grey = ((values - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8)
    if isinstance(transparent := image.info.get("transparency"), int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)
