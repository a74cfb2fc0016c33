"""Decoding of image files of any format, upright, within a budget of memory for all threads."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from vitcli.core.errors import DataError
from vitcli.core.files import bytes_in_words
from vitcli.core.preprocessing import Size
from vitcli.data.budget import BUDGET, reserved
from vitcli.data.deep_images import is_cut, is_deep
from vitcli.data.sources.image_search import is_heic

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels of the upright image."""

_BYTES_PER_PIXEL = 5
"""Memory for a decoded pixel and its copy in another mode."""
_MOST_PIXELS = BUDGET // _BYTES_PER_PIXEL
"""The most pixels that are decoded of an image."""
_MOST_PIXELS_OF_JPEG = 10**9
"""The most pixels of a JPEG, which is decoded at a smaller size."""
_MOST_PIXELS_PER_BYTE = 50_000
"""The most pixels per byte of a file over 20 megapixels: empty pages, compressed as by fax machines, have fewer."""
Image.MAX_IMAGE_PIXELS = None  # _MOST_PIXELS replaces it: Pillow warns about photos of current cameras
_HUGE = 20 * 10**6
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


_reading = threading.local()


def being_read() -> Path | None:
    """Return the image that this thread opened last, which a warning of Pillow is about; None: it opened none."""
    path: Path | None = getattr(_reading, "path", None)
    return path


@contextmanager
def decoded(path: Path, scale_of: Callable[[Size], float] | None) -> Iterator[tuple[Image.Image, Box]]:
    """Decode an image file and turn it upright as its EXIF data says; take the first frame of an animation.

    A JPEG that is at least twice as large as the result is decoded at a half, a quarter or an eighth of its size, which
    takes a fraction of the time.

    Args:
        path: the file.
        scale_of: the smallest scale at which an image of this height and width is needed; None: full size.

    Yields:
        The image, and the box in it that the file's pixels cover, because a JPEG decoded at a smaller size may end with
        a fraction of a pixel.
    """
    with opened(path) as image:
        width, height = map(float, image.size)
        if image.format in {"JPEG", "MPO"} and scale_of:  # many phones write MPO as .jpg: several images in one file
            scale = scale_of((image.width, image.height) if _is_turned(image) else (image.height, image.width))
            if drafted := image.draft(None, (math.ceil(image.width * scale), math.ceil(image.height * scale))):
                width, height = drafted[1][2:]
        with room_for(path, image.width * image.height):  # draft() has changed them
            yield _turned_upright(image, width, height)


@contextmanager
def room_for(path: Path, pixels: int) -> Iterator[None]:
    """Reserve memory to decode so many pixels; raise DataError if they are more than an image may have."""
    _refuse_giants(path, pixels)
    with reserved(_BYTES_PER_PIXEL * pixels):
        yield


def _turned_upright(image: Image.Image, width: float, height: float) -> tuple[Image.Image, Box]:
    """Decode an image and turn it upright; return the box in it that ``width`` x ``height`` stored pixels cover."""
    orientation = _orientation(image)
    turned = upright(image)
    if orientation in _TURNED:
        width, height = height, width
    left = turned.width - width if orientation in _FROM_RIGHT else 0
    top = turned.height - height if orientation in _FROM_BELOW else 0
    return turned, (left, top, left + width, top + height)


def upright(image: Image.Image) -> Image.Image:
    """Decode an image, and turn it as its header says.

    Unlike ``ImageOps.exif_transpose``, this does not write the other EXIF data again, which fails if a camera wrote odd
    data.
    """
    orientation = _orientation(image)
    image.load()
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _orientation(image: Image.Image) -> int:
    """Return the orientation of the pixels that Pillow decodes; what a PNG says after its pixels does not count."""
    return 1 if image.format == "TIFF" else _stored_orientation(image)  # Pillow turns TIFF files itself


def _stored_orientation(image: Image.Image) -> int:
    """Read the orientation of the stored pixels from the header: from EXIF data, or else from XMP."""
    found: int = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)  # image.getexif() decodes a whole PNG
    return found


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
            "turned by EXIF": _stored_orientation(image) in _UPRIGHT,
            "animated (first frame)": getattr(image, "n_frames", 1) > 1,
            "over 20 megapixels": image.width * image.height > _HUGE,
        }
        return tuple(kind for kind, is_so in kinds.items() if is_so)


def _is_grey(image: Image.Image) -> bool:
    return image.mode in {"1", "L", "LA"} or is_deep(image)


def is_upright(image: Image.Image) -> bool:
    """Tell whether the header of an image says that its pixels are stored upright."""
    return _orientation(image) not in _UPRIGHT


def _is_turned(image: Image.Image) -> bool:
    """Tell whether turning an image upright swaps its height and width."""
    return _orientation(image) in _TURNED


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; its pixels are decoded when they are needed.

    Raises:
        DataError: the file is missing, is not an image or cannot be decoded.
    """
    _reading.path = path
    try:
        with _identified(path) as image:
            pixels = image.width * image.height
            _refuse_bombs(path, pixels)
            _refuse_giants(path, pixels, _MOST_PIXELS_OF_JPEG if image.format in {"JPEG", "MPO"} else _MOST_PIXELS)
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"no such image: {path}", hint="check the path; or bring the file back") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not an image") from None
    except UnidentifiedImageError:
        raise _unknown_format(path) from None
    except Exception as error:  # noqa: BLE001 - Pillow raises whatever a malformed file leads it to
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}") from None


@cache
def _register_all() -> None:
    """Register all formats of Pillow, and HEIC if its package is installed."""
    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()


def _identified(path: Path) -> Image.Image:
    """Open an image of one of the known formats, whatever its ending; other formats of Pillow may start programs."""
    try:
        return Image.open(path, formats=_COMMON)
    except UnidentifiedImageError:
        _register_all()
        others = (*_RARE, *(("TGA",) if path.suffix.lower() == ".tga" else ()))  # TGA has no first bytes of its own
        return Image.open(path, formats=[name for name in others if name in Image.OPEN])


def _unknown_format(path: Path) -> DataError:
    with path.open("rb") as file:
        if is_heic(file.read(12)):
            if "HEIF" in Image.OPEN:
                return DataError(f"{path} cannot be read: damaged HEIC")
            return DataError(
                f"{path} is HEIC, which needs a package: uv sync --extra heic", hint="or convert the image to JPEG"
            )
    what = "is not an image in a known format" if path.stat().st_size else "is empty"
    return DataError(f"{path} {what}")


def _refuse_giants(path: Path, pixels: int, most: int = _MOST_PIXELS) -> None:
    if pixels > most:
        raise DataError(
            f"{path} has {pixels / 1e6:,.0f} megapixels, more than {most / 1e6:,.0f}",
            hint="make it smaller, or remove it",
        )


def _refuse_bombs(path: Path, pixels: int) -> None:
    if pixels > _HUGE and pixels > _MOST_PIXELS_PER_BYTE * (size := path.stat().st_size):
        raise DataError(
            f"{path} claims {pixels / 1e6:,.0f} megapixels in {bytes_in_words(size)}", hint="it is no photo: remove it"
        )
