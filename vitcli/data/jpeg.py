"""JPEG files decoded into memory that is used again, by simplejpeg where it is installed: Pillow's pixels in half the time."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

try:
    import simplejpeg
except ImportError:  # an extra
    simplejpeg = None

_local = threading.local()


def decode_colours(path: Path, image: Image.Image, *, scale: int = 1) -> NDArray[np.uint8] | None:
    """The pixels of a colour JPEG, (H, W, 3), valid until this thread decodes another; None: leave it to Pillow.

    Args:
        path: the file.
        image: the same, opened and not decoded.
        scale: 1, 2, 4 or 8: every so many pixels of a side become one, as part of decoding.
    """
    if simplejpeg is None or image.format != "JPEG" or image.mode != "RGB":
        return None
    if image.width % scale or image.height % scale:  # the last pixel would be a fraction of one
        return None
    height, width = image.height // scale, image.width // scale
    size = 3 * height * width
    buffer: Any = getattr(_local, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _local.buffer = np.empty(size, dtype=np.uint8)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            path.read_bytes(), "RGB", min_height=height, min_width=width, buffer=buffer
        )
    except (ValueError, OSError):  # damaged: Pillow says how
        return None
    return pixels if pixels.shape == (height, width, 3) else None
