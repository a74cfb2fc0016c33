"""Data sets that torchvision fetches and verifies."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from vitcli.core.errors import DataError
from vitcli.data.raw import ArraySplit, RawDataset
from vitcli.data.registry import DatasetEntry


def read(entry: DatasetEntry, folder: Path) -> RawDataset[ArraySplit]:
    """Read a data set from ``folder``, where torchvision puts it; what is not there is downloaded and verified.

    The folder appears when everything is in it, and not before.

    Raises:
        DataError: the download failed, or does not have the published checksum.
    """
    from torchvision import datasets

    kind = getattr(datasets, entry.torchvision_class)
    try:
        if not folder.exists():
            _download(kind, folder)
        loaded = {"train": kind(str(folder), train=True), "test": kind(str(folder), train=False)}
    except (OSError, RuntimeError, EOFError) as error:
        raise DataError(
            f"{folder.name} could not be downloaded: {error}",
            hint=f"check the network, then `vit download {folder.name}` again",
        ) from error
    classes = tuple(str(name).split(" - ")[0] for name in loaded["train"].classes)  # MNIST's read "0 - zero"
    return RawDataset(
        name=folder.name,
        classes=classes,
        splits={"train": _array_split(loaded["train"]), "test": _array_split(loaded["test"])},
    )


def _download(kind: Any, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as parent:
        temporary = Path(parent) / folder.name
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for is_train in (True, False):
                kind(str(temporary), train=is_train, download=True)
        temporary.rename(folder)


def _array_split(dataset: Any) -> ArraySplit:
    images = np.asarray(dataset.data)
    channels_last = images if images.ndim == 4 else images[..., None]  # (N, H, W) or (N, H, W, C)
    return ArraySplit(
        images=np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)),
        labels=np.asarray(dataset.targets, dtype=np.int64),
    )
