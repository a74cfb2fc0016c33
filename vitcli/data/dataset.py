"""Data sets opened by name or path: inspected the first time, and opened from stored facts afterwards."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, counted
from vitcli.core.events import Emit, Note, TaskProgress, Warned, ignore
from vitcli.core.files import expanded, explained, write_json
from vitcli.core.preprocessing import Geometry, Size, ValueRange, format_size
from vitcli.core.registry import load_object
from vitcli.core.stored import read_json
from vitcli.data.cache import PreparedSplit, read_split, split_file, write_split
from vitcli.data.decoding import read_header
from vitcli.data.prepare import CHUNK, Preparation, any_readable, mind_bad, prepare
from vitcli.data.raw import ArraySplit, FileSplit, Labels, RawDataset, SplitName, fingerprints
from vitcli.data.registry import find_dataset
from vitcli.data.sources import folder as any_folder
from vitcli.data.sources.image_search import LINKED_FOLDERS, in_words
from vitcli.data.sources.kaggle import check_credentials
from vitcli.data.sources.kaggle_reference import KaggleReference
from vitcli.data.store import as_folder, check_dataset, downloads_folder, facts_file, is_present, make, named_folder
from vitcli.data.value_range import find_value_range, tell_range

_SMALL = 64
"""If all images have the same size, with sides of up to this many pixels, they are not resized."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Facts about a data set that are known before its images are decoded."""

    name: str
    classes: tuple[str, ...]
    channels: Literal[1, 3]
    native_size: Size | None
    """Height and width of all images, if they share one small size; None for photos."""
    aspect: float
    """Median of width / height."""
    short_side: int
    """Median of the shorter side, in pixels."""
    value_range: ValueRange | None = None
    """The values of black and white in images with more than 8 bits; None: there are no such images."""
    counts: dict[SplitName, int]
    """Number of images in each existing split; other splits may be held out of ``train``."""
    fingerprint: str

    @property
    def native_geometry(self) -> Geometry | None:
        """The geometry of images of one small size, which are not resized; None for photos."""
        if self.native_size is None:
            return None
        return Geometry(size=self.native_size, channels=self.channels, resize="squash", value_range=self.value_range)


