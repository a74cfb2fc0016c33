"""The preprocessing that turns image files into model input."""

import math
from dataclasses import dataclass
from typing import Literal

LONGEST = 2**15
"""The most pixels of a side of a model's input."""

Size = tuple[int, int]
"""Height and width in pixels."""
ValueRange = tuple[float, float]
"""The values of black and white in images with more than 8 bits per value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """The geometric part of preprocessing: it turns an image of any size and mode into an array of one shape."""

    size: Size
    channels: Literal[1, 3]
    resize: Literal["crop", "squash", "squash-crop"] = "crop"
    """squash: the whole image is stretched to ``size``; crop: a centred box with the aspect ratio of ``size`` is resized;
    squash-crop: the image is stretched to that aspect ratio, then its centre is cut out, as some models of timm do."""
    crop_fraction: float = 1.0
    """With ``crop``: share that is kept of the largest centred box with the aspect ratio of ``size``; with ``squash-crop``:
    of height and width. It is counted in whole pixels of the image as it is resized before the crop."""
    interpolation: Literal["bicubic", "bilinear", "bilinear-no-antialias"] = "bicubic"
    """Interpolation, antialiased as in Pillow, but for ``bilinear-no-antialias``, which cannot crop."""
    value_range: ValueRange | None = None
    """The values that become 0 and 255 in images with more than 8 bits; None: 0 and 65535, and 0 and 1 for floats."""

    @property
    def filter(self) -> Literal["bicubic", "bilinear"]:
        """The filter of the interpolation."""
        return "bicubic" if self.interpolation == "bicubic" else "bilinear"

    @property
    def antialias(self) -> bool:
        """Tell whether pixels are averaged where an image shrinks."""
        return self.interpolation != "bilinear-no-antialias"

    def __post_init__(self) -> None:
        _check_size(self.size)
        if self.resize != "squash" and not self.antialias:
            raise ValueError("interpolation 'bilinear-no-antialias' cannot crop photos")
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(f"crop_fraction = {self.crop_fraction} is not in (0, 1]")
        if self.value_range and not -math.inf < self.value_range[0] < self.value_range[1] < math.inf:
            raise ValueError(f"value_range = {self.value_range} is not a range from low to high")


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """The complete preprocessing from image file to model input; stored in every checkpoint, used by every command."""

    geometry: Geometry
    """The steps from the image file to a uint8 array."""
    image_size: Size
    """Size of the model input; larger than ``geometry.size`` if small images are used with a large model."""
    mean: tuple[float, ...]
    """Mean of each channel, or of all of them, for pixels in 0..1."""
    std: tuple[float, ...]
    """Standard deviation of each channel, or of all of them, for pixels in 0..1."""

    def __post_init__(self) -> None:
        _check_size(self.image_size)
        if len(self.mean) != len(self.std) or len(self.mean) not in {1, self.geometry.channels}:
            raise ValueError(f"mean {self.mean} and std {self.std} are not for {self.geometry.channels} channels")
        if not (all(map(math.isfinite, self.mean)) and all(0 < value < math.inf for value in self.std)):
            raise ValueError(f"mean {self.mean} or std {self.std} is not finite, or not positive")


def _check_size(size: Size) -> None:
    if not all(0 < side <= LONGEST for side in size):
        raise ValueError(f"the size {size} is not in 1 to {LONGEST:,} pixels")


def format_size(size: Size) -> str:
    """Format a size as ``--image-size`` takes it: ``32`` for a square, else ``HEIGHTxWIDTH``."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"
