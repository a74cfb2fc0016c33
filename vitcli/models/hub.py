"""Download of weights: from the Hugging Face hub with its own client and cache, or from a web address."""

import hashlib
import json
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from zipfile import is_zipfile

from vitcli.core.addresses import CHECK_CONNECTION, unreachable, without_secrets, without_signature
from vitcli.core.errors import DataError, ModelError, UsageError, some
from vitcli.core.events import Emit, Note, ignore
from vitcli.core.fetch import Megabytes, fetch_file, file_hash
from vitcli.core.stored import read_json
from vitcli.core.words import UNKNOWN_LICENCE
from vitcli.models.pretrained import PRETRAINED, PretrainedEntry, Traits

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin", "model.pth", "model_final.pt")
"""Usual names of the file of weights in a folder or repository, in the order in which they are tried."""
INDEX_FILES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""Names of the index of a model that is cut into several files, which are called shards."""
_SHA256_DIGITS = 64
_BEST = "best.safetensors"
"""Name of the best checkpoint in the folder of a run's checkpoints."""
_SIDECARS = ("config.json", "preprocessor_config.json")

_HUB_NAME = re.compile(r"hf:(?P<hub>\w[\w.-]*/\w[\w.-]*?)(@(?P<revision>[\w./-]+))?")
_HASH_IN_NAME = re.compile(r"-(?=\d*[a-f])([0-9a-f]{8,64})\.\w+$")
"""A hash at the end of a file name, as in PyTorch's own files; digits alone may be a date, so a letter is required."""


def find_pretrained(name: str) -> PretrainedEntry | None:
    """Find weights by name: one of the table, ``hf:OWNER/NAME[@REVISION]`` or a web address; None: neither of these.

    Raises:
        UsageError: the name begins like a repository or a web address, but is not valid.
    """
    if name in PRETRAINED:
        return PRETRAINED[name]
    where: dict[str, str]
    if name.startswith("hf:"):
        found = _HUB_NAME.fullmatch(name)
        if not found or ".." in name or "--" in name:
            raise UsageError(f"{name!r} is not a repository", hint="expected: hf:OWNER/NAME, or hf:OWNER/NAME@REVISION")
        where = {"hub": found["hub"], "file": "", "revision": found["revision"] or "main"}
    elif name.startswith(("https://", "http://")):
        try:
            path = urlsplit(name).path
        except ValueError:
            path = ""
        if path.endswith("/") or not path.isascii() or not path:
            raise UsageError(f"{name!r} is not an address of a file", hint="expected: https://HOST/FOLDER/FILE")
        in_name = _HASH_IN_NAME.search(path)
        where = {"url": name, "sha256": in_name[1] if in_name else ""}
    else:
        return None
    return PretrainedEntry(
        model="", summary="", licence=UNKNOWN_LICENCE, parameters=0, top1=None, traits=Traits(), **where
    )


def weights_in(folder: Path) -> Path:
    """Find the file of weights in a folder that timm or transformers wrote, or in a folder of checkpoints.

    Raises:
        ModelError: the folder has no such file.
    """
    usual = [folder / name for name in (*WEIGHT_FILES, *INDEX_FILES, _BEST) if (folder / name).is_file()]
    files = usual or sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"no weights in {folder}", hint=f"expected one of: {', '.join(WEIGHT_FILES)}")
    if not usual and len(files) > 1:
        names = some([file.name for file in files])
        raise ModelError(f"{folder} has {len(files):,} files of weights: {names}", hint=f"name one of them: {files[0]}")
    return files[0]