class Dataset:
    """An opened data set.

    Args:
        facts: the facts about the data set.
        recipe: the recipe that ``vit train`` uses if none is given; empty: chosen by the images and the device.
        folder: the folder of the prepared images.
        raw: the image files, prepared on demand in the requested geometry; None: all images are already prepared.
        how: the settings for preparing images on demand.
    """

    def __init__(
        self,
        facts: Facts,
        recipe: str,
        folder: Path,
        raw: RawDataset[FileSplit] | None = None,
        how: Preparation | None = None,
    ) -> None:
        self.facts = facts
        self.recipe = recipe
        self.raw = raw
        self.folder = folder
        self._how = how or Preparation()
        self._labels: dict[SplitName, Labels] = {}

    def labels(self, name: SplitName) -> Labels:
        """Return the labels of a split, (N,), without preparing any image."""
        if self.raw is not None:
            return self.raw.splits[name].labels
        if name not in self._labels:
            assert self.facts.native_geometry is not None
            path = split_file(self.folder, name, self.facts.native_geometry)
            self._labels[name] = read_split(path, in_memory=False).labels.numpy()
        return self._labels[name]

    def names(self, split: SplitName, members: Labels | None = None) -> list[str] | list[int]:
        """Return the names of a split's images: file names below the folder, or indices if there are no files."""
        chosen = range(self.facts.counts[split]) if members is None else members.tolist()
        if self.raw is None:
            return list(chosen)
        files, root = self.raw.splits[split].files, self.raw.root
        assert root is not None
        above = len(root.parts)
        return ["/".join(files[at].parts[above:]) for at in chosen]  # ten times as fast as relative_to()

    def split(
        self,
        name: SplitName,
        geometry: Geometry,
        *,
        members: Labels | None = None,
        emit: Emit = ignore,
    ) -> PreparedSplit:
        """Return the images and labels of a split, and prepare them first if necessary.

        Args:
            name: train, val or test; it must be in ``facts.counts``.
            geometry: the geometry to prepare; data sets without files have only their native one.
            members: indices of the images to return, for a few out of many; None: all.
            emit: receives the progress.

        Raises:
            DataError: an image cannot be read (the message names it), or the data set does not have this geometry.
        """
        if (found := self.facts.value_range) and not geometry.value_range:
            tell_range(found, emit, why="the model was trained on images with 8 bits per value: ")
            geometry = replace(geometry, value_range=found)
        path = split_file(self.folder, name, geometry)
        files = self.raw.splits[name] if self.raw else None
        prepared = self._read(path, files, geometry)
        if prepared:
            prepared = prepared if members is None else prepared.take(members)
        elif files is None:
            self._refuse(path, geometry)
        else:
            if members is not None:
                files = files.take(members)
                path = path.with_stem(f"{path.stem}-{hashlib.sha256(members.tobytes()).hexdigest()[:12]}")
                prepared = self._read(path, files, geometry)
            prepared = prepared or prepare(files, geometry, path, self._how, name=name, emit=emit)
        self._mind_unreadable(prepared, name, members, emit)
        return prepared

    def _read(self, path: Path, files: FileSplit | None, geometry: Geometry) -> PreparedSplit | None:
        """Read a split that was prepared before; None: it was not, or more of its images can be read by now."""
        if not path.exists():
            return None
        prepared = read_split(path, in_memory={"ram": True, "disk": False}.get(self._how.cache))
        bad = np.flatnonzero(prepared.labels.numpy() < 0)
        return None if files and any_readable(files.take(bad), geometry, self._how.workers) else prepared

    def _mind_unreadable(self, prepared: PreparedSplit, name: SplitName, members: Labels | None, emit: Emit) -> None:
        """Report the unreadable images of a split, which may have been prepared before with other settings."""
        bad = np.flatnonzero(prepared.labels.numpy() < 0)
        if not len(bad):
            return
        names = [str(each) for each in self.names(name, bad if members is None else members[bad])]
        mind_bad(names, len(prepared.labels), skip=self._how.skip_bad, emit=emit)

    def _refuse(self, path: Path, geometry: Geometry) -> NoReturn:
        """Raise the error that says why a split of a data set without files is missing."""
        native = self.facts.native_geometry
        if native != geometry:
            shapes = [
                f"{format_size(each.size)} pixels, {counted(each.channels, 'channel')}"
                for each in (native, geometry)
                if each
            ]
            raise DataError(
                f"{self.facts.name} has images of {shapes[0]}; the model takes images of {shapes[-1]}",
                hint="`vit predict` takes images of any size",
            )
        raise DataError(f"{path} is missing", hint=f"remove {self.folder}, then try again")


def open_dataset(
    config: DataConfig, *, directory: Path, offline: bool = False, labelled: bool = True, emit: Emit = ignore
) -> Dataset:
    """Open a data set by name, downloading it if necessary, or a folder of images.

    Args:
        config: the name or path, and how to read and prepare the images.
        directory: the folder for data sets.
        offline: do not download anything.
        labelled: the images need labels; False: a folder may have any layout.
        emit: receives the progress.

    Raises:
        DataError, UsageError: the name is neither that of a data set nor a folder that can be used, or a download failed.
    """
    make(directory)
    check_dataset(config.name, labels=config.labels)
    if find_dataset(config.name):
        return _open_named(config, directory, offline, emit)
    raw = (any_folder.read if labelled else any_folder.read_images)(expanded(config.name), config, emit)
    return _open_files(raw, config, directory, emit)


def _open_named(config: DataConfig, directory: Path, offline: bool, emit: Emit) -> Dataset:  # noqa: FBT001
    name = config.name
    entry = find_dataset(name)
    assert entry is not None
    folder, downloads = named_folder(name, directory), downloads_folder(name, directory)
    if not _is_complete(folder):
        if not entry.is_bundled and not is_present(name, directory):
            if offline:
                raise DataError(f"{name} is not on this machine, and must not be fetched", hint="leave out --offline")
            if entry.kaggle:
                check_credentials(KaggleReference.parse(entry.kaggle), downloads)
            size = f" ({entry.download_mb:,} MB)" if entry.download_mb else ""
            emit(Note(text=f"downloading {name}{size} to {directory}"))
        raw: RawDataset[Any] = load_object(entry.source)(entry, downloads, config, emit)
        if isinstance(raw.splits["train"], FileSplit):
            try:
                return _open_files(replace(raw, name=name), config, directory, emit, recipe=entry.recipe)
            except FileNotFoundError as error:
                hint = f"remove {downloads}, then `vit download {name}`"
                raise DataError(f"{error.filename} is missing", hint=hint) from None
        _keep_arrays(raw, name, folder)
    return Dataset(_read_facts(folder), entry.recipe, folder)


