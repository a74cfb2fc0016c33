import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import ExifTags, Image, PngImagePlugin
from timm.data import create_transform
from torchvision.transforms import v2

from tests.conftest import naming
from vitcli.core.errors import DataError
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.budget import reserved
from vitcli.data.decoding import read_header, read_kinds
from vitcli.data.preprocess import InputTransform, crop_box, load_array, to_array

SIDES = st.integers(1, 400)
FRACTIONS = st.just(1.0) | st.floats(0.05, 1)
RGB = Geometry(size=(4, 6), channels=3)
GREY = Geometry(size=(4, 6), channels=1)
COLUMN = Geometry(size=(3, 2), channels=1)

ROUNDING = 3
"""Pillow rounds after the rows, torch after the columns."""


def noise(height, width, channels=3, seed=0):
    """Random pixels, (height, width, channels), or (height, width) for one channel."""
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def channels_first(image):
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


# the crop


def assert_same_but_for_edges(ours, expected):
    """At its edges a crop does not know what lay outside, and the whole image does."""
    difference = np.abs(ours.astype(int) - expected.astype(int))
    assert difference[:, 2:-2, 2:-2].max(initial=0) <= ROUNDING
    assert difference.max() <= 48


def assert_almost_the_same(ours, expected):
    """Noise that is moved by a tenth of a pixel differs by several grey levels."""
    difference = np.abs(ours.astype(int) - expected.astype(int))
    assert np.median(difference) == 0
    assert difference.mean() < 0.5


@given(height=SIDES, width=SIDES, target=st.tuples(SIDES, SIDES), fraction=FRACTIONS)
@example(height=29, width=34, target=(28, 28), fraction=1.0)  # 29 / 28 * 28 > 29
@example(height=60, width=58, target=(28, 28), fraction=1.0)
def test_the_crop_box_lies_inside_the_image(height, width, target, fraction):
    left, top, right, bottom = crop_box((height, width), Geometry(size=target, channels=3, crop_fraction=fraction))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


@given(height=SIDES, width=SIDES, target=st.tuples(SIDES, SIDES), fraction=FRACTIONS)
def test_the_crop_box_is_about_the_centred_share_of_the_largest_box_of_the_right_aspect_ratio(
    height, width, target, fraction
):
    left, top, right, bottom = crop_box((height, width), Geometry(size=target, channels=3, crop_fraction=fraction))
    pixel_width, pixel_height = (right - left) / target[1], (bottom - top) / target[0]  # of the resized image
    assert left + right == pytest.approx(width, abs=1.01 * pixel_width)
    assert top + bottom == pytest.approx(height, abs=1.01 * pixel_height)
    whole = [int(side / fraction + 1e-6) for side in target]
    kept = max((right - left) / width * whole[1] / target[1], (bottom - top) / height * whole[0] / target[0])
    assert kept == pytest.approx(1, rel=1e-6)


def test_the_crop_is_that_of_torchvision():
    sizes = [(75, 100), (101, 64), (67, 131), (240, 181), (32, 33), (396, 858)]
    for size, fraction in product(sizes, [0.875, 0.9, 0.95, 1.0]):
        with naming(size, fraction):
            image = Image.fromarray(noise(*size))
            resized = v2.functional.resize(image, int(32 / fraction + 1e-6), interpolation=v2.InterpolationMode.BICUBIC)
            expected = channels_first(v2.functional.center_crop(resized, [32, 32]))
            ours = to_array(image, Geometry(size=(32, 32), channels=3, crop_fraction=fraction))
            assert_almost_the_same(ours, expected)


def test_the_crop_of_a_rectangle_is_that_of_timm():
    transform = create_transform((3, 24, 36), interpolation="bicubic", crop_pct=0.9, crop_mode="center")
    theirs = v2.Compose(transform.transforms[:2])  # without tensors and normalisation
    for size in [(75, 100), (101, 64), (67, 131)]:
        with naming(size):
            image = Image.fromarray(noise(*size))
            ours = to_array(image, Geometry(size=(24, 36), channels=3, crop_fraction=0.9))
            assert_almost_the_same(ours, channels_first(theirs(image)))