def fetch_weights(entry: PretrainedEntry, folder: Path, *, offline: bool = False, emit: Emit = ignore) -> Path:
    """Return the file of weights; download and verify it if it is not on this machine.

    Args:
        entry: where the weights are.
        folder: the folder for weights from web addresses; the hub's client has its own cache.
        offline: do not download anything; ``HF_HUB_OFFLINE=1`` has the same effect.
        emit: receives the progress, in megabytes.

    Raises:
        ModelError: the weights are not here and must not be downloaded; or the hub lacks them, or sent another file.
        DataError: the download failed; an incomplete file is never left in place.
    """
    found, name = find_weights(entry, folder), entry.hub or without_secrets(entry.url)
    offline = offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    if found:
        if entry.url and found != file_of(entry, folder):
            emit(Note(text=f"{name} is {found}: the only file that was fetched from there, by a longer address"))
        if entry.hub and not (offline or entry.traits.is_listed):
            _complete(entry, found.parent.name)
        return found
    if offline:
        raise ModelError(f"{name} is not on this machine, and it must not be fetched (offline)", hint=_ONLINE)
    if entry.url:
        path = file_of(entry, folder)
        fetch_file(entry.url, path, sha256=entry.sha256, check=_refuse_other_files, emit=emit)
        return path
    return _fetch_from_hub(entry, emit)


def find_weights(entry: PretrainedEntry, folder: Path) -> Path | None:
    """Return the file of weights if it is on this machine, else None."""
    if entry.url:
        path = file_of(entry, folder)
        if not path.is_file() and "?" not in entry.url:  # as a run remembers an address that asks for something
            below = list(path.parent.glob(f"*/{path.name}"))
            return below[0] if len(below) == 1 else None
        return path if path.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    for file in _names(entry):
        cached = try_to_load_from_cache(entry.hub, file, revision=entry.revision)
        if isinstance(cached, str):
            path = Path(cached)
            return path if file not in INDEX_FILES or all(each.is_file() for each in shards_of(path)) else None
    return None


def _names(entry: PretrainedEntry) -> tuple[str, ...]:
    return (entry.file,) if entry.file else (*WEIGHT_FILES, *INDEX_FILES)


