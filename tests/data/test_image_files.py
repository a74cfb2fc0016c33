"""Files as cameras and programs write them: alike in training and prediction, at whatever scale they are decoded."""

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from tests.conftest import naming
from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.core.preprocessing import Geometry
from vitcli.data.dataset import open_dataset
from vitcli.data.decoding import decoded, read_header
from vitcli.data.preprocess import _scale_of, crop_box, load_array, to_array

Pixels = NDArray[np.uint8]
SMALL = Geometry(size=(12, 16), channels=3, resize="squash")
LEVELS, MEAN = 4, 1.5
"""How far a smooth JPEG decoded at a reduced scale may be from one decoded in full.

Both are means of the same pixels as long as there is nothing finer than the scale. What remains is rounding: of the
decoder's colours (1.5), of the resampling (0.5), and of the blocks' coefficients (about 2 at a quality of 95 without
subsampled colours).
"""
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> from the upright image to the one that a camera stores."""


@cache
def scene(height: int, width: int) -> Pixels:
    """A smooth picture without any symmetry, (height, width, 3)."""
    y, x = (np.mgrid[0:height, 0:width] + 0.5) / np.array([height, width])[:, None, None]
    waves = [np.sin(2 * np.pi * (1.3 * x + 0.3 * y) + k) * np.cos(2 * np.pi * 1.4 * y + k) for k in range(3)]
    return (127.5 + 110 * np.stack(waves, axis=-1)).round().astype(np.uint8)


def save_turned(path: Path, upright: Image.Image, orientation: int) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    turn = STORED[orientation]
    (upright if turn is None else upright.transpose(turn)).save(path, quality=95, subsampling=0, exif=exif)
    return path


def seen_upright(path: Path, geometry: Geometry) -> tuple[Image.Image, tuple[float, float, float, float]]:
    """What is decoded of a file for a geometry."""
    with decoded(path, partial(_scale_of, geometry=geometry)) as found:
        return found


def assert_close(ours: Pixels, expected: Pixels, levels: float = LEVELS, mean: float = MEAN) -> None:
    difference = np.abs(ours.astype(int) - expected.astype(int))
    assert difference.max() <= levels
    assert difference.mean() <= mean


# every kind of file

SCENE = scene(60, 80)
ALPHA = np.linspace(0, 255, 80).round().astype(np.uint8)[None].repeat(60, axis=0)
GREY = SCENE[..., 0]


def on_white(pixels: Pixels) -> Pixels:
    share = ALPHA[..., None] / 255
    return (pixels * share + 255 * (1 - share)).round().astype(np.uint8)


def rgb(grey: Pixels) -> Pixels:
    return np.stack([grey] * 3, axis=-1)


def save_palette(path: Path) -> Pixels:
    indices = (GREY // 64).astype(np.uint8)
    colours = np.array([[10, 200, 30], [250, 0, 0], [40, 40, 200], [90, 90, 90]], dtype=np.uint8)
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette(colours.ravel().tolist())
    image.save(path, transparency=2)
    return np.where((indices == 2)[..., None], 255, colours[indices]).astype(np.uint8)


def save_plain(pixels: Pixels, expected: Pixels, **options: object) -> Callable[[Path], Pixels]:
    def save(path: Path) -> Pixels:
        Image.fromarray(pixels).save(path, **options)  # type: ignore[arg-type]
        return expected

    return save


def save_one_bit(path: Path) -> Pixels:
    Image.fromarray(GREY > 127).save(path)
    return rgb(np.where(GREY > 127, 255, 0).astype(np.uint8))


def save_cmyk(path: Path) -> Pixels:
    Image.fromarray(SCENE).convert("CMYK").save(path, quality=95, subsampling=0)
    return SCENE


def save_animated(path: Path) -> Pixels:
    frames = [Image.fromarray(rgb(np.where(level < GREY, 255, 0).astype(np.uint8))) for level in (90, 150, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    return np.asarray(frames[0])


def save_several(path: Path) -> Pixels:
    """What many phones call JPEG: the photo, and a preview in the same file."""
    Image.fromarray(SCENE).save(
        path, "MPO", save_all=True, append_images=[Image.new("RGB", (80, 60))], quality=95, subsampling=0
    )
    return SCENE


ZOO: dict[str, Callable[[Path], Pixels]] = {
    "grey.png": save_plain(GREY, rgb(GREY)),
    "grey-alpha.png": save_plain(np.stack([GREY, ALPHA], axis=-1), on_white(rgb(GREY))),
    "alpha.png": save_plain(np.concatenate([SCENE, ALPHA[..., None]], axis=-1), on_white(SCENE)),
    "alpha.webp": save_plain(
        np.concatenate([SCENE, ALPHA[..., None]], axis=-1), on_white(SCENE), lossless=True, exact=True
    ),
    "palette.png": save_palette,
    "palette.gif": save_palette,
    "cmyk.jpg": save_cmyk,
    "16-bit.png": save_plain(GREY.astype(np.uint16) * 257, rgb(GREY)),  # type: ignore[arg-type]
    "1-bit.png": save_one_bit,
    "grey.jpg": save_plain(GREY, rgb(GREY), quality=95, subsampling=0),
    "colour.jpg": save_plain(SCENE, SCENE, quality=95, subsampling=0),
    "progressive.jpg": save_plain(SCENE, SCENE, quality=95, subsampling=0, progressive=True),
    "colour.bmp": save_plain(SCENE, SCENE),
    "colour.tiff": save_plain(SCENE, SCENE, compression="tiff_lzw"),
    "animated.gif": save_animated,
    "animated.webp": save_animated,
    "phone.jpg": save_several,
}


def test_every_kind_of_file_becomes_its_colours_on_white(tmp_path: Path) -> None:
    for name, save in ZOO.items():
        expected = Image.fromarray(save(tmp_path / name))
        tolerance = (LEVELS, MEAN) if name.endswith("jpg") else (1.0, 0.5)
        for geometry in (SMALL, Geometry(size=(40, 30), channels=3, crop_fraction=0.9)):
            with naming(name, geometry):
                assert_close(load_array(tmp_path / name, geometry), to_array(expected, geometry), *tolerance)
                grey = replace(geometry, channels=1)
                assert_close(load_array(tmp_path / name, grey), to_array(expected.convert("L"), grey), *tolerance)


@pytest.mark.parametrize("mode", ["disk", "ram", "off"])
def test_every_kind_of_file_is_prepared_as_it_is_predicted(tmp_path: Path, mode: str) -> None:
    for folder in ("a", "b"):
        (tmp_path / "zoo" / folder).mkdir(parents=True)
        for name, save in ZOO.items():
            save(tmp_path / "zoo" / folder / name)
    save_turned(tmp_path / "zoo" / "a" / "turned.jpg", Image.fromarray(scene(61, 83)), 6)
    config = DataConfig(name=str(tmp_path / "zoo"), cache=mode)  # type: ignore[arg-type]
    dataset = open_dataset(config, directory=tmp_path / "data")
    split = dataset.split("train", SMALL)
    images = split.images[np.arange(len(split.labels))]  # type: ignore[index]
    for image, name in zip(images, dataset.names("train"), strict=True):
        assert np.array_equal(image.numpy(), load_array(tmp_path / "zoo" / str(name), SMALL))


# JPEG at a reduced scale


@pytest.mark.parametrize("size", [(257, 131), (640, 480), (403, 809)])
def test_a_large_jpeg_is_what_it_would_be_if_all_of_it_were_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    upright = Image.fromarray(scene(*size))
    paths = [save_turned(tmp_path / f"{orientation}.jpg", upright, orientation) for orientation in STORED]
    for geometry in (
        Geometry(size=(16, 16), channels=3),
        Geometry(size=(50, 40), channels=3, crop_fraction=0.9),
        Geometry(size=(31, 63), channels=3, resize="squash"),
    ):
        expected = to_array(upright, geometry)
        for path in paths:
            with naming(path.name, geometry):
                assert seen_upright(path, geometry)[0].width < upright.width
                assert read_header(path) == (size, False)
                assert_close(load_array(path, geometry), expected)


@given(
    size=st.tuples(st.integers(8, 900), st.integers(8, 900)),
    target=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    fraction=st.just(1.0) | st.floats(0.2, 1),
    resize=st.sampled_from(["crop", "squash", "squash-crop"]),
    orientation=st.integers(1, 8),
)
@example(size=(9, 8), target=(1, 1), fraction=1.0, resize="crop", orientation=1)
@example(size=(100, 100), target=(10, 10), fraction=0.794, resize="crop", orientation=1)
@example(size=(257, 129), target=(16, 16), fraction=1.0, resize="crop", orientation=1)
@example(size=(640, 480), target=(80, 60), fraction=1.0, resize="crop", orientation=6)
@example(size=(640, 480), target=(81, 60), fraction=1.0, resize="squash", orientation=1)
def test_a_jpeg_is_never_decoded_smaller_than_what_it_becomes(
    tmp_path_factory: pytest.TempPathFactory,
    size: tuple[int, int],
    target: tuple[int, int],
    fraction: float,
    resize: str,
    orientation: int,
) -> None:
    geometry = Geometry(
        size=target,
        channels=3,
        crop_fraction=fraction,
        resize=resize,  # type: ignore[arg-type]
    )
    path = tmp_path_factory.getbasetemp() / "black.jpg"
    save_turned(path, Image.new("RGB", size[::-1]), orientation)
    image, _ = seen_upright(path, geometry)
    if image.size == size[::-1]:
        return
    (scale,) = [
        scale for scale in (2, 4, 8) if (image.height, image.width) == (-(-size[0] // scale), -(-size[1] // scale))
    ]
    left, top, right, bottom = crop_box((size[0] / scale, size[1] / scale), geometry)  # without what is padding
    assert right - left >= target[1] - 1e-6
    assert bottom - top >= target[0] - 1e-6
    assert load_array(path, geometry).shape == (3, *target)


def test_a_jpeg_is_decoded_at_the_least_scale_that_is_enough(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 1200)).save(tmp_path / "photo.jpg")
    for side, width in ((100, 200), (150, 200), (151, 400), (301, 800), (601, 1600), (2000, 1600)):
        assert seen_upright(tmp_path / "photo.jpg", Geometry(size=(side, side), channels=3))[0].width == width


# EXIF


def odd_exif(orientation: int) -> bytes:
    """An EXIF block whose resolution is text, where a number belongs."""
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0) + struct.pack(">HHI4s", 0x011A, 2, 4, b"abc\0")
    return b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 2) + entries + struct.pack(">I", 0)


def test_a_photo_whose_exif_data_are_odd_is_read_and_turned(tmp_path: Path) -> None:
    upright = Image.fromarray(scene(60, 80))
    upright.transpose(Image.Transpose.ROTATE_90).save(
        tmp_path / "photo.jpg", exif=odd_exif(6), quality=95, subsampling=0
    )
    with Image.open(tmp_path / "photo.jpg") as image, pytest.raises((TypeError, struct.error)):
        ImageOps.exif_transpose(image)
    assert read_header(tmp_path / "photo.jpg") == ((60, 80), False)
    assert_close(load_array(tmp_path / "photo.jpg", SMALL), to_array(upright, SMALL))


def test_an_orientation_that_means_nothing_turns_nothing(tmp_path: Path) -> None:
    for orientation in (0, 9, 65535):
        path = tmp_path / f"{orientation}.jpg"
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        Image.fromarray(SCENE).save(path, exif=exif, quality=95, subsampling=0)
        with naming(orientation):
            assert_close(load_array(path, SMALL), to_array(Image.fromarray(SCENE), SMALL))


# files that are refused


def png_of(width: int, height: int) -> bytes:
    """The beginning of a PNG that says it is so large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    beginning = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return beginning + struct.pack(">I", 10) + b"IDAT" + bytes(14)


