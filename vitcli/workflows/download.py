"""Fetch a data set or pretrained weights, so that training can start at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitcli.core.config import DataConfig
from vitcli.core.errors import UsageError, did_you_mean
from vitcli.core.events import Emit, ignore
from vitcli.core.importing import importing
from vitcli.data.registry import DATASETS, find_dataset, full_name
from vitcli.data.store import data_dir, is_present, mark_downloaded, weights_dir
from vitcli.models.hub import fetch_weights, find_pretrained, find_weights
from vitcli.models.pretrained import PRETRAINED

if TYPE_CHECKING:
    from vitcli.data.raw import SplitName


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadResult:
    """A data set that is ready for use."""

    name: str
    directory: Path
    was_there: bool
    """Nothing had to be fetched."""
    images: "Mapping[SplitName, int]"
    """Per split."""
    classes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsResult:
    """Pretrained weights that are ready for use."""

    name: str
    path: Path
    was_there: bool
    """Nothing had to be fetched."""
    licence: str
    model: str
    """The architecture of ``vit models`` that they are of, or are kin to."""


def download(
    name: str, *, directory: str = "", offline: bool = False, emit: Emit = ignore
) -> DownloadResult | WeightsResult:
    """Fetch and verify what has a name: a data set, which ``vit train`` then takes by itself, or weights.

    Args:
        name: a data set by name or by its address on Kaggle, or pretrained weights by name, ``hf:OWNER/NAME`` or address.
        directory: where data sets are kept; empty: ``$VIT_DATA_DIR``, else the user's cache folder.
        offline: fetch nothing, and only say whether it is there.
        emit: told about the progress.

    Raises:
        UsageError: nothing has that name.
        DataError, ModelError: the download failed; nothing is left behind.
    """
    name = full_name(name)
    _check_name(name)
    if entry := find_pretrained(name):
        was_there = find_weights(entry, weights_dir()) is not None
        path = fetch_weights(entry, weights_dir(), offline=offline, emit=emit)
        return WeightsResult(name=name, path=path, was_there=was_there, licence=entry.licence, model=entry.model)
    with importing():  # torch, after all that does not need it
        from vitcli.data.dataset import open_dataset

    chosen = data_dir(directory)
    was_there = is_present(name, chosen)
    dataset = open_dataset(DataConfig(name=name), directory=chosen, offline=offline, emit=emit)
    mark_downloaded(name, chosen)
    return DownloadResult(
        name=name,
        directory=chosen,
        was_there=was_there,
        images=dataset.facts.counts,
        classes=len(dataset.facts.classes),
    )


def _check_name(name: str) -> None:
    """Refuse what is neither a data set nor weights."""
    if not find_pretrained(name) and not find_dataset(name):
        near = did_you_mean(name, [*DATASETS, *PRETRAINED])
        raise UsageError(f"nothing to download is called {name!r}", hint=f"{near} `vit download` lists all".strip())
