"""Conversion of image files to model input, the same for training, evaluation, prediction and attention maps.

On the CPU, an image becomes a uint8 array of one shape (``Geometry``); on the device, a batch of such arrays becomes
normalised floats (``InputTransform``).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.errors import DataError
from vitcli.core.preprocessing import Geometry, Preprocessing, Size
from vitcli.data.deep_images import is_cut, is_deep, to_8_bits
from vitcli.data.jpeg import decode_colours
from vitcli.data.sources.image_search import is_heic

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright image."""

_MOST_PIXELS = 10**9
"""The most pixels that an image may have: 3 GB when it is decoded."""
Image.MAX_IMAGE_PIXELS = None  # _MOST_PIXELS replaces it: Pillow warns about photos of current cameras
_HUGE = 20 * 10**6
_ALIASED = "-no-antialias"
_COMMON = ("JPEG", "PNG", "BMP", "GIF", "PPM")
"""Formats that Pillow can read without further imports; JPEG includes MPO."""
_RARE = ("WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000", "ICO", "DIB", "PCX", "QOI", "SGI")
_TURNED = range(5, 9)
"""EXIF orientations that swap height and width."""
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns an image upright, by its EXIF orientation."""
_FROM_RIGHT = frozenset({2, 3, 6, 7})
_FROM_BELOW = frozenset({3, 4, 7, 8})
"""EXIF orientations of images whose first stored pixel is on the right, or at the bottom."""


def load_array(path: Path, geometry: Geometry) -> NDArray[np.uint8]:
    """Load an image file as uint8, (C, H, W).

    Raises:
        DataError: the file is missing or is not an image.
    """
    if (array := _quickly(path, geometry)) is not None:
        return array
    image, content = _upright(path, geometry)
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
        is_whole = box == (0, 0, width, height) and image.getexif().get(ExifTags.Base.Orientation, 1) not in _UPRIGHT
        times = 1 if _is_aliased(geometry) else min(height // geometry.size[0], width // geometry.size[1])
        scale = next((scale for scale in (8, 4, 2) if scale <= times), 1)
        pixels = decode_colours(path, image, scale=scale) if is_whole else None
    return None if pixels is None else _resized(pixels, geometry)


def _upright(path: Path, geometry: Geometry) -> tuple[Image.Image, Box]:
    """Decode an image file and turn it upright as its EXIF data says; take the first frame of an animation.

    A JPEG that is at least twice as large as the result is decoded at a half, a quarter or an eighth of its size, which
    takes a fraction of the time.

    Returns:
        The image, and the box in it that the file's pixels cover, because a JPEG decoded at a smaller size may end with
        a fraction of a pixel.
    """
    with opened(path) as image:
        width, height = map(float, image.size)
        if image.format in {"JPEG", "MPO"} and not _is_aliased(
            geometry
        ):  # many phones write MPO as .jpg: several images in one file
            size = (image.width, image.height) if _is_turned(image) else (image.height, image.width)
            left, top, right, bottom = crop_box(size, geometry)
            scale = max(geometry.size[0] / (bottom - top), geometry.size[1] / (right - left))
            if drafted := image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale))):
                width, height = drafted[1][2:]
        image.load()
        # Not ImageOps.exif_transpose(): it writes the other EXIF data again, which fails if a camera wrote odd data.
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        upright = image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image
        if orientation in _TURNED:
            width, height = height, width
        left = upright.width - width if orientation in _FROM_RIGHT else 0
        top = upright.height - height if orientation in _FROM_BELOW else 0
        return upright, (left, top, left + width, top + height)


def _is_aliased(geometry: Geometry) -> bool:
    return geometry.interpolation.endswith(_ALIASED)


def read_header(path: Path) -> tuple[Size, bool]:
    """Return the upright height and width of an image file, and whether it is grey, without decoding pixels.

    Raises:
        DataError: the file is missing or is not an image.
    """
    with opened(path) as image:
        size = (image.width, image.height) if _is_turned(image) else (image.height, image.width)
        return size, _is_grey(image)


def read_kinds(path: Path) -> tuple[str, ...]:
    """List how an image differs from a single upright image in 8-bit RGB; all these kinds can be read.

    Raises:
        DataError: the file is missing or is not an image.
    """
    with opened(path) as image:
        kinds = {
            "grey": _is_grey(image),
            "transparent": image.has_transparency_data,
            "CMYK": image.mode == "CMYK",
            "more than 8 bits": is_deep(image) or is_cut(image),
            "turned by EXIF": image.format != "PNG" and image.getexif().get(ExifTags.Base.Orientation, 1) != 1,
            "animated (first frame)": getattr(image, "n_frames", 1) > 1,
            "over 20 megapixels": image.width * image.height > _HUGE,
        }
        return tuple(kind for kind, is_so in kinds.items() if is_so)


def _is_grey(image: Image.Image) -> bool:
    return image.mode in {"1", "L", "LA"} or is_deep(image)


def _is_turned(image: Image.Image) -> bool:
    """Tell whether turning an image upright swaps its height and width."""
    has_exif = image.format != "PNG" or "exif" in image.info  # without EXIF, getexif() would decode the whole PNG
    is_upright = image.format == "TIFF" or not has_exif  # Pillow gives the upright size of TIFF files
    return not is_upright and image.getexif().get(ExifTags.Base.Orientation, 1) in _TURNED


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; its pixels are decoded when they are needed.

    Raises:
        DataError: the file is missing, is not an image or cannot be decoded.
    """
    try:
        with _identified(path) as image:
            _refuse_giants(path, image.width * image.height)
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"no such image: {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not an image") from None
    except UnidentifiedImageError:
        raise _unknown_format(path) from None
    except Exception as error:  # noqa: BLE001 - Pillow raises whatever a malformed file leads it to
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}") from None


