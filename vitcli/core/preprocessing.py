"""The preprocessing that turns image files into model input."""

from dataclasses import dataclass
from typing import Literal

Size = tuple[int, int]
"""Height and width in pixels."""
ValueRange = tuple[float, float]
"""The values of black and white in images with more than 8 bits per value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """The geometric part of preprocessing: it turns an image of any size and mode into an array of one shape."""

    size: Size
    channels: Literal[1, 3]
    resize: Literal["crop", "squash"] = "crop"
    crop_fraction: float = 1.0
    """With ``crop``: share that is kept of the largest centred box with the aspect ratio of ``size``, in whole pixels of
    the image as it is resized before the crop."""
    interpolation: Literal["bicubic", "bilinear", "bilinear-no-antialias"] = "bicubic"
    """Interpolation, antialiased as in Pillow, but for ``bilinear-no-antialias``, which cannot crop."""
    value_range: ValueRange | None = None
    """The values that become 0 and 255 in images with more than 8 bits; None: 0 and 65535, and 0 and 1 for floats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """The complete preprocessing from image file to model input; stored in every checkpoint, used by every command."""

    geometry: Geometry
    """The steps from the image file to a uint8 array."""
    image_size: Size
    """Size of the model input; larger than ``geometry.size`` if small images are used with a large model."""
    mean: tuple[float, ...]
    """Mean of each channel, for pixels in 0..1."""
    std: tuple[float, ...]
    """Standard deviation of each channel, for pixels in 0..1."""


def format_size(size: Size) -> str:
    """Format a size as ``--image-size`` takes it: ``32`` for a square, else ``HEIGHTxWIDTH``."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"