def test_the_crop_after_squashing_is_that_of_timm():
    for target, size in product([(24, 24), (24, 36)], [(75, 100), (101, 64), (67, 131)]):
        with naming(target, size):
            image = Image.fromarray(noise(*size))
            transform = create_transform((3, *target), interpolation="bicubic", crop_pct=0.8, crop_mode="squash")
            theirs = v2.Compose(transform.transforms[:2])
            ours = to_array(image, Geometry(size=target, channels=3, resize="squash-crop", crop_fraction=0.8))
            assert_almost_the_same(ours, channels_first(theirs(image)))


@given(height=SIDES, width=SIDES, fraction=FRACTIONS)
def test_squashing_keeps_the_whole_image(height, width, fraction):
    geometry = Geometry(size=(7, 5), channels=3, resize="squash", crop_fraction=fraction)
    assert crop_box((height, width), geometry) == (0, 0, width, height)


def test_images_whose_largest_crop_is_not_exact_in_floating_point_can_be_cropped():
    for side, other in [(29, 34), (58, 60), (116, 200), (225, 300)]:
        for size in ((side, other), (other, side)):
            with naming(size):
                array = to_array(Image.new("RGB", size, "red"), Geometry(size=(28, 28), channels=3))
                assert array.shape == (3, 28, 28)


@given(
    target=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    margin=st.integers(0, 4),
    is_wide=st.booleans(),
    factor=st.integers(1, 4),
)
def test_cropping_is_resizing_the_whole_image_and_cutting_out_its_centre(target, margin, is_wide, factor):
    (height, width), extra = target, (0, margin) if is_wide else (margin, 0)
    whole = height + 2 * extra[0], width + 2 * extra[1]
    image = Image.fromarray(noise(whole[0] * factor, whole[1] * factor))
    resized = np.asarray(image.resize(whole[::-1], Image.Resampling.BICUBIC))
    expected = resized[extra[0] : extra[0] + height, extra[1] : extra[1] + width]
    ours = to_array(image, Geometry(size=target, channels=3))
    assert_same_but_for_edges(ours, channels_first(expected))


def test_the_crop_fraction_cuts_off_a_margin_all_around():
    for side, margin, factor in [(8, 2, 1), (6, 3, 3), (5, 1, 4)]:
        with naming(side, margin, factor):
            whole = side + 2 * margin
            image = Image.fromarray(noise(whole * factor, whole * factor))
            resized = np.asarray(image.resize((whole, whole), Image.Resampling.BICUBIC))
            expected = channels_first(resized[margin : margin + side, margin : margin + side])
            ours = to_array(image, Geometry(size=(side, side), channels=3, crop_fraction=side / whole))
            assert_same_but_for_edges(ours, expected)


def test_squashing_is_resizing_the_whole_image():
    for size in [(3, 20), (20, 3), (40, 40), (1, 1)]:
        image = Image.fromarray(noise(*size))
        expected = image.resize((6, 4), Image.Resampling.BICUBIC)
        ours = to_array(image, Geometry(size=(4, 6), channels=3, resize="squash", crop_fraction=0.5))
        assert np.abs(ours.astype(int) - channels_first(expected).astype(int)).max() <= ROUNDING, size


def test_an_image_of_the_right_size_is_untouched():
    for channels, resize in product([1, 3], ["crop", "squash"]):
        pixels = noise(5, 7, channels)
        ours = to_array(Image.fromarray(pixels), Geometry(size=(5, 7), channels=channels, resize=resize))
        assert np.array_equal(ours, channels_first(pixels)), (resize, channels)


def test_an_image_of_the_right_size_is_cropped_all_the_same_when_a_share_is_asked_for():
    pixels = noise(8, 8)
    ours = to_array(Image.fromarray(pixels), Geometry(size=(8, 8), channels=3, crop_fraction=0.5))
    assert not np.array_equal(ours, channels_first(pixels))


@given(height=st.integers(1, 60), width=st.integers(1, 60), channels=st.sampled_from([1, 3]))
def test_arrays_have_one_shape_and_can_be_written_to(height, width, channels):
    geometry = Geometry(size=(4, 6), channels=channels, resize="squash")
    array = to_array(Image.fromarray(noise(height, width)), geometry)
    assert array.shape == (channels, 4, 6)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous
    assert array.flags.writeable


# modes


def test_what_is_transparent_becomes_white():
    pixels = noise(4, 6, 4)
    pixels[:2, :, 3], pixels[2:, :3, 3], pixels[2:, 3:, 3] = 0, 255, 128
    ours = to_array(Image.fromarray(pixels), RGB).transpose(1, 2, 0)
    assert (ours[:2] == 255).all()
    assert np.array_equal(ours[2:, :3], pixels[2:, :3, :3])
    half = 255 + (pixels[2:, 3:, :3].astype(float) - 255) * 128 / 255
    np.testing.assert_allclose(ours[2:, 3:], half, atol=1)


