"""A data set by name or path, prepared once and opened in an instant afterwards."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Emit, Note, TaskProgress, ignore
from vitcli.core.files import write_json
from vitcli.core.preprocessing import Geometry, Size, format_size
from vitcli.core.registry import load_object
from vitcli.data.cache import PreparedSplit, read_split, write_split
from vitcli.data.preprocess import load_array, read_header
from vitcli.data.raw import ArraySplit, FileSplit, Labels, RawDataset, SplitName
from vitcli.data.registry import DATASETS
from vitcli.data.sources import image_folder
from vitcli.data.store import facts_file, named_folder

_SMALL = 64
"""Images of one size up to this many pixels a side are kept as they are."""
_CHUNK = 256
"""Images decoded between two reports of progress."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What there is to know about a data set before its pixels are needed."""

    name: str
    classes: tuple[str, ...]
    channels: Literal[1, 3]
    native_size: Size | None
    """The size of every image, where they share a small one; None for photos."""
    aspect: float
    """Median width over height."""
    counts: dict[SplitName, int]
    fingerprint: str

    @property
    def native_geometry(self) -> Geometry | None:
        """How images of one small size are prepared: as they are; None for photos."""
        if self.native_size is None:
            return None
        return Geometry(size=self.native_size, channels=self.channels, resize="squash")


class Dataset:
    """An opened data set.

    Args:
        facts: what is known about it.
        recipe: what ``vit train`` uses where no recipe is asked for.
        folder: where its prepared images are.
        files: where images are prepared on demand, for the geometry asked for.
    """

    def __init__(
        self, facts: Facts, recipe: str, folder: Path, files: Mapping[SplitName, FileSplit] | None = None
    ) -> None:
        self.facts = facts
        self.recipe = recipe
        self._folder = folder
        self._files = files

    def labels(self, name: SplitName) -> Labels:
        """The labels of a split, (N,), before any image is prepared."""
        if self._files is not None:
            return self._files[name].labels
        assert self.facts.native_geometry is not None
        labels: Labels = read_split(_split_file(self._folder, name, self.facts.native_geometry)).labels.numpy()
        return labels

    def split(
        self,
        name: SplitName,
        geometry: Geometry,
        *,
        members: Labels | None = None,
        workers: int = 0,
        emit: Emit = ignore,
    ) -> PreparedSplit:
        """The images and labels of a split, prepared now if they were not before.

        Args:
            name: train, val or test; it must be in ``facts.counts``.
            geometry: the shape to prepare; data sets of one small size have just that one.
            members: indices of the images wanted, for a few out of many; None: all.
            workers: threads that decode; 0: one per core.
            emit: told about the progress.

        Raises:
            DataError: an image cannot be read; it is named.
        """
        path = _split_file(self._folder, name, geometry)
        if path.exists():
            prepared = read_split(path)
            return prepared if members is None else prepared.take(members)
        if self._files is None:
            self._refuse(path, geometry)
        files = self._files[name]
        if members is not None:
            files = files.take(members)
            path = path.with_stem(f"{path.stem}-{hashlib.sha256(members.tobytes()).hexdigest()[:12]}")
        if not path.exists():
            chunks = _decoded(files.files, geometry, workers=workers, emit=emit, task=f"preparing {name} images")
            write_split(path, chunks, files.labels, (geometry.channels, *geometry.size))
        return read_split(path)

    def _refuse(self, path: Path, geometry: Geometry) -> NoReturn:
        """Say why a split of a data set without files is not there."""
        native = self.facts.native_geometry
        if native != geometry:
            shapes = [f"{format_size(each.size)} x {each.channels}" for each in (native, geometry) if each]
            raise DataError(
                f"{self.facts.name} has images of {' channels, the model was trained on '.join(shapes)}",
                hint="`vit predict` takes images of any size",
            )
        raise DataError(f"{path} is missing", hint=f"remove {self._folder}, then try again")


def canonical_name(name: str) -> str:
    """A registered name as it is; a folder by its whole path, so that it is known from everywhere."""
    return name if name in DATASETS else str(Path(name).expanduser().resolve())


def open_dataset(name: str, *, directory: Path, test_fraction: float, emit: Emit) -> Dataset:
    """A registered data set, fetched if need be, or an image folder.

    Args:
        name: a name of the registry, or the path of a folder.
        directory: where data sets are kept.
        test_fraction: share held out where a folder has no splits.
        emit: told about the progress.

    Raises:
        DataError: the folder cannot be used, or the download failed.
        UsageError: neither a known name nor a folder.
    """
    if name in DATASETS:
        return _open_named(name, directory, emit)
    path = Path(name).expanduser()
    if path.exists() or path.is_absolute() or len(path.parts) > 1:
        return _open_folder(path, directory, test_fraction, emit)
    try:
        DATASETS[name]
    except UsageError as error:
        raise UsageError(f"{name!r} is neither a data set nor a folder", hint=error.hint) from None
    raise AssertionError


