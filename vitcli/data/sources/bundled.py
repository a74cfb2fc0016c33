"""Data sets that come with a dependency: nothing to download."""

from pathlib import Path

import numpy as np

from vitcli.core.config import DataConfig
from vitcli.core.events import Emit
from vitcli.data.raw import ArraySplit, RawDataset, stratified_split
from vitcli.data.registry import DatasetEntry

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0


def read_digits(_entry: DatasetEntry, _folder: Path, _config: DataConfig, _emit: Emit) -> RawDataset[ArraySplit]:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 with 17 grey levels; 20 % are the test split, always the same.

    Source: Alpaydin & Kaynak 1998, "Optical recognition of handwritten digits", UCI machine learning repository.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images[:, None] * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    classes = tuple(str(digit) for digit in range(10))
    train, test = stratified_split(labels, fraction=_TEST_FRACTION, seed=_SPLIT_SEED, classes=classes)
    return RawDataset(
        name="digits",
        classes=classes,
        splits={
            "train": ArraySplit(images=images[train], labels=labels[train]),
            "test": ArraySplit(images=images[test], labels=labels[test]),
        },
    )
