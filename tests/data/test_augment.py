import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from vitcli.core.config import AugmentConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.augment import TrainTransform, random_crop, random_flip, random_resample
from vitcli.data.preprocess import InputTransform

SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))
SEEDS = st.integers(0, 2**63 - 1)
CONFIGS = st.builds(
    AugmentConfig,
    crop_scale=st.floats(0.05, 1),
    crop_ratio=st.tuples(st.floats(0.25, 1), st.floats(1, 4)),
    rotate=st.floats(0, 180),
    zoom=st.floats(0, 2),
    shift=st.floats(0, 1),
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(shape, seed=1):
    return torch.randint(256, shape, dtype=torch.uint8, generator=seeded(seed))


# crops with padding


@given(shape=SHAPES, padding=st.integers(1, 5), seed=SEEDS)
def test_random_crop_is_a_window_of_the_padded_image_one_image_at_a_time(shape, padding, seed):
    images = noise(shape)
    batch, _, height, width = shape
    top, left = torch.randint(2 * padding + 1, (2, batch), generator=seeded(seed)).tolist()
    cropped = random_crop(images, padding, seeded(seed))
    assert cropped.dtype == torch.uint8
    for index in range(batch):
        padded = F.pad(images[index], [padding] * 4)
        window = padded[:, top[index] : top[index] + height, left[index] : left[index] + width]
        assert torch.equal(cropped[index], window)


def test_random_crop_reaches_every_place():
    images = torch.zeros(2000, 1, 5, 5, dtype=torch.uint8)
    images[:, :, 2, 2] = 1
    found = random_crop(images, 2, seeded()).nonzero()[:, 2:]
    assert found.unique(dim=0).tolist() == [[row, column] for row in range(5) for column in range(5)]


# flips


@given(shape=SHAPES, axis=st.sampled_from([2, 3]), probability=st.floats(0, 1), seed=SEEDS)
def test_random_flip_mirrors_the_chosen_images_and_leaves_the_others(shape, axis, probability, seed):
    images = noise(shape)
    chosen = torch.rand(shape[0], generator=seeded(seed)) < probability
    flipped = random_flip(images, probability, axis, seeded(seed))
    assert flipped.dtype == torch.uint8
    for index in range(shape[0]):
        expected = images[index].flip(axis - 1) if chosen[index] else images[index]
        assert torch.equal(flipped[index], expected)


def test_flips_mirror_left_and_right_or_top_and_bottom():
    image = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    assert random_flip(image, 1, 3, seeded()).tolist() == [[[[2, 1], [4, 3]]]]
    assert random_flip(image, 1, 2, seeded()).tolist() == [[[[3, 4], [1, 2]]]]
    assert random_flip(image, 0, 2, seeded()).tolist() == image.tolist()


def test_flips_come_as_often_as_asked():
    images = torch.tensor([1, 0], dtype=torch.uint8).expand(5000, 1, 1, 2)
    flipped = random_flip(images, 0.3, 3, seeded())[:, 0, 0, 1].double().mean().item()
    assert flipped == pytest.approx(0.3, abs=0.03)


# resampling


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
    """The same draws, turned into pixels one at a time; only for crops whose ratio always fits."""
    batch, channels, height, width = images.shape
    draws = torch.rand(8, batch, generator=seeded(seed)).double().numpy()
    result = np.zeros((batch, channels, *size))
    for index in range(batch):
        share, shape, place_x, place_y, turn, growth, shift_x, shift_y = draws[:, index]
        box_width, box_height = width, height
        if config.crop_scale < 1:
            area = (config.crop_scale + (1 - config.crop_scale) * share) * height * width
            low, high = config.crop_ratio
            ratio = low * (high / low) ** shape
            box_width, box_height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        centre_x = box_width / 2 + place_x * (width - box_width) + config.shift * (2 * shift_x - 1) * width
        centre_y = box_height / 2 + place_y * (height - box_height) + config.shift * (2 * shift_y - 1) * height
        zoom = (1 + config.zoom) ** (2 * growth - 1)
        angle = math.radians(config.rotate) * (2 * turn - 1)
        for row in range(size[0]):
            for column in range(size[1]):
                across = ((column + 0.5) / size[1] - 0.5) * box_width / zoom
                down = ((row + 0.5) / size[0] - 0.5) * box_height / zoom
                x = centre_x + math.cos(angle) * across - math.sin(angle) * down
                y = centre_y + math.sin(angle) * across + math.cos(angle) * down
                for channel in range(channels):
                    result[index, channel, row, column] = bilinear(images[index, channel].double().numpy(), x, y)
    return result


@pytest.mark.parametrize("size", [(6, 9), (8, 5), (13, 11)])
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(AugmentConfig(), id="nothing"),
        pytest.param(AugmentConfig(rotate=45), id="rotate"),
        pytest.param(AugmentConfig(zoom=1), id="zoom"),
        pytest.param(AugmentConfig(shift=0.3), id="shift"),
        pytest.param(AugmentConfig(crop_scale=0.3, crop_ratio=(1.5, 1.5)), id="crop"),
        pytest.param(
            AugmentConfig(crop_scale=0.3, crop_ratio=(1.5, 1.5), rotate=180, zoom=0.5, shift=0.2), id="everything"
        ),
    ],
)
def test_resampling_is_that_of_a_loop_over_pixels(config, size):
    images = noise((4, 2, 6, 9))
    expected = resampled_by_loops(images, size, config, 3)
    certain = ~np.isnan(expected)
    assert certain.mean() > 0.5
    ours = random_resample(images, size, config, seeded(3)).numpy()
    np.testing.assert_allclose(ours[certain], expected[certain], atol=0.02)


