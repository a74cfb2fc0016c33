"""Weights on this machine: fetched when they are needed, by one process at a time."""

from contextlib import nullcontext
from pathlib import Path

from vitcli.core.addresses import without_secrets
from vitcli.core.events import Emit, ignore
from vitcli.data.locks import only_one
from vitcli.data.store import weights_dir
from vitcli.models.hub import fetch_weights, file_of, find_weights
from vitcli.models.pretrained import PretrainedEntry


def fetched_weights(entry: PretrainedEntry, *, offline: bool = False, emit: Emit = ignore) -> Path:
    """Return the file of weights; if it is not here, one process fetches it and others wait.

    Args:
        entry: where the weights are; the client of the hub has a lock of its own.
        offline: do not download anything.
        emit: receives the progress.

    Raises:
        ModelError, DataError: as ``fetch_weights``.
    """
    folder = weights_dir()
    is_shared = entry.url and not offline and find_weights(entry, folder) is None
    what = f"fetching {without_secrets(entry.url)}"
    with only_one(file_of(entry, folder), what, emit) if is_shared else nullcontext():
        return fetch_weights(entry, folder, offline=offline, emit=emit)
