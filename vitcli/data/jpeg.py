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


def decode_colours(path: Path, image: Image.Image) -> NDArray[np.uint8] | None:
    """The pixels of a colour JPEG, (H, W, 3), valid until this thread decodes another; None: leave it to Pillow.

    Args:
        path: the file.
        image: the same, opened and not decoded.
    """
    if simplejpeg is None or image.format != "JPEG" or image.mode != "RGB":
        return None
    size = 3 * image.width * image.height
    buffer: Any = getattr(_local, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _local.buffer = np.empty(size, dtype=np.uint8)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(path.read_bytes(), "RGB", buffer=buffer)
    except (ValueError, OSError):  # damaged: Pillow says how
        return None
    return pixels if pixels.shape == (image.height, image.width, 3) else None