def _identified(path: Path) -> Image.Image:
    """Open an image of one of the known formats, whatever its ending; other formats of Pillow may start programs."""
    try:
        return Image.open(path, formats=_COMMON)
    except UnidentifiedImageError:
        Image.init()
        with suppress(ImportError):  # an optional dependency
            import pillow_heif

            pillow_heif.register_heif_opener()
        others = (*_RARE, *(("TGA",) if path.suffix.lower() == ".tga" else ()))  # TGA has no first bytes of its own
        return Image.open(path, formats=[name for name in others if name in Image.OPEN])


def _unknown_format(path: Path) -> DataError:
    with path.open("rb") as file:
        if is_heic(file.read(12)):
            return DataError(f"{path} is HEIC, which needs a package: pillow-heif", hint="uv pip install pillow-heif")
    return DataError(f"{path} is not an image in a known format")


def _refuse_giants(path: Path, pixels: int) -> None:
    if pixels > _MOST_PIXELS:
        raise DataError(
            f"{path} has {pixels / 1e6:,.0f} megapixels, more than {_MOST_PIXELS / 1e6:,.0f}",
            hint="make it smaller, or remove it",
        )


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
    array = np.asarray(image.resize((width, height), Image.Resampling[geometry.interpolation.upper()], box=box))
    return array[None].copy() if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _resized(array: NDArray[np.uint8], geometry: Geometry) -> NDArray[np.uint8]:
    """Resize an array, (h, w) or (h, w, C) -> (C, H, W), in a half to a third of Pillow's time.

    torch has the same filters as Pillow and the same error, which comes from rounding between the two directions.
    """
    pixels = torch.from_numpy(array)
    pixels = pixels.reshape(1, *pixels.shape[:2], -1).permute(0, 3, 1, 2)
    if pixels.shape[2:] != geometry.size:
        mode = geometry.interpolation.removesuffix(_ALIASED)
        pixels = F.interpolate(pixels, geometry.size, mode=mode, antialias=mode == geometry.interpolation)
    result: NDArray[np.uint8] = pixels[0].clone(memory_format=torch.contiguous_format).numpy()
    return result


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """Convert an image to 8 bits of grey or RGB; transparent areas become white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if channels == 1 else "RGB"
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