def jpeg_of(path: Path, width: int, height: int) -> bytes:
    Image.new("RGB", (16, 16)).save(path)
    content = path.read_bytes()
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + struct.pack(">HH", height, width) + content[at + 4 :]


def test_an_image_that_would_fill_the_memory_is_refused_by_name(tmp_path: Path) -> None:
    png, jpeg = tmp_path / "bomb.png", tmp_path / "bomb.jpg"
    png.write_bytes(png_of(40_000, 40_000))
    jpeg.write_bytes(jpeg_of(jpeg, 65_000, 65_000))
    for path, read in product((png, jpeg), (read_header, lambda path: load_array(path, SMALL))):
        with naming(path.name, read):
            with pytest.raises(DataError, match=r"claims [14],\d+ megapixels in \d+ bytes") as refusal:
                read(path)
            assert str(path) in refusal.value.message


@given(
    name=st.sampled_from(
        ["colour.jpg", "phone.jpg", "palette.png", "animated.gif", "colour.tiff", "alpha.webp", "colour.bmp"]
    ),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=6),
    share=st.just(1.0) | st.floats(0, 1),
)
def test_damage_of_any_kind_is_a_data_error_or_none(
    tmp_path_factory: pytest.TempPathFactory, name: str, places: list[tuple[float, int]], share: float
) -> None:
    path = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    ZOO[name](path)
    content = bytearray(path.read_bytes())
    for where, value in places:
        content[int(where**3 * len(content))] = value  # most of them in the header
    path.write_bytes(content[: int(share * len(content))])
    for read in (read_header, lambda path: load_array(path, SMALL)):
        try:
            read(path)
        except DataError as error:
            assert path.name in error.message  # noqa: PT017 - none is fine, too
