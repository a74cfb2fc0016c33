"""Data sets that torchvision fetches and verifies."""

import contextlib
import io
import tempfile
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np

from vitcli.core.errors import DataError
from vitcli.data.raw import ArraySplit, RawDataset, SplitName
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
        loaded = _load(kind, folder)
    except (OSError, RuntimeError, EOFError, ValueError, HTTPException) as error:
        if folder.exists():
            message, first = f"{folder.name} in {folder} is damaged", "remove that folder"
        else:
            message, first = f"{folder.name} could not be downloaded", "check the network"
        reason = " ".join(str(error).split())
        raise DataError(f"{message}: {reason}", hint=f"{first}, then `vit download {folder.name}`") from error
    classes = tuple(str(name).split(" - ")[0] for name in loaded["train"].classes)  # MNIST's read "0 - zero"
    return RawDataset(
        name=folder.name,
        classes=classes,
        splits={name: _array_split(dataset) for name, dataset in loaded.items()},
    )


def _download(kind: Any, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as parent:
        temporary = Path(parent) / folder.name
        _load(kind, temporary)
        temporary.rename(folder)


def _load(kind: Any, folder: Path) -> dict[SplitName, Any]:
    """Both splits; torchvision fetches what is missing, and talks too much."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return {
            "train": kind(str(folder), train=True, download=True),
            "test": kind(str(folder), train=False, download=True),
        }


def _array_split(dataset: Any) -> ArraySplit:
    images = np.asarray(dataset.data)
    channels_last = images if images.ndim == 4 else images[..., None]  # (N, H, W) or (N, H, W, C)
    return ArraySplit(
        images=np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2)),
        labels=np.asarray(dataset.targets, dtype=np.int64),
    )
