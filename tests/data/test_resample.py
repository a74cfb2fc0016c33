"""Resampling against loops over pixels, torchvision, and ramps that tell where a pixel was taken from."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from tests.conftest import naming
from vitcli.core.augment_config import AugmentConfig
from vitcli.data import resample
from vitcli.data.resample import random_boxes, random_resample, resamples, resize_boxes

SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
SEEDS = st.integers(0, 2**63 - 1)
CONFIGS = st.builds(
    AugmentConfig,
    crop_scale=st.floats(0.05, 1),
    crop_ratio=st.tuples(st.floats(0.25, 1), st.floats(1, 4)),
    rotate=st.sampled_from([0, 1, 180]),
    zoom=st.sampled_from([0, 2]),
    shift=st.sampled_from([0, 1]),
    shear=st.sampled_from([0, 60]),
    flip=st.floats(0, 1),
    vertical_flip=st.floats(0, 1),
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(shape, seed=1):
    return torch.randint(256, shape, dtype=torch.uint8, generator=seeded(seed))


def resampled(images, size, config, seed=0):
    batch, _, height, width = images.shape
    return random_resample(torch.ones(batch), (height, width), size, config, seeded(seed))(images, slice(0, batch))


# crops alone


def some_boxes(height, width):
    """The whole, the middle and two narrow strips; mirrored in every way."""
    boxes = torch.tensor(
        [
            [0, 0, height, width],
            [height // 3, width // 3, height // 3, width // 3],
            [0, width // 2, height, 1],
            [height - 1, 0, 1, width],
        ]
    ).T
    mirrored = torch.tensor([[False, True, False, True], [False, False, True, True]])
    return boxes, mirrored


def test_crops_are_torchvisions_resized_crops_up_to_one_grey_level():
    boxes, mirrored = some_boxes(24, 33)
    for channels, size, way in product([1, 3], [(6, 30), (30, 7), (24, 33), (50, 70)], ["by_products", "one_by_one"]):
        with naming(channels, size, way):
            images = noise((4, channels, 24, 33))
            ours = getattr(resample, f"_resize_{way}")(images, boxes, mirrored, size)
            assert ours.dtype == torch.uint8
            for image, result, box, (upside, sideways) in zip(images, ours, boxes.T.tolist(), mirrored.T, strict=True):
                expected = tv.resized_crop(image, *box, size=list(size), antialias=True)
                expected = tv.vertical_flip(expected) if upside else expected
                expected = tv.horizontal_flip(expected) if sideways else expected
                assert (result.int() - expected.int()).abs().max() <= 1


def test_large_results_on_the_cpu_go_the_other_way_to_the_same_pixels(monkeypatch):
    images = noise((4, 3, 24, 33))
    small = resize_boxes(images, *some_boxes(24, 33), (12, 10))
    monkeypatch.setattr(resample, "_SMALL", 0)
    large = resize_boxes(images, *some_boxes(24, 33), (12, 10))
    assert (small.int() - large.int()).abs().max() == 1  # not 0: they are two ways


def test_a_crop_of_the_whole_image_is_the_identity():
    images = noise((3, 3, 7, 10))
    boxes = torch.tensor([0, 0, 7, 10])[:, None].expand(4, 3)
    mirrored = torch.zeros(2, 3, dtype=torch.bool)
    assert torch.equal(resize_boxes(images, boxes, mirrored, (7, 10)), images)


@given(height=st.integers(1, 64), width=st.integers(1, 64), scale=st.floats(0.01, 1), seed=SEEDS)
def test_boxes_lie_inside_the_image_and_are_not_empty(height, width, scale, seed):
    config = AugmentConfig(crop_scale=scale, crop_ratio=(0.2, 3))
    top, left, box_height, box_width = random_boxes(torch.ones(50), (height, width), config, seeded(seed))
    assert min(top.min(), left.min()) >= 0
    assert min(box_height.min(), box_width.min()) >= 1
    assert (top + box_height <= height).all()
    assert (left + box_width <= width).all()


def test_a_crop_of_a_white_image_is_white_up_to_its_edges():
    white = torch.full((32, 1, 10, 12), 255, dtype=torch.uint8)
    assert (resampled(white, (20, 20), AugmentConfig(crop_scale=0.5)) == 255).all()


# turns: the same draws, pixel by pixel


def bilinear(image, x, y):
    """The value at a point, in pixels from the upper left corner; black outside. image: (h, w).

    Where the edge of the image is less than half a pixel away, inside or outside, the answer is NaN: any will do.
    """
    height, width = image.shape
    if not (-0.5 < x < width + 0.5 and -0.5 < y < height + 0.5):
        return 0.0
    if not (0.5 <= x <= width - 0.5 and 0.5 <= y <= height - 0.5):
        return math.nan
    column, row = min(int(x - 0.5), width - 2), min(int(y - 0.5), height - 2)
    right, low = x - 0.5 - column, y - 0.5 - row
    upper = (1 - right) * image[row, column] + right * image[row, column + 1]
    lower = (1 - right) * image[row + 1, column] + right * image[row + 1, column + 1]
    return (1 - low) * upper + low * lower


def resampled_by_loops(images, size, config, seed):
    """The same draws, turned into pixels one at a time."""
    batch, channels, height, width = images.shape
    generator = seeded(seed)
    boxes = random_boxes(torch.ones(batch), (height, width), config, generator).T.tolist()
    upside, sideways = torch.rand(2, batch, generator=generator).tolist()
    draws = (2 * torch.rand(5, batch, generator=generator) - 1).double().numpy()
    result = np.zeros((batch, channels, *size))
    for index in range(batch):
        top, left, box_height, box_width = boxes[index]
        turn, growth, slant, shift_x, shift_y = draws[:, index]
        zoom = (1 + config.zoom) ** growth
        angle, tangent = math.radians(config.rotate) * turn, math.tan(math.radians(config.shear) * slant)
        for row in range(size[0]):
            for column in range(size[1]):
                across = ((column + 0.5) / size[1] - 0.5) * (-1 if sideways[index] < config.flip else 1) * box_width
                down = ((row + 0.5) / size[0] - 0.5) * (-1 if upside[index] < config.vertical_flip else 1) * box_height
                across -= config.shift * shift_x * box_width
                down -= config.shift * shift_y * box_height
                across, down = (  # turned back
                    math.cos(angle) * across + math.sin(angle) * down,
                    math.cos(angle) * down - math.sin(angle) * across,
                )
                x = left + box_width / 2 + (across + tangent * down) / zoom
                y = top + box_height / 2 + down / zoom
                for channel in range(channels):
                    result[index, channel, row, column] = bilinear(images[index, channel].double().numpy(), x, y)
    return result


@pytest.mark.parametrize("size", [(6, 9), (8, 5), (13, 11)])
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(AugmentConfig(rotate=45), id="rotate"),
        pytest.param(AugmentConfig(zoom=0.8), id="zoom"),
        pytest.param(AugmentConfig(shift=0.3), id="shift"),
        pytest.param(AugmentConfig(shear=30), id="shear"),
        pytest.param(AugmentConfig(rotate=1e-6, flip=0.5, vertical_flip=0.5), id="flips"),
        pytest.param(AugmentConfig(rotate=1e-6, crop_scale=0.3), id="crop"),
        pytest.param(
            AugmentConfig(crop_scale=0.3, rotate=180, zoom=0.1, shift=0.2, shear=20, flip=0.5, vertical_flip=0.5),
            id="everything",
        ),
    ],
)
def test_resampling_is_that_of_a_loop_over_pixels(config, size, monkeypatch):
    monkeypatch.setattr(resample, "_SHRINK", 100)  # no antialiasing
    images = noise((4, 2, 6, 9)).float()
    expected = resampled_by_loops(images, size, config, 3)
    certain = ~np.isnan(expected)
    assert certain.mean() > 0.4
    ours = resampled(images, size, config, 3).numpy()
    np.testing.assert_allclose(ours[certain], expected[certain], atol=0.02)


@given(seed=SEEDS, height=st.integers(4, 30), width=st.integers(4, 30))
def test_without_a_crop_it_is_torchvisions_affine(seed, height, width):
    """Smooth images: where a pixel is taken from may differ by 1e-4 pixels."""
    y, x = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 5, width), indexing="ij")
    images = (100 + 50 * torch.stack([x.sin(), (x + y).cos()])).expand(3, -1, -1, -1)
    config = AugmentConfig(rotate=60, zoom=0.2, shift=0.2, shear=30)
    ours = resampled(images, (height, width), config, seed)
    generator = seeded(seed)
    torch.rand(2, 3, generator=generator)  # flips
    for result, draws in zip(ours, (2 * torch.rand(5, 3, generator=generator) - 1).T.tolist(), strict=True):
        turn, growth, slant, across, down = draws
        expected = tv.affine(
            images[0],
            angle=60 * turn,
            translate=[0.2 * across * width, 0.2 * down * height],
            scale=1.2**growth,
            shear=[30 * slant, 0],
            interpolation=InterpolationMode.BILINEAR,
        )
        torch.testing.assert_close(result, expected, atol=0.05, rtol=0)


@given(shape=SHAPES, size=SIZES, config=CONFIGS, seed=SEEDS)
def test_resampling_keeps_the_dtype_and_gives_the_size_asked_for(shape, size, config, seed):
    images = noise(shape)
    once, again = (resampled(images, size, config, seed) for _ in range(2))
    assert once.shape == (*shape[:2], *size)
    assert once.dtype == torch.uint8
    assert torch.equal(once, again)
    exact = resampled(images.float(), size, config, seed)
    assert exact.dtype == torch.float32
    assert (once - exact).abs().max() < 0.51
    assert exact.min() > -0.01
    assert exact.max() < 255.01


def test_another_seed_gives_another_batch_and_images_of_a_batch_differ():
    images = noise((1, 3, 6, 8)).expand(2, -1, -1, -1)
    config = AugmentConfig(crop_scale=0.5)
    once, again = (resampled(images, (6, 8), config, seed) for seed in (0, 1))
    assert not torch.equal(once, again)
    assert not torch.equal(once[0], once[1])


def test_parts_of_a_batch_are_changed_as_in_the_batch():
    images = noise((7, 3, 8, 8))
    for config in (AugmentConfig(crop_scale=0.5, flip=0.5), AugmentConfig(rotate=30, flip=0.5)):
        change = random_resample(torch.ones(7), (8, 8), (9, 9), config, seeded())
        pieces = [change(images[part], part) for part in (slice(0, 3), slice(3, 4), slice(4, 7))]
        assert torch.equal(torch.cat(pieces), change(images, slice(0, 7)))


# ramps


def ramps(batch, height, width):
    """Channel 0 holds each pixel's x, channel 1 its y, so that a result tells where it was taken from."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y]).expand(batch, -1, -1, -1)