def test_transparent_grey_becomes_white():
    pixels = noise(4, 6, 2)
    pixels[..., 1] = [0, 0, 0, 255, 255, 255]
    ours = to_array(Image.fromarray(pixels), GREY)[0]
    assert (ours[:, :3] == 255).all()
    assert np.array_equal(ours[:, 3:], pixels[:, 3:, 0])


def test_a_transparent_colour_of_a_palette_becomes_white(tmp_path):
    image = Image.new("P", (6, 4), 0)
    image.putpalette([0, 0, 0, 200, 200, 200])
    image.paste(1, (3, 0, 6, 4))
    image.save(tmp_path / "image.png", transparency=0)
    for channels in (1, 3):
        ours = load_array(tmp_path / "image.png", Geometry(size=(4, 6), channels=channels))
        assert (ours[:, :, :3] == 255).all(), channels
        assert (ours[:, :, 3:] == 200).all(), channels


def test_a_palette_becomes_its_colours():
    image = Image.new("P", (6, 4), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 2, 6, 4))
    ours = to_array(image, RGB)
    assert (ours[:, :2] == np.array([10, 20, 30])[:, None, None]).all()
    assert (ours[:, 2:] == np.array([200, 100, 50])[:, None, None]).all()


def test_16_bit_grey_is_scaled_and_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 24).round().astype(np.uint16).reshape(4, 6)
    Image.fromarray(values).save(tmp_path / "image.png")
    ours = load_array(tmp_path / "image.png", GREY)[0]
    np.testing.assert_allclose(ours, values / 257, atol=0.51)
    assert (ours.min(), ours.max()) == (0, 255)
    assert len(np.unique(ours)) == 24


def test_dark_16_bit_grey_stays_dark():
    values = np.full((4, 6), 2570, dtype=np.uint16)
    assert (to_array(Image.fromarray(values), GREY) == 10).all()
    assert (to_array(Image.fromarray(values), RGB) == 10).all()


def test_wide_grey_is_scaled_and_not_clipped():
    of_32_bits, shares = np.array([0, 257, 65535], dtype=np.int32), np.array([0, 0.2, 1], dtype=np.float32)
    assert to_array(column(of_32_bits), COLUMN)[0, :, 0].tolist() == [0, 1, 255]
    assert to_array(column(shares), COLUMN)[0, :, 0].tolist() == [0, 51, 255]


def test_values_of_no_known_range_are_refused():
    for values, kind in (([0, 10**6, 2 * 10**6], np.int32), ([-5, 0, 20], np.float32), ([0, np.nan, 1], np.float32)):
        with naming(values), pytest.raises(DataError, match=r"not known which are black and white|not finite"):
            to_array(column(np.array(values, dtype=kind)), COLUMN)


def test_a_range_of_values_becomes_0_to_255():
    values = np.array([-9, -5, 0, 20, 21], dtype=np.float32)
    geometry = replace(COLUMN, size=(5, 2), value_range=(-5, 20))
    assert to_array(column(values), geometry)[0, :, 0].tolist() == [0, 0, 51, 255, 255]


def column(values: NDArray[Any]) -> Image.Image:
    """A picture of one column of values, twice."""
    return Image.fromarray(np.repeat(values[:, None], 2, axis=1))


def test_black_and_white_become_0_and_255():
    image = Image.fromarray(np.eye(4, 6, dtype=np.uint8) * 255).convert("1")
    assert np.array_equal(to_array(image, GREY)[0], np.eye(4, 6, dtype=np.uint8) * 255)


def test_grey_becomes_three_equal_channels():
    pixels = noise(4, 6, 1)
    assert np.array_equal(to_array(Image.fromarray(pixels), RGB), np.stack([pixels] * 3))


def test_colours_become_their_luma():
    pixels = noise(4, 6)
    expected = pixels @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(to_array(Image.fromarray(pixels), GREY)[0], expected, atol=1)


