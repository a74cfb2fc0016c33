"""Prepared images: uint8 pixels, labels and stretch of one split in one memory-mapped ``.safetensors`` file.

The images are written one after the other, so that a split larger than memory can be prepared. The labels are written
when it is known which images could be decoded. Any safetensors reader opens the file.
Layout of the format: 8 bytes header length, JSON header, tensors.
"""

import json
import math
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitcli.core.errors import DataError
from vitcli.core.files import replacing
from vitcli.core.preprocessing import Geometry
from vitcli.data.raw import Labels, SplitName

_LAYOUT = 3
"""The version of prepared files; a new one if they change for the same geometry."""
_IN_MEMORY = 2**30
"""Splits up to this many bytes are read into memory; larger ones stay memory-mapped."""
_STATISTICS_SAMPLE = 10_000
_STATISTICS_PIXELS = 3 * 10**8
_STATISTICS_CHUNK = 64
_CONSTANT = 1e-6
"""Standard deviations up to this value are rounding errors."""


class Images(Protocol):
    """uint8 images, (N, C, H, W): a tensor, or an object that decodes them on access."""

    shape: torch.Size

    @property
    def device(self) -> torch.device:
        """The device of the images."""
        ...

    def __getitem__(self, indices: Tensor, /) -> Tensor:
        """Return the images at these indices: (B,) -> (B, C, H, W)."""
        ...

    def numel(self) -> int:
        """Return the size of all images in bytes."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedSplit:
    """Images of one shape, and their labels, int64 (N,); a negative label marks an image that cannot be read."""

    images: Images
    labels: Tensor
    stretch: Tensor
    """Width of the photo that one column covers / height that one row covers, float32 (N,): not 1 where photos of
    other shapes were squashed."""

    def take(self, members: NDArray[np.int64]) -> "PreparedSplit":
        """Return some of the images, in the given order."""
        chosen = torch.from_numpy(members)
        return PreparedSplit(images=self.images[chosen], labels=self.labels[chosen], stretch=self.stretch[chosen])

    def pixels(self) -> Tensor:
        """Return all images, (N, C, H, W); those that are decoded on access are decoded now."""
        return self.images[torch.arange(len(self.labels))]

    def as_array(self) -> NDArray[np.uint8]:
        """Return the pixels, (N, C, H, W), of images that are a tensor."""
        assert isinstance(self.images, Tensor)
        pixels: NDArray[np.uint8] = self.images.numpy()
        return pixels

    def readable(self, members: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the indices of the images that could be read, among all or among ``members``."""
        chosen: NDArray[np.int64] = np.arange(len(self.labels)) if members is None else members
        return chosen[self.labels.numpy()[chosen] >= 0]


def write_split(
    path: Path,
    images: Iterable[NDArray[np.uint8]],
    labels: Labels,
    image_shape: Sequence[int],
    stretch: NDArray[np.float32] | None = None,
) -> None:
    """Write one split atomically.

    Args:
        path: the file.
        images: chunks of images, each (n, C, H, W), with as many images in total as there are labels.
        labels: int64, (N,); read after the last image has been written, as is ``stretch``.
        image_shape: C, H, W.
        stretch: float32, (N,), as in ``PreparedSplit``; None: all 1.
    """
    if stretch is None:
        stretch = np.ones(len(labels), dtype=np.float32)
    pixels = len(labels) * int(np.prod(image_shape))
    start = labels.nbytes + stretch.nbytes
    header = json.dumps(
        {
            "labels": {"dtype": "I64", "shape": labels.shape, "data_offsets": [0, labels.nbytes]},
            "stretch": {"dtype": "F32", "shape": labels.shape, "data_offsets": [labels.nbytes, start]},
            "images": {"dtype": "U8", "shape": [len(labels), *image_shape], "data_offsets": [start, start + pixels]},
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.write(bytes(start))
        written = 0
        for chunk in images:
            written += file.write(np.ascontiguousarray(chunk).data)
            if written < pixels and hasattr(os, "fdatasync"):
                os.fdatasync(file.fileno())  # now, while the next chunk is being decoded
        assert written == pixels, f"{written} bytes of images written, not {pixels}"
        file.seek(8 + len(header))
        file.write(labels.astype("<i8").tobytes() + stretch.astype("<f4").tobytes())


def split_file(folder: Path, name: SplitName, geometry: Geometry) -> Path:
    """Return the file of a split that is prepared in a geometry."""
    height, width = geometry.size
    fraction = f"{geometry.crop_fraction:g}" if geometry.resize != "squash" else ""
    details = "" if geometry.interpolation == "bicubic" else f"-{geometry.interpolation}"
    if geometry.value_range:
        details += "-{:.17g}to{:.17g}".format(*geometry.value_range)
    how = f"{geometry.resize}{fraction}{details}"
    return folder / f"{name}-{height}x{width}x{geometry.channels}-{how}-{_LAYOUT}.safetensors"


def read_split(path: Path, *, in_memory: bool | None = None) -> PreparedSplit:
    """Open a prepared split: in memory if it is small, otherwise memory-mapped, unless ``in_memory`` says which.

    Raises:
        DataError: the file is damaged.
    """
    try:
        tensors = load_file(path)
        images, labels, stretch = tensors["images"], tensors["labels"], tensors["stretch"]
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path} is damaged: {error}", hint=f"remove {path.parent} and try again") from None
    if in_memory is None:
        in_memory = images.numel() <= _IN_MEMORY
    return PreparedSplit(images=images.clone() if in_memory else images, labels=labels.clone(), stretch=stretch.clone())


def channel_statistics(images: Images, members: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute the mean and standard deviation per channel, for pixels in 0..1.

    They are computed from at most 10,000 evenly spaced images, and from fewer if the images are large.

    Args:
        images: uint8, (N, C, H, W).
        members: indices of the images to use.

    Returns:
        Two tuples of C numbers; the deviation of a constant channel is 1.
    """
    sample_size = min(_STATISTICS_SAMPLE, max(_STATISTICS_PIXELS * images.shape[0] // images.numel(), 1))
    every = math.ceil(len(members) / sample_size)
    sums = torch.zeros(2, images.shape[1], dtype=torch.float64)  # of pixels and of their squares
    sample = torch.from_numpy(members[::every])
    for indices in sample.split(_STATISTICS_CHUNK):
        pixels = images[indices].double().div(255)
        sums += torch.stack([pixels.sum(dim=(0, 2, 3)), pixels.square().sum(dim=(0, 2, 3))])
    mean, square = sums / (len(sample) * images.shape[2:].numel())
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(torch.where(deviation > _CONSTANT, deviation, 1.0).tolist())
