"""From an image file to the model's input: one contract for training, evaluation, prediction and attention maps.

On the CPU an image becomes a uint8 array of one shape (``Geometry``); on the device a batch of them becomes
normalised floats (``InputTransform``).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.errors import DataError
from vitcli.core.preprocessing import Geometry, Preprocessing, Size

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright image."""

_TURNED = range(5, 9)
"""EXIF orientations that swap height and width."""


def load_array(path: Path, geometry: Geometry) -> NDArray[np.uint8]:
    """The image of a file as uint8, (C, H, W).

    Raises:
        DataError: the file is missing or is no image.
    """
    return to_array(open_image(path, geometry), geometry)


def open_image(path: Path, geometry: Geometry | None = None) -> Image.Image:
    """The decoded image of a file, turned upright as its EXIF data says; of an animation, the first frame.

    Args:
        path: the file.
        geometry: what it is going to be: of a JPEG that is at least twice as large, a half, a quarter or an eighth is
            decoded, at a fraction of the time; None: all of it.

    Raises:
        DataError: the file is missing or is no image.
    """
    with _opened(path) as image:
        if geometry and image.format == "JPEG":
            upright = (image.height, image.width)
            size = upright[::-1] if _is_turned(image) else upright
            left, top, right, bottom = crop_box(size, geometry)
            scale = max(geometry.size[0] / (bottom - top), geometry.size[1] / (right - left))
            image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale)))
        return ImageOps.exif_transpose(image)


def read_header(path: Path) -> tuple[Size, bool]:
    """Upright height and width of an image file, and whether it is grey; pixels are not decoded.

    Raises:
        DataError: the file is missing or is no image.
    """
    with _opened(path) as image:
        size = (image.width, image.height) if _is_turned(image) else (image.height, image.width)
        return size, image.mode in {"1", "L", "LA", "F"} or image.mode.startswith("I")


def _is_turned(image: Image.Image) -> bool:
    """Whether the upright image is as high as this one is wide."""
    has_exif = image.format != "PNG" or "exif" in image.info  # getexif() would decode a whole PNG to find none
    is_upright = image.format == "TIFF" or not has_exif  # Pillow gives the upright size of TIFF files
    return not is_upright and image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except FileNotFoundError:
        raise DataError(f"no such image: {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not an image") from None
    except UnidentifiedImageError:
        raise DataError(f"{path} is not an image in a known format") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


def crop_box(size: Size, geometry: Geometry) -> Box:
    """The part of an image of ``size`` (height, width) that is kept."""
    height, width = size
    if geometry.resize == "squash":
        return 0, 0, width, height
    target_height, target_width = geometry.size
    scale = geometry.crop_fraction * min(height / target_height, width / target_width)
    box_height, box_width = scale * target_height, scale * target_width
    left, top = max(0.0, (width - box_width) / 2), max(0.0, (height - box_height) / 2)  # rounding may lead outside
    return left, top, min(width, left + box_width), min(height, top + box_height)


def to_array(image: Image.Image, geometry: Geometry) -> NDArray[np.uint8]:
    """Crop and resize in one antialiased resampling: uint8, (C, H, W)."""
    image = _convert(image, geometry.channels)
    height, width = geometry.size
    box = crop_box((image.height, image.width), geometry)
    if (image.width, image.height) != (width, height) or box != (0, 0, width, height):
        image = image.resize((width, height), Image.Resampling[geometry.interpolation.upper()], box=box)
    array = np.array(image)  # a copy: torch wants to be able to write
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """To 8 bits of grey or RGB; what is transparent becomes white."""
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits per pixel: convert() would clip them
        values = np.asarray(image, dtype=np.float64)
        scale = 255 / max(float(values.max()), 1.0) if values.max() > 65535 or image.mode == "F" else 255 / 65535
        image = Image.fromarray((values * scale).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")


class InputTransform:
    """uint8 batches to what the model sees; call it with (B, C, h, w), get float32 (B, C, H, W)."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self.image_size = preprocessing.image_size
        mean = torch.tensor(preprocessing.mean, device=device)[:, None, None]
        std = torch.tensor(preprocessing.std, device=device)[:, None, None]
        self._scale = 1 / (255 * std)
        self._shift = -mean / std

    def __call__(self, images: Tensor, _generator: torch.Generator | None = None) -> Tensor:
        """Normalise, and resize where the model's size differs; nothing is random."""
        return self.resized(self.normalised(images))

    def normalised(self, images: Tensor) -> Tensor:
        """(pixel / 255 - mean) / std."""
        return torch.addcmul(self._shift, images.to(self._scale.dtype), self._scale)

    def pixels(self, inputs: Tensor) -> Tensor:
        """Model input as uint8 pixels again; what lies outside of 0..255 is clipped."""
        return ((inputs - self._shift) / self._scale).clamp(0, 255).round().byte()

    def resized(self, images: Tensor) -> Tensor:
        """Float images, bicubically at the model's size."""
        if images.shape[-2:] == self.image_size:
            return images
        return F.interpolate(images, self.image_size, mode="bicubic", antialias=True)
