"""A few images out of many."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.data.dataset import open_dataset
from vitcli.data.samples import spread, whole_images


@given(
    labels=st.lists(st.integers(0, 6), min_size=1, max_size=60), count=st.integers(1, 70), seed=st.integers(0, 2**31)
)
def test_classes_are_as_even_as_can_be(labels: list[int], count: int, seed: int) -> None:
    array = np.array(labels)
    chosen = spread(array, count, seed=seed)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, len(labels))
    assert (np.diff(array[chosen]) >= 0).all(), "by class"
    there, got = Counter(labels), Counter(array[chosen].tolist())
    most = max(got.values())
    assert all(got[kind] >= min(there[kind], most - 1) for kind in there)


def test_the_seed_decides() -> None:
    labels = np.repeat(np.arange(50), 20)
    first, again, other = (spread(labels, 25, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(labels[first], labels[other]), "of more classes than images, random ones are taken"


def test_large_photos_are_whole_upright_and_smaller(tmp_path: Path) -> None:
    for kind in ("cat", "dog"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        Image.new("RGB", (200, 100), "red").save(tmp_path / "photos" / kind / "turned.jpg", exif=exif)
        Image.new("RGB", (90, 30), "red").save(tmp_path / "photos" / kind / "small.png")
    data = open_dataset(DataConfig(name=str(tmp_path / "photos")), directory=tmp_path / "data")
    found = whole_images(data, "train", np.array([1, 0]), longest=100)
    assert {member: pixels.shape for member, pixels in found.items()} == {1: (3, 100, 50), 0: (3, 30, 90)}
    assert list(tmp_path.rglob("*.safetensors")) == []


def test_small_images_are_as_they_are(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder(tmp_path / "small", {"cat": 3, "dog": 3}, size=(8, 12))
    data = open_dataset(DataConfig(name=str(tmp_path / "small")), directory=tmp_path / "data")
    pixels = whole_images(data, "train", np.array([4]), longest=512)[4]
    assert np.array_equal(pixels[0], np.asarray(Image.open(tmp_path / "small" / "dog" / "001.png")))


def test_digits_come_from_what_is_prepared(tmp_path: Path) -> None:
    data = open_dataset(DataConfig(name="digits"), directory=tmp_path)
    found = whole_images(data, "test", np.array([7, 3]), longest=4)
    assert list(found) == [7, 3]
    assert all(pixels.shape == (1, 8, 8) for pixels in found.values())


def test_unreadable_images_are_an_error_or_left_out(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder(tmp_path / "bad", {"cat": 2, "dog": 2})
    data = open_dataset(DataConfig(name=str(tmp_path / "bad")), directory=tmp_path / "data")
    (tmp_path / "bad" / "cat" / "000.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"000\.png"):
        whole_images(data, "train", np.arange(4), longest=9)
    assert list(whole_images(data, "train", np.arange(4), longest=9, skip_bad=True)) == [1, 2, 3]
