"""The faster decoder gives Pillow's pixels, at every scale that decoding can make smaller."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitcli.core.preprocessing import Geometry
from vitcli.data.jpeg import decode_colours
from vitcli.data.preprocess import load_array

pytest.importorskip("simplejpeg", reason="simplejpeg is an extra")


def photo(path: Path, width: int, height: int) -> Path:
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_scaled_pixels_are_those_of_pillow(tmp_path: Path, scale: int) -> None:
    path = photo(tmp_path / "photo.jpg", 640, 480)
    with Image.open(path) as image:
        ours = decode_colours(path, image, scale=scale)
    with Image.open(path) as image:
        image.draft(None, (640 // scale, 480 // scale))
        assert ours is not None
        np.testing.assert_array_equal(ours, np.asarray(image))


def test_a_size_that_cannot_be_divided_is_left_to_pillow(tmp_path: Path) -> None:
    path = photo(tmp_path / "photo.jpg", 642, 480)
    with Image.open(path) as image:
        assert decode_colours(path, image, scale=4) is None
        assert decode_colours(path, image, scale=2) is not None


@pytest.mark.parametrize("size", [(640, 480), (644, 483), (1288, 966)])
@pytest.mark.parametrize("target", [(48, 64), (120, 160), (300, 400)])
def test_a_photo_is_the_same_with_and_without_the_faster_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], target: tuple[int, int]
) -> None:
    path = photo(tmp_path / "photo.jpg", *size)
    geometry = Geometry(size=target, channels=3)
    fast = load_array(path, geometry)
    monkeypatch.setattr("vitcli.data.jpeg.simplejpeg", None)
    np.testing.assert_array_equal(load_array(path, geometry), fast)