def test_other_colour_spaces_become_rgb():
    for mode in ["CMYK", "YCbCr", "HSV", "LAB"]:
        with naming(mode):
            image = Image.new("RGB", (6, 4), (200, 30, 90))
            if mode == "LAB":
                image = Image.new("LAB", (6, 4), (255, 128, 128))
                expected = Image.new("RGB", (6, 4), (255, 255, 255))
            else:
                image, expected = image.convert(mode), image
            np.testing.assert_allclose(to_array(image, RGB), channels_first(expected), atol=6)


# files

STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: upright[:, ::-1].swapaxes(0, 1),
    7: lambda upright: upright[::-1, ::-1].swapaxes(0, 1),
    8: lambda upright: upright[::-1].swapaxes(0, 1),
}
"""EXIF orientation -> pixels as a camera stores them; 6, for example: the first row is the right side."""


def turned_photo(path, upright, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(path, exif=exif)
    return path


def test_turned_photos_are_upright(tmp_path):
    upright = noise(4, 6)
    for orientation, suffix in product(STORED, ["png", "tiff"]):
        path = turned_photo(tmp_path / f"{orientation}.{suffix}", upright, orientation)
        assert np.array_equal(load_array(path, RGB), channels_first(upright)), path.name


def test_headers_of_turned_photos_tell_the_upright_size(tmp_path):
    for orientation, suffix in product(STORED, ["png", "tiff", "jpg"]):
        path = turned_photo(tmp_path / f"{orientation}.{suffix}", noise(4, 6), orientation)
        assert read_header(path) == ((4, 6), False), path.name


def test_headers_of_pngs_tell_what_is_done_wherever_the_orientation_stands(tmp_path):
    """XMP data before the pixels count, and what comes after the pixels does not, because headers end before it."""
    upright = noise(4, 6)
    stored = np.ascontiguousarray(STORED[6](upright))
    xmp = PngImagePlugin.PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    Image.fromarray(stored).save(tmp_path / "xmp.png", pnginfo=xmp)
    content = turned_photo(tmp_path / "late.png", upright, 6).read_bytes()
    start, end = content.index(b"eXIf") - 4, content.index(b"IDAT") - 4
    (tmp_path / "late.png").write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    for name, expected, kinds in (("xmp.png", upright, ("turned by EXIF",)), ("late.png", stored, ())):
        size = expected.shape[:2]
        assert read_header(tmp_path / name) == (size, False), name
        assert read_kinds(tmp_path / name) == kinds, name
        geometry = Geometry(size=size, channels=3, resize="squash")
        assert np.array_equal(load_array(tmp_path / name, geometry), channels_first(expected)), name


def test_a_turned_jpeg_is_upright(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    image = Image.new("RGB", (16, 32), "black")
    image.paste((255, 255, 255), (0, 0, 16, 16))  # stored above is seen on the right
    image.save(tmp_path / "photo.jpg", exif=exif)
    ours = load_array(tmp_path / "photo.jpg", Geometry(size=(16, 32), channels=1))[0]
    assert ours[:, :14].max() < 20
    assert ours[:, 18:].min() > 235
    assert read_header(tmp_path / "photo.jpg") == ((16, 32), False)


def test_headers_tell_grey_from_colour(tmp_path):
    for mode in ("1", "L", "LA", "I;16", "P", "RGB", "RGBA"):
        Image.new(mode, (6, 4)).save(tmp_path / f"{mode}.png")
        assert read_header(tmp_path / f"{mode}.png") == ((4, 6), mode in {"1", "L", "LA", "I;16"}), mode


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "image.gif", save_all=True, append_images=frames[1:])
    assert load_array(tmp_path / "image.gif", RGB)[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("read", [read_header, lambda path: load_array(path, RGB)])
def test_files_that_are_no_images_are_refused_by_name(tmp_path, read):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for name, message in {
        "missing.png": "no such image",
        "text.png": "not an image in a known format",
        "empty.png": "is empty",
        "folder.png": "is a folder, not an image",
    }.items():
        with pytest.raises(DataError, match=message) as refusal:
            read(tmp_path / name)
        assert name in refusal.value.message


def test_truncated_images_are_refused_by_name(tmp_path):
    for share, suffix in product([0.5, 0.9], ["png", "jpg", "bmp", "tiff"]):
        with naming(share, suffix):
            path = tmp_path / f"image-{share}.{suffix}"
            Image.fromarray(noise(40, 60)).save(path)
            path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
            with pytest.raises(DataError) as refusal:
                load_array(path, RGB)
            assert path.name in refusal.value.message


# the model's input


def input_transform(image_size, *, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    geometry = Geometry(size=(4, 6), channels=len(mean))
    preprocessing = Preprocessing(geometry=geometry, image_size=image_size, mean=mean, std=std)
    return InputTransform(preprocessing, torch.device("cpu"))


def test_pixels_become_shares_minus_mean_over_standard_deviation():
    for mean, std in [((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ((0.1307,), (0.3081,))]:
        with naming(mean):
            images = torch.from_numpy(noise(4, 6, 5 * len(mean)).reshape(5, len(mean), 4, 6))
            expected = (images.double() / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
            ours = input_transform((4, 6), mean=mean, std=std)(images)
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, expected.float(), atol=1e-5, rtol=1e-5)


def test_a_mean_of_0_and_a_standard_deviation_of_1_give_shares_of_white():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 6)
    ours = input_transform((4, 6), mean=(0,) * 3, std=(1,) * 3)(images)
    torch.testing.assert_close(ours[0, :, 0, 0], torch.tensor([0, 0.2, 1]))


def test_images_are_resized_to_what_the_model_sees_as_pillow_resizes_them():
    for image_size in [(16, 16), (9, 31), (4, 12), (3, 3)]:
        with naming(image_size):
            transform = input_transform(image_size)
            images = torch.from_numpy(noise(4, 6, 6).reshape(2, 3, 4, 6))
            ours = transform(images)
            assert ours.shape == (2, 3, *image_size)
            normalised = transform.normalised(images)
            for index in range(2):
                for channel in range(3):
                    plane = Image.fromarray(normalised[index, channel].numpy())
                    expected = np.asarray(plane.resize(image_size[::-1], Image.Resampling.BICUBIC))
                    np.testing.assert_allclose(ours[index, channel], expected, atol=1e-4)


def test_images_of_the_models_size_are_not_resampled():
    images = torch.from_numpy(noise(4, 6, 3).reshape(1, 3, 4, 6))
    transform = input_transform((4, 6))
    assert torch.equal(transform(images), transform.normalised(images))


def giant(path, width, height, padding=0):
    """A PNG file that says it is so large, and is not; with some bytes at its end."""
    Image.new("1", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content + bytes(padding))
    return path


def test_photos_of_many_megapixels_are_opened_without_a_word(tmp_path):
    """A warning would be an error here."""
    file = giant(tmp_path / "large.png", 10_000, 19_000, padding=4000)
    assert read_header(file) == ((19_000, 10_000), True)


def test_bombs_are_refused_by_their_header(tmp_path):
    for width, height, padding, said in [
        (50_000, 40_000, 0, r"bomb.png claims 2,000 megapixels in 68 bytes$"),
        (65_535, 15_000, 10_000, r"bomb.png claims 983 megapixels in 10.1 kB$"),
        (65_535, 15_000, 100_000, r"bomb.png has 983 megapixels, more than 200$"),
    ]:
        with naming(said):
            file = giant(tmp_path / "bomb.png", width, height, padding)
            for read in (read_header, lambda path: load_array(path, RGB)):
                with pytest.raises(DataError, match=f"(?m){said}") as caught:
                    read(file)
                assert "remove it" in caught.value.hint


RESET_PEAK = Path("/proc/self/clear_refs")


def peak():
    """The most memory that this process has held since the last reset, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def test_a_jpeg_of_196_megapixels_is_decoded_small(tmp_path):
    Image.linear_gradient("L").resize((14_000, 14_000), Image.Resampling.NEAREST).save(
        tmp_path / "large.jpg", quality=30
    )
    try:
        RESET_PEAK.write_text("5")  # forget the memory in which the image was made
    except OSError:
        pytest.skip("the peak of memory can be reset on Linux only, and not in every sandbox")
    before = peak()
    pixels = load_array(tmp_path / "large.jpg", Geometry(size=(256, 256), channels=1, resize="squash"))
    assert np.abs(pixels[0, :, 0] - np.arange(256.0)).max() < 4
    assert peak() - before < 10**8


def test_threads_share_a_budget_of_memory():
    """Five images of 0.4 GB each: two at a time."""
    together, most, lock = 0, 0, threading.Lock()

    def work(_):
        nonlocal together, most
        with reserved(4 * 10**8):
            with lock:
                together += 1
                most = max(most, together)
            time.sleep(0.02)
            with lock:
                together -= 1

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, range(5)))
    assert most == 2
