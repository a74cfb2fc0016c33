"""Prepared images: uint8 pixels and labels of one split in one memory-mapped ``.safetensors`` file.

The file is written front to back, so that a split larger than memory can be prepared; any safetensors reader opens it.
Layout of the format: 8 bytes header length, JSON header, tensors.
"""

import json
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vitcli.core.errors import DataError
from vitcli.core.files import replacing
from vitcli.data.raw import Labels

_IN_MEMORY = 2**30
"""Splits up to this many bytes are read into memory; larger ones stay mapped."""
_STATISTICS_SAMPLE = 10_000
_STATISTICS_CHUNK = 256
_CONSTANT = 1e-6
"""Deviations up to this are rounding."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedSplit:
    """Images of one shape, uint8 (N, C, H, W), and their labels, int64 (N,)."""

    images: Tensor
    labels: Tensor

    def take(self, members: NDArray[np.int64]) -> "PreparedSplit":
        """Some of the images, in the order given."""
        chosen = torch.from_numpy(members)
        return PreparedSplit(images=self.images[chosen], labels=self.labels[chosen])


def write_split(path: Path, images: Iterable[NDArray[np.uint8]], labels: Labels, image_shape: Sequence[int]) -> None:
    """Write one split atomically.

    Args:
        path: the file.
        images: chunks of images, each (n, C, H, W), as many in all as there are labels.
        labels: int64, (N,).
        image_shape: C, H, W.
    """
    pixels = len(labels) * int(np.prod(image_shape))
    header = json.dumps(
        {
            "labels": {"dtype": "I64", "shape": [len(labels)], "data_offsets": [0, labels.nbytes]},
            "images": {
                "dtype": "U8",
                "shape": [len(labels), *image_shape],
                "data_offsets": [labels.nbytes, labels.nbytes + pixels],
            },
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.write(np.ascontiguousarray(labels, dtype="<i8").tobytes())
        written = sum(file.write(np.ascontiguousarray(chunk).data) for chunk in images)
        assert written == pixels, f"{written} bytes of images written, not {pixels}"


def read_split(path: Path) -> PreparedSplit:
    """Open a split: in memory when it is small, else memory-mapped.

    Raises:
        DataError: the file is damaged.
    """
    try:
        tensors = load_file(path)
        images, labels = tensors["images"], tensors["labels"]
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path} is damaged: {error}", hint=f"remove {path.parent} and try again") from None
    return PreparedSplit(images=images.clone() if images.numel() <= _IN_MEMORY else images, labels=labels.clone())


def channel_statistics(images: Tensor, members: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, for pixels in 0..1, of at most 10,000 images evenly spread.

    Args:
        images: uint8, (N, C, H, W).
        members: indices of the images that count.

    Returns:
        Two tuples of C numbers; a constant channel has the deviation 1.
    """
    every = math.ceil(len(members) / _STATISTICS_SAMPLE)
    sums = torch.zeros(2, images.shape[1], dtype=torch.float64)  # of pixels and of their squares
    sample = torch.from_numpy(members[::every])
    for indices in sample.split(_STATISTICS_CHUNK):
        pixels = images[indices].double().div(255)
        sums += torch.stack([pixels.sum(dim=(0, 2, 3)), pixels.square().sum(dim=(0, 2, 3))])
    mean, square = sums / (len(sample) * images[0, 0].numel())
    deviation = (square - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(torch.where(deviation > _CONSTANT, deviation, 1.0).tolist())
