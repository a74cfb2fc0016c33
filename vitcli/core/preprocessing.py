"""The contract between image files and models: what happens to pixels on the way from one to the other."""

from dataclasses import dataclass
from typing import Literal

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Geometry:
    """The way in which an image of any size and mode becomes an array of one shape."""

    size: Size
    channels: Literal[1, 3]
    resize: Literal["crop", "squash"] = "crop"
    crop_fraction: float = 1.0
    """With ``crop``: the share kept of the largest centred box that has the aspect ratio of ``size``."""
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    """Antialiased, as in Pillow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """The way from an image file to the model's input: stored in every checkpoint, used by every command alike."""

    geometry: Geometry
    """From file to uint8 array."""
    image_size: Size
    """What the model sees; larger than ``geometry.size`` where small images meet a large model."""
    mean: tuple[float, ...]
    """Per channel, for pixels in 0..1."""
    std: tuple[float, ...]


def format_size(size: Size) -> str:
    """``32`` for a square, else ``HEIGHTxWIDTH``: what ``--image-size`` takes."""
    height, width = size
    return str(height) if height == width else f"{height}x{width}"
