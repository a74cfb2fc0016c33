"""Download of data sets and pretrained weights, so that training can start at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vitcli.core.addresses import without_secrets
from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, counted, did_you_mean, visible
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.importing import importing
from vitcli.data.registry import DATASETS, find_dataset, full_name
from vitcli.data.store import data_dir, is_present, mark_downloaded, weights_dir
from vitcli.models.hub import find_pretrained, find_weights
from vitcli.models.pretrained import PRETRAINED
from vitcli.trained.fetching import fetched_weights

if TYPE_CHECKING:
    from vitcli.data.raw import SplitName


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadResult:
    """A data set that is ready for use."""

    name: str
    directory: Path
    """The folder of all data sets."""
    was_there: bool
    """True if nothing had to be downloaded."""
    images: "Mapping[SplitName, int]"
    """Number of images per split."""
    classes: int

    def __repr__(self) -> str:
        images = ", ".join(f"{count:,} {split}" for split, count in self.images.items())
        return visible(f"<DownloadResult {self.name}: {images}; {counted(self.classes, 'class')}>")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsResult:
    """Pretrained weights that are ready for use."""

    name: str
    path: Path
    """The file of the weights."""
    was_there: bool
    """True if nothing had to be downloaded."""
    licence: str
    model: str
    """The architecture of the weights, or a similar one, by its name in ``vit models``."""

    def __repr__(self) -> str:
        return visible(f"<WeightsResult {self.name}: {self.model}, {self.path}>")


def download(
    name: str, *, directory: str = "", offline: bool = False, emit: Emit = ignore
) -> DownloadResult | WeightsResult:
    """Download and verify a data set, which ``vit train`` then uses by default, or pretrained weights.

    Args:
        name: the name of a data set or its address on Kaggle; or the name of pretrained weights, ``hf:OWNER/NAME``, or
            their address.
        directory: the folder of data sets; empty: ``$VIT_DATA_DIR``, else the user's cache folder.
        offline: download nothing; raise an error if the data set or the weights are not on this machine.
        emit: receives the progress.

    Raises:
        DataError, ModelError: there are no data or weights with this name, or the download failed; if possible, the next
            one resumes it.
    """
    name = full_name(name)
    _check_name(name)
    if entry := find_pretrained(name):
        if directory:
            emit(Warned(text=f"--data-dir is for data sets; weights are in {weights_dir()}"))
        was_there = find_weights(entry, weights_dir()) is not None
        path = fetched_weights(entry, offline=offline, emit=emit)
        return WeightsResult(
            name=without_secrets(name), path=path, was_there=was_there, licence=entry.licence, model=entry.model
        )
    with importing():  # imports torch, after everything that does not need it
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
    """Check that a name belongs to a data set or to pretrained weights."""
    if not find_pretrained(name) and not find_dataset(name):
        near = did_you_mean(name, [*DATASETS, *PRETRAINED])
        raise DataError(
            f"{name!r} is neither a data set nor pretrained weights", hint=f"{near} `vit download` lists all".strip()
        )
