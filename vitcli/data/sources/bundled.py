"""Data sets without a download: they come with a dependency, or are drawn."""

from pathlib import Path

import numpy as np

from vitcli.core.config import DataConfig
from vitcli.core.events import Emit
from vitcli.data.dataset_entry import DatasetEntry
from vitcli.data.raw import ArraySplit, RawDataset, stratified_split
from vitcli.data.shapes import CLASSES, TEST_SEED, TRAIN_SEED, draw_scenes

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0


def read_digits(_entry: DatasetEntry, _folder: Path, _config: DataConfig, _emit: Emit) -> RawDataset[ArraySplit]:
    """Read scikit-learn's 1,797 handwritten digits, 8 x 8 with 17 grey levels; a fixed 20 % are the test split.

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


def read_shapes(entry: DatasetEntry, _folder: Path, _config: DataConfig, _emit: Emit) -> RawDataset[ArraySplit]:
    """Draw pictures with one shape each, the same in every call, with all classes equally frequent."""

    def drawn(count: int, seed: int) -> ArraySplit:
        scenes = draw_scenes(count, num_objects=1, seed=seed)
        return ArraySplit(images=scenes.images, labels=scenes.labels[:, 0])

    train, test = entry.num_images
    return RawDataset(
        name="shapes",
        classes=CLASSES,
        splits={"train": drawn(train, TRAIN_SEED), "test": drawn(test, TEST_SEED)},
    )
