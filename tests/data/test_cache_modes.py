"""Photos decoded into memory, into a file, or again for every batch: the same images, whichever it is."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.core.events import Event, Note, TaskProgress, Warned
from vitcli.core.preprocessing import Geometry
from vitcli.data import cache, loader, prepare
from vitcli.data.cache import Images, PreparedSplit, channel_statistics
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.loader import Batches

SMALL = Geometry(size=(12, 16), channels=3, crop_fraction=0.9)
MODES = ("auto", "ram", "disk", "off")
COUNT = 21


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that even these few images are prepared in several."""
    monkeypatch.setattr(prepare, "CHUNK", 8)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def photo(path: Path, number: int) -> None:
    random = np.random.default_rng(number)
    height, width = (int(side) for side in random.integers(40, 120, 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path, quality=60)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two classes, all of other sizes; not to be changed."""
    root = tmp_path_factory.mktemp("photos") / "pets"
    for number in range(COUNT):
        photo(root / ("cat" if number % 3 else "dog") / f"{number:02d}.jpg", number)
    return root


def opened(folder: Path, directory: Path, **settings: object) -> Dataset:
    return open_dataset(DataConfig(name=str(folder), **settings), directory=directory)  # type: ignore[arg-type]


def files_below(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


def with_noise(images: Tensor, generator: torch.Generator, *_drawn: object) -> Tensor:
    return images.float() + torch.rand(images.shape, generator=generator)


def all_batches(split: PreparedSplit, members: list[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    batches = Batches(
        split.images,
        split.labels,
        members=None if members is None else torch.tensor(members),
        batch_size=4,
        transform=with_noise,
        device=torch.device("cpu"),
        seed=5,
    )
    yield from batches
    yield from batches.epoch(1)
    yield from batches.epoch(2)


def assert_alike(one: PreparedSplit, other: PreparedSplit, members: list[int] | None = None) -> None:
    pairs = list(zip(all_batches(one, members), all_batches(other, members), strict=True))
    assert len(pairs) > 3
    for (images, labels), (images_again, labels_again) in pairs:
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)


# the four modes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("workers", [1, 3])
def test_every_mode_gives_the_same_batches(photos: Path, tmp_path: Path, mode: str, workers: int) -> None:
    members = np.array([20, 3, 7, 11, 0])
    reference = opened(photos, tmp_path / "reference", cache="ram").split("train", SMALL)
    assert_alike(opened(photos, tmp_path / "data", cache=mode, workers=workers).split("train", SMALL), reference)
    some = opened(photos, tmp_path / "data", cache=mode).split("train", SMALL, members=members)
    assert_alike(some, reference.take(members))


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_no_images_if_asked_for_none(photos: Path, tmp_path: Path, mode: str) -> None:
    """As the share of a process in a batch with fewer images than processes."""
    none = opened(photos, tmp_path / "data", cache=mode).split("train", SMALL).images[torch.arange(0)]
    assert (none.shape, none.dtype) == ((0, 3, 12, 16), torch.uint8)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_gives_the_same_statistics(photos: Path, tmp_path: Path, mode: str) -> None:
    members = np.array([0, 5, 6, 20])
    split = opened(photos, tmp_path / "data", cache=mode).split("train", SMALL)
    reference = opened(photos, tmp_path / "reference", cache="ram").split("train", SMALL)
    assert isinstance(reference.images, Tensor)
    mean, std = channel_statistics(split.images, members)
    pixels = reference.images[members].double() / 255
    assert mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())


@pytest.mark.parametrize(("mode", "writes"), [("auto", True), ("disk", True), ("ram", False), ("off", False)])
def test_a_mode_writes_what_it_says(photos: Path, tmp_path: Path, mode: str, writes: bool) -> None:  # noqa: FBT001
    split = opened(photos, tmp_path / "data", cache=mode).split("train", SMALL)
    list(all_batches(split))
    images = ["train-12x16x3-crop0.9-3.safetensors"] if writes else []
    assert files_below(tmp_path / "data") == ["facts-4.json", *images]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.parametrize(("mode", "is_mapped"), [("auto", False), ("disk", True), ("ram", False)])
def test_what_was_prepared_is_mapped_or_read_into_memory(
    photos: Path,
    tmp_path: Path,
    mode: str,
    is_mapped: bool,  # noqa: FBT001
) -> None:
    opened(photos, tmp_path / "data").split("train", SMALL)
    split = opened(photos, tmp_path / "data", cache=mode).split("train", SMALL)
    maps = Path("/proc/self/maps").read_text()
    assert (str(tmp_path / "data") in maps) is is_mapped
    assert len(split.labels) == COUNT


def test_streaming_reads_no_more_than_it_is_asked_for(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    shutil.copytree(photos, folder)
    events: list[Event] = []
    dataset = opened(folder, tmp_path / "data", cache="off")
    split = dataset.split("train", SMALL, emit=events.append)
    for name in dataset.names("train")[1:]:
        (folder / str(name)).write_bytes(b"")
    assert split.images[torch.tensor([0])].shape == (1, 3, 12, 16)
    assert not [event for event in events if isinstance(event, TaskProgress)]


# what fits where


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with a thousand bytes left."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(10**9, 10**9 - 1000, 1000))


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "_MEMORY_SHARE", 0.0)


def warnings_of(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Warned)]


@pytest.mark.usefixtures("no_room", "no_memory")
@pytest.mark.parametrize("mode", ["auto", "disk", "ram"])
def test_what_fits_nowhere_is_streamed_and_that_is_said(photos: Path, tmp_path: Path, mode: str) -> None:
    events: list[Event] = []
    dataset = opened(photos, tmp_path / "data", cache=mode)
    split = dataset.split("train", SMALL, emit=events.append)
    dataset.split("train", SMALL, members=np.arange(2), emit=events.append)
    (said,) = warnings_of(events)
    assert "decoded train images take 12.1 kB" in said
    assert "1.0 kB are free in" in said
    assert "decoded again in every epoch" in said
    assert "--data-dir" in said
    assert not isinstance(split.images, Tensor)
    assert files_below(tmp_path / "data") == ["facts-4.json"]
    assert_alike(split, opened(photos, tmp_path / "reference", cache="off").split("train", SMALL))


@pytest.mark.usefixtures("no_room")
def test_what_does_not_fit_on_the_disk_goes_into_memory_which_is_said_once(photos: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    dataset = opened(photos, tmp_path / "data")
    split = dataset.split("train", SMALL, emit=events.append)
    dataset.split("train", SMALL, members=np.arange(2), emit=events.append)
    assert isinstance(split.images, Tensor)
    assert warnings_of(events) == []
    (said,) = [event.text for event in events if isinstance(event, Note)]
    assert "they are kept in memory, and decoded again for the next run" in said
    assert files_below(tmp_path / "data") == ["facts-4.json"]


@pytest.mark.usefixtures("no_memory")
def test_what_does_not_fit_into_memory_goes_to_the_disk(photos: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    opened(photos, tmp_path / "data").split("train", SMALL, emit=events.append)
    assert warnings_of(events) == []
    assert len(files_below(tmp_path / "data")) == 2


def test_room_is_left_on_the_disk(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = COUNT * 3 * 12 * 16
    for margin, fits in ((prepare._MARGIN, False), (prepare._MARGIN + 1, True)):
        free = size + margin
        monkeypatch.setattr(shutil, "disk_usage", lambda _path, free=free: Usage(2 * free, free, free))
        directory = tmp_path / str(fits)
        opened(photos, directory).split("train", SMALL)
        assert len(files_below(directory)) == 1 + fits


def test_a_disk_that_refuses_the_images_is_named_and_nothing_stays(photos: Path, tmp_path: Path) -> None:
    """A quota, for example, which does not count as a full disk before one writes."""
    resource = pytest.importorskip("resource")
    dataset = opened(photos, tmp_path / "data")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    try:
        with pytest.raises(DataError, match="cannot be written: File too large") as refusal:
            dataset.split("train", SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "--data-dir" in refusal.value.hint
    assert files_below(tmp_path / "data") == ["facts-4.json"]


def test_what_killed_processes_left_is_removed_and_what_others_write_is_not(photos: Path, tmp_path: Path) -> None:
    dataset = opened(photos, tmp_path / "data")
    (folder,) = (tmp_path / "data" / "prepared").iterdir()
    code = """
import os, sys
from pathlib import Path
from vitcli.core.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    print(temporary, flush=True)
    os.kill(os.getpid(), 9)
"""
    left = []
    for name in ("train-12x16x3-crop0.9-3.safetensors", "val-9x9x3-squash.safetensors"):
        words = [sys.executable, "-c", code, str(folder / name)]
        left.append(Path(subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()))
    assert files_below(folder) == sorted([left[0].name, left[1].name, "facts-4.json"])
    long_ago = time.time() - 2 * 3600
    os.utime(left[0], (long_ago, long_ago))
    dataset.split("train", SMALL)
    assert files_below(folder) == sorted([left[1].name, "facts-4.json", "train-12x16x3-crop0.9-3.safetensors"])


# batches fetched ahead


class Counted:
    """Images that remember which were asked for: number i has all pixels i."""

    device = torch.device("cpu")
    shape = torch.Size((40, 1, 2, 2))

    def __init__(self, bad: int = -1) -> None:
        self.bad = bad
        self.asked: list[list[int]] = []

    def __getitem__(self, indices: Tensor) -> Tensor:
        self.asked.append(indices.tolist())
        if self.bad in indices.tolist():
            raise DataError(f"image {self.bad} cannot be read")
        return indices.to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)

    def numel(self) -> int:
        return self.shape.numel()


def counted_batches(images: Images) -> Batches:
    return Batches(
        images,
        torch.arange(40),
        batch_size=4,
        transform=lambda batch, *_: batch.float(),
        device=torch.device("cpu"),
        seed=1,
    )


def test_batches_fetched_ahead_come_in_order_and_once() -> None:
    images = Counted()
    plain = torch.arange(40, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2).contiguous()
    ahead, at_hand = counted_batches(images), counted_batches(plain)
    for epoch in (1, 2):
        for (first, labels), (second, labels_again) in zip(ahead.epoch(epoch), at_hand.epoch(epoch), strict=True):
            assert torch.equal(first, second)
            assert torch.equal(labels, labels_again)
            assert torch.equal(first[:, 0, 0, 0], labels.float())
    assert sorted(sum(images.asked, [])) == sorted([*range(40)] * 2)  # noqa: RUF017


def test_only_a_few_batches_are_fetched_ahead() -> None:
    images = Counted()
    batches = iter(counted_batches(images))
    next(batches)
    time.sleep(0.1)
    assert 2 <= len(images.asked) <= 1 + loader._AHEAD
    batches.close()  # type: ignore[attr-defined]
    assert len(images.asked) <= 1 + loader._AHEAD


def test_an_image_that_cannot_be_read_ends_the_batches_where_it_stands() -> None:
    seen = []
    with pytest.raises(DataError, match="image 22 cannot be read"):
        seen.extend(labels.tolist() for _, labels in counted_batches(Counted(bad=22)))
    assert sum(seen, []) == list(range(20))  # noqa: RUF017


def test_a_streamed_photo_that_has_become_unreadable_is_named_with_the_hint(photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    shutil.copytree(photos, folder)
    dataset = opened(folder, tmp_path / "data", cache="off")
    bad = folder / str(dataset.names("train")[13])
    bad.write_bytes(bad.read_bytes()[:-200])
    batches = all_batches(dataset.split("train", SMALL))
    for _ in range(3):
        next(batches)
    with pytest.raises(DataError) as refusal:
        next(batches)
    assert str(bad) in refusal.value.message
    assert "--on-bad-image skip" in refusal.value.hint


def test_large_mapped_images_are_fetched_ahead_and_are_the_same(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = opened(photos, tmp_path / "data", cache="disk").split("train", SMALL)
    reference = [(images.clone(), labels.clone()) for images, labels in all_batches(split)]
    monkeypatch.setattr(loader, "_AT_HAND", 0)
    fetched = list(all_batches(split))
    for (images, labels), (images_again, labels_again) in zip(fetched, reference, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_splits_up_to_a_size_are_read_into_memory(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_IN_MEMORY", COUNT * 3 * 12 * 16 - 1)
    split = opened(photos, tmp_path / "data").split("train", SMALL)
    assert str(tmp_path / "data") in Path("/proc/self/maps").read_text()
    assert_alike(split, opened(photos, tmp_path / "data", cache="off").split("train", SMALL))
