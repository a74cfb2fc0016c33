"""A balanced choice of a few images, and whole images for people to look at."""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from vitcli.core.errors import DataError
from vitcli.core.preprocessing import Geometry, ValueRange
from vitcli.data.dataset import Dataset
from vitcli.data.decoding import read_header
from vitcli.data.prepare import BAD_IMAGE_HINT
from vitcli.data.preprocess import load_array
from vitcli.data.raw import Labels, SplitName


def spread(labels: Labels, count: int, *, seed: int) -> Labels:
    """Return the indices of ``count`` random images, or of all if there are fewer, with classes as even as possible.

    They are sorted by class. If there are more classes than images wanted, random classes get one image each.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, in random order within each
    kinds = labels[order]
    rank = np.arange(len(kinds)) - np.searchsorted(kinds, kinds)  # how many images of its class come before each image
    turn = random.permutation(int(labels.max(initial=0)) + 1)  # decides which classes get one image more
    chosen = np.sort(np.lexsort((turn[kinds], rank))[:count])
    return order[chosen]


def whole_images(
    dataset: Dataset, split: SplitName, members: Labels, *, longest: int, skip_bad: bool = False
) -> dict[int, NDArray[np.uint8]]:
    """Load images uncropped, each in its own shape, (C, H, W); large images are made smaller.

    Args:
        dataset: the data set.
        split: the split, as found on disk.
        members: indices of the images in that split.
        longest: the largest length of a side, in pixels.
        skip_bad: leave out images that cannot be read.

    Raises:
        DataError: an image cannot be read, and ``skip_bad`` is not set.
    """
    if dataset.raw is None:
        geometry = dataset.facts.native_geometry
        assert geometry is not None
        images = dataset.split(split, geometry, members=members).images[torch.arange(len(members))]
        return dict(zip(members.tolist(), images.numpy(), strict=True))
    found = {}
    for member in members.tolist():
        try:
            file = dataset.raw.splits[split].files[member]
            found[member] = whole_image(file, dataset.facts.channels, longest, dataset.facts.value_range)
        except DataError as error:
            if not skip_bad:
                raise DataError(error.message, hint=BAD_IMAGE_HINT) from None
    return found


def whole_image(
    file: Path, channels: Literal[1, 3], longest: int, value_range: ValueRange | None = None
) -> NDArray[np.uint8]:
    """Load an image uncropped, (C, H, W); a large image is reduced until its longer side has ``longest`` pixels.

    Raises:
        DataError: the image cannot be read.
    """
    (height, width), _ = read_header(file)
    scale = min(longest / max(height, width), 1.0)
    size = max(round(scale * height), 1), max(round(scale * width), 1)
    return load_array(file, Geometry(size=size, channels=channels, resize="squash", value_range=value_range))