@pytest.mark.parametrize("config", [AugmentConfig(), AugmentConfig(crop_scale=1, crop_ratio=(1, 1))])
def test_a_crop_of_the_whole_image_is_the_identity(config):
    images = noise((3, 3, 7, 10))
    torch.testing.assert_close(random_resample(images, (7, 10), config, seeded()), images.float(), atol=1e-3, rtol=0)


@given(shape=SHAPES, size=SIZES, config=CONFIGS, seed=SEEDS)
def test_resampling_gives_the_size_asked_for_and_no_values_out_of_range(shape, size, config, seed):
    resampled = random_resample(noise(shape), size, config, seeded(seed))
    assert resampled.shape == (*shape[:2], *size)
    assert resampled.dtype == torch.float32
    assert resampled.min() >= 0
    assert resampled.max() <= 255 + 1e-3


@given(config=CONFIGS, seed=SEEDS)
def test_the_same_seed_gives_the_same_batch(config, seed):
    images = noise((4, 3, 6, 8))
    once, again = (random_resample(images, (5, 7), config, seeded(seed)) for _ in range(2))
    assert torch.equal(once, again)


def test_another_seed_gives_another_batch_and_images_of_a_batch_differ():
    images = noise((1, 3, 6, 8)).expand(2, -1, -1, -1)
    config = AugmentConfig(crop_scale=0.5)
    once, again = (random_resample(images, (6, 8), config, seeded(seed)) for seed in (0, 1))
    assert not torch.allclose(once, again)
    assert not torch.allclose(once[0], once[1])