def origins(result):
    """The affine map from the result (0..1, y first) to the image in pixels, fitted to its middle: matrix, centre."""
    height, width = result.shape[-2:]
    top, bottom, left, right = height // 2 - 2, height // 2 + 1, width // 2 - 2, width // 2 + 1
    along_x = (result[:, :, top, right] - result[:, :, top, left]) / (right - left) * width
    along_y = (result[:, :, bottom, left] - result[:, :, top, left]) / (bottom - top) * height
    centre = result[:, :, top : bottom + 1, left : right + 1].mean(dim=(2, 3))
    return torch.stack([along_x, along_y], dim=2).double(), centre.double()  # (B, 2, 2), (B, 2)


SIDES = st.integers(24, 64)


@given(height=SIDES, width=SIDES, degrees=st.floats(1, 180), seed=SEEDS)
def test_rotation_is_rigid_around_the_centre_and_stays_within_its_range(height, width, degrees, seed):
    result = resampled(ramps(16, height, width), (height, width), AugmentConfig(rotate=degrees), seed)
    matrix, centre = origins(result)
    matrix = matrix / torch.tensor([width, height])  # from pixels to pixels
    identity = torch.eye(2, dtype=torch.float64).expand(16, 2, 2)
    torch.testing.assert_close(matrix @ matrix.mT, identity, atol=1e-2, rtol=0)
    assert (matrix.det() > 0).all()
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]).rad2deg()
    assert angle.abs().max() <= degrees + 0.5
    assert (centre - torch.tensor([width / 2, height / 2])).abs().max() < 1.5