def shards_of(index: Path) -> list[Path]:
    """List the files that an index of shards names, in its folder.

    Raises:
        ModelError: the file is not an index of shards.
    """
    try:
        names = read_json(index)["weight_map"].values()
        return [index.with_name(name) for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{index} is not an index of shards", hint="download the model again") from None


_ONLINE = "leave out --offline, or unset HF_HUB_OFFLINE"


def file_of(entry: PretrainedEntry, folder: Path) -> Path:
    """Return the path for a web address; files with one name from different addresses get different paths.

    What an address asks for names a folder below that of the address without it, by which runs remember it.
    """
    plain, asked = without_secrets(entry.url), without_signature(entry.url)
    name = re.sub(r"[^\w.+-]", "_", unquote(urlsplit(entry.url).path).rpartition("/")[2])
    place = folder / _digest(plain) / (_digest(asked) if asked != plain else "")
    return place / (name if name.strip(".") else "weights")


def _digest(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:12]


def _refuse_other_files(path: Path) -> None:
    """Raise DataError if a file that arrived is no file of weights, or not a whole one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(64)
        length = int.from_bytes(start[:8], "little")
        is_safetensors = start[8:9] == b"{" and length < size
        file.seek(8)
        header = file.read(length) if is_safetensors else b""
    if not (is_safetensors or start.startswith((b"PK", b"\x80"))):
        looks = (
            "a web page" if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")) else repr(start[:20])
        )
        raise DataError(f"it sent no file of weights, but {looks}", hint="check the address; nothing was kept")
    if not (_end_of_tensors(header) == size if is_safetensors else start.startswith(b"\x80") or is_zipfile(path)):
        raise DataError("it sent only a part of a file of weights", hint="try again later; nothing was kept")


def _end_of_tensors(header: bytes) -> int:
    """Compute the size of a safetensors file from its header; -1: the header is none."""
    try:
        entries = [entry for name, entry in json.loads(header).items() if name != "__metadata__"]
        return 8 + len(header) + max((int(entry["data_offsets"][1]) for entry in entries), default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return -1


def _fetch_from_hub(entry: PretrainedEntry, emit: Emit) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries do not interest users
    transport_error: Any = HfHubHTTPError.__bases__[0]  # its HTTP library depends on the release
    where = f"{entry.hub} on the hub"
    try:
        # The metadata come first, because without a network this call does not retry for half a minute.
        for file in _names(entry):
            try:
                metadata = get_hf_file_metadata(hf_hub_url(entry.hub, file, revision=entry.revision))
                break
            except EntryNotFoundError:
                if file == _names(entry)[-1]:
                    raise
        for sidecar in _SIDECARS:  # before the weights, so that these are never without sidecars
            _fetch_if_there(entry, sidecar, metadata.commit_hash)
        path = _download(entry, file, metadata.etag, entry.revision, emit)
        for shard in shards_of(path) if file in INDEX_FILES else ():
            _download(entry, shard.name, None, metadata.commit_hash, emit)
    except GatedRepoError:
        raise ModelError(f"{where} needs an account that accepted its terms", hint="`hf auth login`") from None
    except LocalEntryNotFoundError as error:  # despite its name: the network failed
        raise _not_fetched(where, error) from None
    except (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError) as error:
        raise ModelError(
            f"{where} has no {' or '.join(_names(entry))} at {entry.revision}: {_first_line(error)}",
            hint="check the name; `vit download` lists weights that are known",
        ) from None
    except (OSError, transport_error) as error:
        raise _not_fetched(where, error) from None
    return path


def _download(entry: PretrainedEntry, file: str, etag: str | None, revision: str | None, emit: Emit) -> Path:
    """Download one file, and compare it with its hash; a file without one is a small file of text."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    if etag is None:
        etag = get_hf_file_metadata(hf_hub_url(entry.hub, file, revision=revision)).etag
    progress = Megabytes(f"fetching {entry.hub}" + (f", {file}" if "-of-" in file else ""), emit)
    path = Path(hf_hub_download(entry.hub, file, revision=revision, tqdm_class=_reporting(progress)))
    expected = entry.sha256 or (etag if etag and len(etag) == _SHA256_DIGITS else "")
    found = file_hash(path)
    if not found.startswith(expected):
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise ModelError(f"{entry.hub} on the hub sent another file than expected: its hash is {found}, not {expected}")
    return path


def _fetch_if_there(entry: PretrainedEntry, file: str, revision: str | None) -> None:
    """Download a file with facts about the weights, if the repository has it."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        hf_hub_download(entry.hub, file, revision=revision)
    except EntryNotFoundError:
        return


def _complete(entry: PretrainedEntry, commit: str) -> None:
    """Fetch the facts beside weights that another program has fetched without them, if there is a network."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    transport_error: Any = HfHubHTTPError.__bases__[0]
    try:
        for sidecar in _SIDECARS:
            if try_to_load_from_cache(entry.hub, sidecar, revision=commit) is None:  # not even known to be missing
                with suppress(EntryNotFoundError):
                    get_hf_file_metadata(hf_hub_url(entry.hub, sidecar, revision=commit))  # does not retry
                _fetch_if_there(entry, sidecar, commit)
    except (OSError, transport_error):  # what is not known is guessed then, and said to be
        return


def _not_fetched(where: str, error: BaseException) -> ModelError:
    from huggingface_hub.constants import ENDPOINT

    answer = getattr(error, "response", None)
    said = unreachable(ENDPOINT, error) if answer is None else f"{ENDPOINT} answers {answer.status_code}"
    return ModelError(f"{said} for {where}", hint=f"{CHECK_CONNECTION}. HF_ENDPOINT names a mirror")


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _reporting(report: Megabytes) -> type[Any]:
    """Return a progress bar class for the hub's client that reports its progress and draws nothing."""
    from tqdm import tqdm

    class Reporting(tqdm):  # type: ignore[type-arg, misc, unused-ignore]
        """A progress bar that counts bytes."""

        def __init__(self, *args: Any, **options: Any) -> None:
            options.pop("name", None)  # older clients pass the name of a group of bars
            self._nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - closed with the bar
            super().__init__(*args, **{**options, "file": self._nowhere, "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            shown: bool | None = super().update(n)
            report(int(self.n), int(self.total or 0))
            return shown

        def close(self) -> None:
            super().close()
            self._nowhere.close()

    return Reporting