def _open_named(name: str, directory: Path, emit: Emit) -> Dataset:
    folder, entry = named_folder(name, directory), DATASETS[name]
    if not facts_file(folder).is_file():
        downloads = directory / "downloads" / name
        if entry.download_mb and not downloads.exists():
            emit(Note(text=f"downloading {name} ({entry.download_mb} MB) to {directory}"))
        raw: RawDataset[ArraySplit] = load_object(entry.source)(entry, downloads)
        _, channels, height, width = raw.splits["train"].images.shape
        facts = Facts(
            name=name,
            classes=raw.classes,
            channels=1 if channels == 1 else 3,
            native_size=(height, width),
            aspect=width / height,
            counts={split: len(arrays.labels) for split, arrays in raw.splits.items()},
            fingerprint=name,
        )
        assert facts.native_geometry is not None
        for split, arrays in raw.splits.items():
            path = _split_file(folder, split, facts.native_geometry)
            write_split(path, [arrays.images], arrays.labels, arrays.images.shape[1:])
        _write_facts(folder, facts)
    return Dataset(_read_facts(folder), entry.recipe, folder)


def _open_folder(path: Path, directory: Path, test_fraction: float, emit: Emit) -> Dataset:
    raw = image_folder.read(path, test_fraction=test_fraction, emit=emit)
    fingerprint = _fingerprint(path, raw)
    folder = directory / "prepared" / f"{raw.name}-{fingerprint[:12]}"
    if not facts_file(folder).is_file():
        _write_facts(folder, _inspect(raw, fingerprint, emit))
    facts = _read_facts(folder)
    return Dataset(facts, "small-images" if facts.native_size else "photos", folder, raw.splits)


def _inspect(raw: RawDataset[FileSplit], fingerprint: str, emit: Emit) -> Facts:
    """Sizes and channels of every image, from the headers alone."""
    files = [file for split in raw.splits.values() for file in split.files]
    headers = []
    for done, file in enumerate(files):
        if done % _CHUNK == 0:
            emit(TaskProgress(task="looking at images", done=done, total=len(files)))
        headers.append(read_header(file))
    emit(TaskProgress(task="looking at images", done=len(files), total=len(files)))
    sizes = {size for size, _ in headers}
    native = sizes.pop() if len(sizes) == 1 and max(next(iter(sizes))) <= _SMALL else None
    return Facts(
        name=raw.name,
        classes=raw.classes,
        channels=1 if all(grey for _, grey in headers) else 3,
        native_size=native,
        aspect=float(np.median([width / height for (height, width), _ in headers])),
        counts={name: len(split.labels) for name, split in raw.splits.items()},
        fingerprint=fingerprint,
    )


def _decoded(
    files: Sequence[Path], geometry: Geometry, *, workers: int, emit: Emit, task: str
) -> Iterator[NDArray[np.uint8]]:
    """The images of files, decoded in parallel, in order, a chunk at a time."""
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        for start in range(0, len(files), _CHUNK):
            emit(TaskProgress(task=task, done=start, total=len(files)))
            chunk = files[start : start + _CHUNK]
            yield np.stack(list(pool.map(lambda file: load_array(file, geometry), chunk)))
    emit(TaskProgress(task=task, done=len(files), total=len(files)))


def _fingerprint(root: Path, raw: RawDataset[FileSplit]) -> str:
    """Of the names, sizes and times of all files, and of the splits they are in."""
    digest = hashlib.sha256(str(root.resolve()).encode())
    for name, split in sorted(raw.splits.items()):
        for file, label in zip(split.files, split.labels, strict=True):
            stat = file.stat()
            digest.update(
                f"{name} {label} {file.relative_to(root)} {stat.st_size} {stat.st_mtime_ns}\n".encode(
                    errors="surrogateescape"
                )
            )
    return digest.hexdigest()


def _split_file(folder: Path, name: SplitName, geometry: Geometry) -> Path:
    height, width = geometry.size
    fraction = f"{geometry.crop_fraction:g}" if geometry.resize == "crop" else ""
    return folder / f"{name}-{height}x{width}x{geometry.channels}-{geometry.resize}{fraction}.safetensors"


def _write_facts(folder: Path, facts: Facts) -> None:
    write_json(facts_file(folder), asdict(facts))


def _read_facts(folder: Path) -> Facts:
    try:
        content = json.loads(facts_file(folder).read_text(encoding="utf-8"))
        size = content.pop("native_size")
        classes = tuple(content.pop("classes"))
        return Facts(**content, classes=classes, native_size=tuple(size) if size else None)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{facts_file(folder)} is broken: {error}", hint=f"remove {folder} and try again") from None