@given(height=SIDES, width=SIDES, zoom=st.floats(0.05, 0.5), seed=SEEDS)
def test_zoom_enlarges_and_reduces_both_sides_alike_within_its_range(height, width, zoom, seed):
    matrix, _ = origins(resampled(ramps(64, height, width), (height, width), AugmentConfig(zoom=zoom), seed))
    factor = torch.stack([width / matrix[:, 0, 0], height / matrix[:, 1, 1]])
    torch.testing.assert_close(factor[0], factor[1], atol=1e-2, rtol=0)
    assert factor.min() > 1 / (1 + zoom) - 0.01
    assert factor.max() < 1 + zoom + 0.01
    assert factor.min() < 1 < factor.max()


@given(height=SIDES, width=SIDES, shift=st.floats(0.02, 0.3), seed=SEEDS)
def test_shift_moves_by_up_to_its_share_of_height_and_width(height, width, shift, seed):
    result = resampled(ramps(64, height, width), (height, width), AugmentConfig(shift=shift), seed)
    still = origins(ramps(1, height, width))[1]
    moved = (origins(result)[1] - still) / torch.tensor([width, height])
    assert moved.abs().max() < shift + 0.01
    assert (moved.amin(dim=0) < -shift / 2).all()
    assert (moved.amax(dim=0) > shift / 2).all()


