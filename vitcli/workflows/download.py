"""Fetch a data set, so that training can start at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vitcli.core.events import Emit, ignore
from vitcli.data.dataset import open_dataset
from vitcli.data.raw import SplitName
from vitcli.data.registry import DATASETS
from vitcli.data.store import data_dir, is_present, mark_downloaded


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadResult:
    """A data set that is ready for use."""

    name: str
    directory: Path
    was_there: bool
    """Nothing had to be fetched."""
    images: Mapping[SplitName, int]
    """Per split."""
    classes: int


def download(name: str, *, directory: str = "", emit: Emit = ignore) -> DownloadResult:
    """Fetch, verify and prepare a data set of the registry; from now on ``vit train`` takes it by itself.

    Args:
        name: its name.
        directory: where data sets are kept; empty: ``$VIT_DATA_DIR``, else the user's cache folder.
        emit: told about the progress.

    Raises:
        UsageError: no such data set.
        DataError: the download failed; nothing is left behind.
    """
    DATASETS[name]
    chosen = data_dir(directory)
    was_there = is_present(name, chosen)
    dataset = open_dataset(name, directory=chosen, test_fraction=0.5, emit=emit)
    mark_downloaded(name, chosen)
    return DownloadResult(
        name=name,
        directory=chosen,
        was_there=was_there,
        images=dataset.facts.counts,
        classes=len(dataset.facts.classes),
    )
