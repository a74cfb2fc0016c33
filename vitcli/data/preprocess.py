"""Conversion of image files to model input, the same for training, evaluation, prediction and attention maps.

On the CPU, an image becomes a uint8 array of one shape (``Geometry``); on the device, a batch of such arrays becomes
normalised floats (``InputTransform``).
"""

import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.errors import DataError
from vitcli.core.preprocessing import Geometry, Preprocessing, Size
from vitcli.data.decoding import Box, decoded, is_upright, opened, room_for
from vitcli.data.deep_images import is_deep, to_8_bits
from vitcli.data.jpeg import decode_colours


def load_array(path: Path, geometry: Geometry) -> NDArray[np.uint8]:
    """Load an image file as uint8, (C, H, W).

    Raises:
        DataError: the file is missing or is not an image.
    """
    if (array := _quickly(path, geometry)) is not None:
        return array
    with decoded(path, (lambda size: _scale_of(size, geometry)) if geometry.antialias else None) as (image, content):
        try:
            return to_array(image, geometry, content)
        except DataError as error:
            raise DataError(f"{path} {error.message}", hint=error.hint) from None


def _quickly(path: Path, geometry: Geometry) -> NDArray[np.uint8] | None:
    """Load an upright colour JPEG of which nothing is cropped, by a faster way; return None for all other images.

    Most images that are prepared are of this kind.
    """
    if geometry.channels == 1 or path.suffix.lower() not in {".jpg", ".jpeg", ".jpe", ".jfif"}:
        return None
    with opened(path) as image:
        height, width = image.height, image.width
        box = crop_box((height, width), geometry)
        is_whole = box == (0, 0, width, height) and is_upright(image)
        if not is_whole:
            return None
        times = min(height // geometry.size[0], width // geometry.size[1]) if geometry.antialias else 1
        scale = next((scale for scale in (8, 4, 2) if scale <= times), 1)
        with room_for(path, height * width // scale**2):
            pixels = decode_colours(path, image, scale=scale)
            return None if pixels is None else _resized(pixels, geometry)


def _scale_of(size: Size, geometry: Geometry) -> float:
    """Compute the scale at which the part that is kept of an image covers the result."""
    left, top, right, bottom = crop_box(size, geometry)
    return max(geometry.size[0] / (bottom - top), geometry.size[1] / (right - left))


def crop_box(size: tuple[float, float], geometry: Geometry) -> Box:
    """Compute the part of an image of ``size`` (height, width) that is kept.

    torchvision and timm resize the image to whole pixels, and then cut whole pixels out of it. This is the same box, in
    pixels of the image before it is resized, so that one resampling does both.
    """
    height, width = size
    if geometry.resize == "squash":
        return 0, 0, width, height
    target_height, target_width = geometry.size
    resized_height, resized_width = _resized_before_crop(size, geometry)
    top, left = round((resized_height - target_height) / 2), round((resized_width - target_width) / 2)
    across, down = width / resized_width, height / resized_height
    right, bottom = min(width, (left + target_width) * across), min(height, (top + target_height) * down)
    return left * across, top * down, right, bottom


def _resized_before_crop(size: tuple[float, float], geometry: Geometry) -> Size:
    """Compute the size to which torchvision (square targets) and timm (others) resize an image before they crop it."""
    height, width = size
    rows, columns = (math.floor(side / geometry.crop_fraction + 1e-6) for side in geometry.size)
    if geometry.resize == "squash-crop":
        return rows, columns
    if rows == columns:
        return (rows, int(rows * width / height)) if width > height else (int(rows * height / width), rows)
    ratio = min(height / rows, width / columns)
    return round(height / ratio), round(width / ratio)


def to_array(image: Image.Image, geometry: Geometry, content: Box | None = None) -> NDArray[np.uint8]:
    """Crop and resize an image in one antialiased resampling; return uint8, (C, H, W).

    If ``content`` is given, only this box of the image is used.

    Raises:
        DataError: the image has values that cannot be converted to 8 bits.
    """
    if is_deep(image):
        image = to_8_bits(image, geometry.value_range)
    image = _convert(image, geometry.channels)
    height, width = geometry.size
    x, y, end_x, end_y = content or (0, 0, image.width, image.height)
    left, top, right, bottom = crop_box((end_y - y, end_x - x), geometry)
    box = x + left, y + top, min(x + right, image.width), min(y + bottom, image.height)
    if all(float(side).is_integer() for side in box):
        left, top, right, bottom = map(int, box)
        return _resized(np.array(image)[top:bottom, left:right], geometry)
    array = np.asarray(image.resize((width, height), Image.Resampling[geometry.filter.upper()], box=box))
    return array[None].copy() if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _resized(array: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Resize an array, (h, w) or (h, w, C) -> (C, H, W), in a half to a third of Pillow's time.

    torch has the same filters as Pillow and the same error, which comes from rounding between the two directions.
    """
    pixels = torch.from_numpy(array)
    pixels = pixels.reshape(1, *pixels.shape[:2], -1).permute(0, 3, 1, 2)
    if pixels.shape[2:] != geometry.size:
        pixels = F.interpolate(pixels, geometry.size, mode=geometry.filter, antialias=geometry.antialias)
    result: NDArray[np.uint8] = pixels[0].clone(memory_format=torch.contiguous_format).numpy()
    return result


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """Convert an image to 8 bits of grey or RGB; transparent areas become white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if channels == 1 else "RGB"
    if image.mode not in {mode, "1", "L", "LA", "P", "RGB", "RGBA"}:  # not every mode has a way to grey
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


class InputTransform:
    """The transform from uint8 batches to model input: call it with (B, C, h, w) to get float32 (B, C, H, W)."""

    def __init__(self, preprocessing: Preprocessing, device: torch.device) -> None:
        self.image_size = preprocessing.image_size
        mean = torch.tensor(preprocessing.mean, device=device)[:, None, None]
        std = torch.tensor(preprocessing.std, device=device)[:, None, None]
        self._scale = 1 / (255 * std)
        self._shift = -mean / std

    def __call__(self, images: Tensor, *_drawn: object) -> Tensor:
        """Normalise images, and resize them if the model's size differs; nothing is random."""
        return self.resized(self.normalised(images))

    def normalised(self, images: Tensor, gain: Tensor | None = None, offset: Tensor | None = None) -> Tensor:
        """Normalise pixels, which are gain * image + offset: (pixel / 255 - mean) / std.

        Args:
            images: (B, C, H, W); float32 images are overwritten.
            gain: (B, 1, 1, 1), given together with the offset; None: images are pixels.
            offset: (B, 1, 1, 1).
        """
        scale, shift = self._scale, self._shift
        if gain is not None and offset is not None:
            scale, shift = scale * gain, shift + scale * offset
        return images.to(scale.dtype).mul_(scale).add_(shift)  # in place: new memory costs more than the arithmetic

    def pixels(self, inputs: Tensor) -> Tensor:
        """Convert model input back to uint8 pixels; values outside 0..255 are clipped."""
        return self.undone(inputs).clamp(0, 255).round().byte()

    def undone(self, inputs: Tensor) -> Tensor:
        """Convert model input back to float pixels, which may lie outside 0..255."""
        return (inputs - self._shift) / self._scale

    def resized(self, images: Tensor) -> Tensor:
        """Resize float images to the model's size, with bicubic interpolation."""
        if images.shape[-2:] == self.image_size:
            return images
        return F.interpolate(images, self.image_size, mode="bicubic", antialias=True)