def ramps(batch, height, width):
    """Channel 0 holds each pixel's x, channel 1 its y, so that a result tells where it was taken from."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([x, y]).expand(batch, -1, -1, -1)


def origins(resampled):
    """The affine map from the result (0..1, y first) to the image in pixels, fitted to its middle: matrix, centre."""
    height, width = resampled.shape[-2:]
    top, bottom, left, right = height // 2 - 2, height // 2 + 1, width // 2 - 2, width // 2 + 1
    along_x = (resampled[:, :, top, right] - resampled[:, :, top, left]) / (right - left) * width
    along_y = (resampled[:, :, bottom, left] - resampled[:, :, top, left]) / (bottom - top) * height
    centre = resampled[:, :, top : bottom + 1, left : right + 1].mean(dim=(2, 3))
    return torch.stack([along_x, along_y], dim=2).double(), centre.double()  # (B, 2, 2), (B, 2)


def crop_boxes(height, width, config, seed, batch=64):
    """Left, top, width, height of random crops, in pixels."""
    matrix, centre = origins(random_resample(ramps(batch, height, width), (16, 16), config, seeded(seed)))
    torch.testing.assert_close(matrix[:, 0, 1], torch.zeros(batch, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(matrix[:, 1, 0], torch.zeros(batch, dtype=torch.float64), atol=1e-3, rtol=0)
    box_width, box_height = matrix[:, 0, 0], matrix[:, 1, 1]
    return centre[:, 0] - box_width / 2, centre[:, 1] - box_height / 2, box_width, box_height


SIDES = st.integers(24, 64)
SCALES = st.floats(0.25, 1, exclude_max=True)


@given(height=SIDES, width=SIDES, scale=SCALES, seed=SEEDS)
def test_crops_lie_inside_the_image_and_keep_their_aspect_ratio(height, width, scale, seed):
    config = AugmentConfig(crop_scale=scale)
    left, top, box_width, box_height = crop_boxes(height, width, config, seed)
    assert left.min() > -0.01
    assert top.min() > -0.01
    assert (left + box_width).max() < width + 0.01
    assert (top + box_height).max() < height + 0.01
    whole = (box_width > width - 0.01) | (box_height > height - 0.01)  # there the ratio is narrowed
    ratio = (box_width / box_height)[~whole]
    assert ((ratio > 0.745) & (ratio < 1.34)).all()


@given(height=SIDES, width=SIDES, scale=SCALES, seed=SEEDS)
def test_crops_keep_at_least_the_least_share_of_the_area(height, width, scale, seed):
    _, _, box_width, box_height = crop_boxes(height, width, AugmentConfig(crop_scale=scale), seed)
    share = box_width * box_height / (height * width)
    assert share.min() > scale - 0.01
    assert share.max() < 1.01


def test_shares_of_the_area_are_uniform_and_places_reach_the_edges():
    config = AugmentConfig(crop_scale=0.3, crop_ratio=(1, 1))
    left, top, box_width, box_height = crop_boxes(40, 40, config, seed=0, batch=4000)
    share = box_width * box_height / 1600
    expected = torch.linspace(0.3, 1, 8, dtype=torch.float64)
    torch.testing.assert_close(share.quantile(torch.linspace(0, 1, 8).double()), expected, atol=0.03, rtol=0)
    for start, side in ((left, box_width), (top, box_height)):
        place = (start / (40 - side))[side < 39]
        assert place.min() < 0.02
        assert place.max() > 0.98
        assert place.mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_crop_of_a_white_image_is_white_up_to_its_edges():
    white = torch.full((32, 1, 10, 12), 255, dtype=torch.uint8)
    cropped = random_resample(white, (20, 20), AugmentConfig(crop_scale=0.5), seeded())
    torch.testing.assert_close(cropped, torch.full_like(cropped, 255), atol=0.01, rtol=0)


@given(height=SIDES, width=SIDES, degrees=st.floats(1, 180), seed=SEEDS)
def test_rotation_is_rigid_around_the_centre_and_stays_within_its_range(height, width, degrees, seed):
    resampled = random_resample(ramps(16, height, width), (height, width), AugmentConfig(rotate=degrees), seeded(seed))
    matrix, centre = origins(resampled)
    matrix = matrix / torch.tensor([width, height])  # from pixels to pixels
    identity = torch.eye(2, dtype=torch.float64).expand(16, 2, 2)
    torch.testing.assert_close(matrix @ matrix.mT, identity, atol=1e-2, rtol=0)
    assert (matrix.det() > 0).all()
    angle = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]).rad2deg()
    assert angle.abs().max() <= degrees + 0.5
    assert (centre - torch.tensor([width / 2, height / 2])).abs().max() < 1.5


@given(height=SIDES, width=SIDES, zoom=st.floats(0.05, 0.5), seed=SEEDS)
def test_zoom_enlarges_and_reduces_both_sides_alike_within_its_range(height, width, zoom, seed):
    resampled = random_resample(ramps(64, height, width), (height, width), AugmentConfig(zoom=zoom), seeded(seed))
    matrix, _ = origins(resampled)
    factor = torch.stack([width / matrix[:, 0, 0], height / matrix[:, 1, 1]])
    torch.testing.assert_close(factor[0], factor[1], atol=1e-2, rtol=0)
    assert factor.min() > 1 / (1 + zoom) - 0.01
    assert factor.max() < 1 + zoom + 0.01
    assert factor.min() < 1 < factor.max()


@given(height=SIDES, width=SIDES, shift=st.floats(0.02, 0.3), seed=SEEDS)
def test_shift_moves_by_up_to_its_share_of_height_and_width(height, width, shift, seed):
    resampled = random_resample(ramps(64, height, width), (height, width), AugmentConfig(shift=shift), seeded(seed))
    still = origins(ramps(1, height, width))[1]
    moved = (origins(resampled)[1] - still) / torch.tensor([width, height])
    assert moved.abs().max() < shift + 0.01
    assert (moved.amin(dim=0) < -shift / 2).all()
    assert (moved.amax(dim=0) > shift / 2).all()


def test_what_lies_outside_is_black():
    white = torch.full((64, 1, 8, 8), 255, dtype=torch.uint8)
    shifted = random_resample(white, (8, 8), AugmentConfig(shift=0.3), seeded())
    assert (shifted == 0).any()
    assert shifted[:, :, 3:5, 3:5].min() > 254.9


# the whole transform


def to_input(size):
    geometry = Geometry(size=size, channels=3)
    preprocessing = Preprocessing(geometry=geometry, image_size=size, mean=(0.4, 0.5, 0.6), std=(0.1, 0.2, 0.3))
    return InputTransform(preprocessing, torch.device("cpu"))


def test_without_augmentation_training_images_are_those_of_evaluation():
    images = noise((4, 3, 6, 9))
    transform = TrainTransform(AugmentConfig(), to_input((6, 9)))
    assert torch.equal(transform(images, seeded()), to_input((6, 9))(images))


def test_crops_and_flips_come_before_normalising_in_this_order():
    images = noise((8, 3, 6, 9))
    config = AugmentConfig(crop_padding=2, flip=0.5, vertical_flip=0.5)
    generator = seeded()
    expected = random_crop(images, 2, generator)
    expected = random_flip(expected, 0.5, 3, generator)
    expected = random_flip(expected, 0.5, 2, generator)
    result = TrainTransform(config, to_input((6, 9)))(images, seeded())
    assert torch.equal(result, to_input((6, 9))(expected))


@pytest.mark.parametrize(
    "changes",
    [{"crop_scale": 0.5}, {"rotate": 10}, {"zoom": 0.1}, {"shift": 0.1}],
    ids=lambda changes: next(iter(changes)),
)
def test_every_kind_of_resampling_takes_part_and_ends_at_the_models_size(changes):
    images = noise((4, 3, 8, 8))
    config = AugmentConfig(**changes)
    result = TrainTransform(config, to_input((6, 10)))(images, seeded())
    expected = to_input((6, 10)).normalised(random_resample(images, (6, 10), config, seeded()))
    torch.testing.assert_close(result, expected)
    plain = to_input((6, 10))(images)
    assert result.shape == plain.shape
    assert not torch.allclose(result, plain, atol=0.1)


@given(config=CONFIGS, seed=SEEDS)
def test_the_whole_transform_is_the_same_for_the_same_seed(config, seed):
    images = noise((4, 3, 8, 8))
    transform = TrainTransform(config, to_input((8, 8)))
    once, again = (transform(images, seeded(seed)) for _ in range(2))
    assert torch.equal(once, again)
    assert once.isfinite().all()


def test_affine_changes_come_as_often_as_asked():
    images = noise((400, 1, 8, 8))
    config = AugmentConfig(rotate=30, zoom=0.2, shift=0.1, affine_probability=0.25)
    changed = (random_resample(images, (8, 8), config, seeded()) - images).abs().flatten(1).amax(dim=1) > 0.5
    assert 0.18 < changed.float().mean().item() < 0.32