@given(height=SIDES, width=SIDES, degrees=st.floats(1, 45), seed=SEEDS)
def test_shear_moves_rows_along_themselves_within_its_range(height, width, degrees, seed):
    matrix, _ = origins(resampled(ramps(64, height, width), (height, width), AugmentConfig(shear=degrees), seed))
    matrix = matrix / torch.tensor([width, height])
    ones = torch.ones(64, dtype=torch.float64)
    torch.testing.assert_close(matrix[:, 0, 0], ones, atol=1e-2, rtol=0)
    torch.testing.assert_close(matrix[:, 1, 1], ones, atol=1e-2, rtol=0)
    torch.testing.assert_close(matrix[:, 1, 0], 0 * ones, atol=1e-2, rtol=0)
    slant = matrix[:, 0, 1].atan().rad2deg()
    assert slant.abs().max() <= degrees + 0.5
    assert slant.min() < -degrees / 2
    assert slant.max() > degrees / 2


def test_what_lies_outside_is_black():
    white = torch.full((64, 1, 8, 8), 255, dtype=torch.uint8)
    shifted = resampled(white, (8, 8), AugmentConfig(shift=0.3))
    assert (shifted == 0).any()
    assert shifted[:, :, 3:5, 3:5].min() > 254


def test_affine_changes_come_as_often_as_asked():
    images = noise((400, 1, 8, 8)).float()
    config = AugmentConfig(rotate=30, zoom=0.2, shift=0.1, shear=10, affine_probability=0.25)
    changed = (resampled(images, (8, 8), config) - images).abs().flatten(1).amax(dim=1) > 0.5
    assert 0.18 < changed.float().mean().item() < 0.32


def test_what_shrinks_a_lot_is_averaged():
    stripes = (torch.arange(64) % 2 * 255.0).expand(20, 1, 64, 64)
    result = resampled(stripes, (19, 19), AugmentConfig(rotate=1e-6))
    assert result.std() < 45  # of single stripes, which a sample here and there meets: about 75


def test_how_finely_an_image_is_sampled_does_not_depend_on_its_part_of_the_batch():
    images = noise((20, 1, 48, 48))
    change = random_resample(torch.ones(20), (48, 48), (16, 16), AugmentConfig(crop_scale=0.05, rotate=20), seeded())
    pieces = [change(images[index : index + 1], slice(index, index + 1)) for index in range(20)]
    assert torch.equal(torch.cat(pieces), change(images, slice(0, 20)))


def test_flips_alone_do_not_resample():
    assert not resamples(AugmentConfig(flip=0.5, vertical_flip=0.5, crop_padding=4))
    assert all(resamples(AugmentConfig(**{name: 0.5})) for name in ("crop_scale", "rotate", "zoom", "shift", "shear"))


def test_a_squashed_photo_turns_and_moves_as_the_photo_does():
    config = AugmentConfig(rotate=60, zoom=0.2, shift=0.2, shear=30, flip=0.5)
    places = {}
    for stretch, width in ((1, 96), (3, 32)):
        change = random_resample(torch.full((20,), float(stretch)), (48, width), (24, 48), config, seeded())
        places[stretch] = change(ramps(20, 48, width) * torch.tensor([stretch, 1])[:, None, None], slice(0, 20))
    inside = (places[1][:, 1:] > 6) & (places[3][:, 1:] > 6)  # black is 0, and a border pixel is partly black
    inside = (inside & (places[1][:, :1] > 6) & (places[3][:, :1] > 6)).expand(-1, 2, -1, -1)
    assert inside.float().mean() > 0.4
    assert ((places[3] - places[1])[inside].abs() < 0.01).float().mean() > 0.98  # all but the borders


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_shift_is_a_share_of_the_crop(scale):
    """In the pixels of the result, a crop moves by at most that share of it, however small it is."""
    still, moved = (
        origins(resampled(ramps(64, 96, 96), (32, 32), AugmentConfig(crop_scale=scale, rotate=1e-9, shift=shift)))[1]
        for shift in (0, 0.1)
    )
    boxes = random_boxes(torch.ones(64), (96, 96), AugmentConfig(crop_scale=scale), seeded())
    shares = (moved - still) / boxes[[3, 2]].T
    assert 0.08 < shares.abs().max() < 0.101