def _is_complete(folder: Path) -> bool:
    """Tell whether a folder has all prepared splits of images that were in memory."""
    if not facts_file(folder).is_file():
        return False
    facts = _read_facts(folder)
    return all(
        facts.native_geometry and split_file(folder, name, facts.native_geometry).is_file() for name in facts.counts
    )


def _keep_arrays(raw: RawDataset[ArraySplit], name: str, folder: Path) -> None:
    """Write images that are in memory and have one size as prepared splits, without changing them."""
    _, channels, height, width = raw.splits["train"].images.shape
    facts = Facts(
        name=name,
        classes=raw.classes,
        channels=1 if channels == 1 else 3,
        native_size=(height, width),
        aspect=width / height,
        short_side=min(height, width),
        counts={split: len(arrays.labels) for split, arrays in raw.splits.items()},
        fingerprint=name,
    )
    geometry = Geometry(size=(height, width), channels=facts.channels, resize="squash")
    for split, arrays in raw.splits.items():
        write_split(split_file(folder, split, geometry), [arrays.images], arrays.labels, arrays.images.shape[1:])
    write_json(facts_file(folder), asdict(facts))


def _open_files(
    raw: RawDataset[FileSplit], config: DataConfig, directory: Path, emit: Emit, *, recipe: str = ""
) -> Dataset:
    if ignored := {kind: names for kind, names in raw.passed_over.items() if kind != LINKED_FOLDERS}:  # said already
        emit(Warned(text=f"ignored: {in_words(ignored)}"))
    fingerprint, state = fingerprints(raw)
    folder = directory / "prepared" / f"{as_folder(raw.name)}-{state[:12]}"
    how = Preparation(cache=config.cache, workers=config.workers, skip_bad=config.on_bad_image == "skip")
    if not facts_file(folder).is_file():
        facts = _inspect(raw, fingerprint, how, emit)
        try:
            write_json(facts_file(folder), asdict(facts))
        except OSError as error:  # the only cost: every file is inspected again next time
            emit(Warned(text=f"the facts about {raw.name} cannot be stored: {explained(error).message}"))
    else:
        facts = _read_facts(folder)
    if any(config.value_range) and facts.value_range:
        facts = replace(facts, value_range=config.value_range)
    # Names and the fingerprint come from the files as they are now, not from the stored facts.
    facts = replace(facts, name=raw.name, classes=raw.classes, fingerprint=fingerprint)
    return Dataset(facts, recipe, folder, raw, how)


def _inspect(raw: RawDataset[FileSplit], fingerprint: str, how: Preparation, emit: Emit) -> Facts:
    """Collect the facts about image files from their headers, without decoding pixels."""
    files = [file for split in raw.splits.values() for file in split.files]
    headers: list[tuple[Size, bool]] = []
    bad: list[str] = []

    def look(file: Path) -> tuple[Size, bool] | DataError:
        try:
            return read_header(file)
        except DataError as error:
            return error

    with ThreadPoolExecutor(how.workers or os.cpu_count()) as pool:
        for start in range(0, len(files), CHUNK):
            emit(TaskProgress(task="looking at images", done=start, total=len(files)))
            for header in pool.map(look, files[start : start + CHUNK]):
                if isinstance(header, DataError):
                    bad.append(header.message)
                else:
                    headers.append(header)
    emit(TaskProgress(task="looking at images", done=len(files), total=len(files)))
    if bad and not (how.skip_bad and headers):  # what is left out is said where a split is read
        mind_bad(bad, len(files), why=bad[0] if len(bad) == 1 else "", skip=how.skip_bad, emit=emit)
    sizes = {size for size, _ in headers}
    native = sizes.pop() if len(sizes) == 1 and max(next(iter(sizes))) <= _SMALL else None
    return Facts(
        name=raw.name,
        classes=raw.classes,
        channels=1 if all(grey for _, grey in headers) else 3,
        native_size=native,
        aspect=float(np.median([width / height for (height, width), _ in headers])),
        short_side=int(np.median([min(size) for size, _ in headers])),
        value_range=find_value_range(files, workers=how.workers, emit=emit),
        counts={name: len(split.labels) for name, split in raw.splits.items()},
        fingerprint=fingerprint,
    )


def _read_facts(folder: Path) -> Facts:
    try:
        facts: Facts = read_json(facts_file(folder), Facts)
    except ValueError as error:
        raise DataError(f"{facts_file(folder)} is broken: {error}", hint=f"remove {folder} and try again") from None
    return facts
