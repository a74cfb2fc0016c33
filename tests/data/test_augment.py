"""The whole transform, crops after padding and flips; resampling, colours, policies and erasing have their own files."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.errors import UsageError
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data import augment, threaded
from vitcli.data.augment import TrainTransform, random_crop, random_flip
from vitcli.data.colour import random_colours
from vitcli.data.policies import random_policy
from vitcli.data.preprocess import InputTransform
from vitcli.data.resample import random_resample
from vitcli.data.threaded import change_threaded

SHAPES = st.tuples(st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
SEEDS = st.integers(0, 2**63 - 1)
CONFIGS = st.builds(
    AugmentConfig,
    crop_padding=st.integers(0, 2),
    crop_scale=st.floats(0.05, 1),
    crop_ratio=st.tuples(st.floats(0.25, 1), st.floats(1, 4)),
    rotate=st.sampled_from([0, 30]),
    shear=st.sampled_from([0, 20]),
    flip=st.floats(0, 1),
    policy=st.sampled_from(["none", "trivial", "rand"]),
    brightness=st.floats(0, 2),
    contrast=st.floats(0, 2),
    saturation=st.floats(0, 2),
    hue=st.floats(0, 0.5),
    grey=st.floats(0, 1),
    erase=st.floats(0, 1),
)
EVERYTHING = AugmentConfig(
    crop_scale=0.3,
    flip=0.5,
    vertical_flip=0.5,
    policy="rand",
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grey=0.2,
    erase=0.5,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=1):
    return torch.randint(256, shape, dtype=torch.uint8, generator=seeded(seed))


def whole(images):
    return slice(0, len(images))


def to_input(size, channels=3):
    geometry = Geometry(size=size, channels=channels)
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.1, 0.2, 0.3)[:channels]
    return InputTransform(Preprocessing(geometry=geometry, image_size=size, mean=mean, std=std), torch.device("cpu"))


# crops with padding


@given(shape=SHAPES, padding=st.integers(1, 5), seed=SEEDS)
def test_random_crop_is_a_window_of_the_padded_image_one_image_at_a_time(shape, padding, seed):
    images = noise(*shape)
    batch, _, height, width = shape
    top, left = torch.randint(2 * padding + 1, (2, batch), generator=seeded(seed)).tolist()
    cropped = random_crop(batch, padding, seeded(seed))(images, whole(images))
    assert cropped.dtype == torch.uint8
    for index in range(batch):
        padded = F.pad(images[index], [padding] * 4)
        window = padded[:, top[index] : top[index] + height, left[index] : left[index] + width]
        assert torch.equal(cropped[index], window)


def test_random_crop_reaches_every_place():
    images = torch.zeros(2000, 1, 5, 5, dtype=torch.uint8)
    images[:, :, 2, 2] = 1
    found = random_crop(2000, 2, seeded())(images, whole(images)).nonzero()[:, 2:]
    assert found.unique(dim=0).tolist() == [[row, column] for row in range(5) for column in range(5)]


# flips


@given(shape=SHAPES, axis=st.sampled_from([2, 3]), probability=st.floats(0, 1), seed=SEEDS)
def test_random_flip_mirrors_the_chosen_images_and_leaves_the_others(shape, axis, probability, seed):
    images = noise(*shape)
    chosen = torch.rand(shape[0], generator=seeded(seed)) < probability
    flipped = random_flip(shape[0], probability, axis, seeded(seed))(images, whole(images))
    assert flipped.dtype == torch.uint8
    for index in range(shape[0]):
        expected = images[index].flip(axis - 1) if chosen[index] else images[index]
        assert torch.equal(flipped[index], expected)


def test_flips_mirror_left_and_right_or_top_and_bottom():
    image = torch.tensor([[[[1, 2], [3, 4]]]], dtype=torch.uint8)
    assert random_flip(1, 1, 3, seeded())(image, whole(image)).tolist() == [[[[2, 1], [4, 3]]]]
    assert random_flip(1, 1, 2, seeded())(image, whole(image)).tolist() == [[[[3, 4], [1, 2]]]]
    assert random_flip(1, 0, 2, seeded())(image, whole(image)).tolist() == image.tolist()


# the whole transform


def test_without_augmentation_training_images_are_those_of_evaluation():
    images = noise(4, 3, 6, 9)
    transform = TrainTransform(AugmentConfig(), to_input((6, 9)))
    assert torch.equal(transform(images, seeded()), to_input((6, 9))(images))


def test_crops_and_flips_come_before_normalising_in_this_order():
    images = noise(8, 3, 6, 9)
    config = AugmentConfig(crop_padding=2, flip=0.5, vertical_flip=0.5)
    generator = seeded()
    changes = random_crop(8, 2, generator), random_flip(8, 0.5, 3, generator), random_flip(8, 0.5, 2, generator)
    expected = images
    for change in changes:
        expected = change(expected, whole(images))
    result = TrainTransform(config, to_input((6, 9)))(images, seeded())
    assert torch.equal(result, to_input((6, 9))(expected))


@pytest.mark.parametrize(
    "changes",
    [{"crop_scale": 0.5}, {"rotate": 10}, {"zoom": 0.1}, {"shift": 0.1}, {"shear": 10}],
    ids=lambda changes: next(iter(changes)),
)
def test_every_kind_of_resampling_takes_part_and_ends_at_the_models_size(changes):
    images = noise(4, 3, 8, 8)
    config = AugmentConfig(**changes)
    result = TrainTransform(config, to_input((6, 10)))(images, seeded())
    resampled = random_resample(torch.ones(4), (8, 8), (6, 10), config, seeded())(images, whole(images))
    torch.testing.assert_close(result, to_input((6, 10)).normalised(resampled))
    plain = to_input((6, 10))(images)
    assert result.shape == plain.shape
    assert not torch.allclose(result, plain, atol=0.1)


def test_the_order_is_resampling_policy_colours_normalising_erasing():
    images = noise(20, 3, 8, 8)
    generator = seeded(3)
    changes = (
        random_resample(torch.ones(20), (8, 8), (24, 30), EVERYTHING, generator),
        random_policy(20, (24, 30), EVERYTHING, generator),
    )
    colours = random_colours(20, EVERYTHING, generator)
    expected = images
    for change in changes:
        expected = change(expected, whole(images))
    expected = to_input((24, 30)).normalised(*colours(expected, whole(images)))
    expected = augment.random_erase(expected, EVERYTHING.erase, generator)
    result = TrainTransform(EVERYTHING, to_input((24, 30)))(images, seeded(3))
    torch.testing.assert_close(result, expected)


def test_small_images_are_changed_before_they_are_enlarged():
    images = noise(6, 3, 8, 8)
    config = AugmentConfig(flip=0.5, policy="trivial")
    generator = seeded(3)
    changes = random_flip(6, 0.5, 3, generator), random_policy(6, (8, 8), config, generator)
    expected = changes[1](changes[0](images, whole(images)), whole(images))
    result = TrainTransform(config, to_input((16, 16)))(images, seeded(3))
    torch.testing.assert_close(result, to_input((16, 16))(expected))


@given(config=CONFIGS, channels=st.sampled_from([1, 3]), seed=SEEDS)
def test_the_whole_transform_is_the_same_for_the_same_seed_and_leaves_the_images_alone(config, channels, seed):
    images = noise(4, channels, 8, 8)
    kept = images.clone()
    transform = TrainTransform(config, to_input((8, 8), channels))
    once, again = (transform(images, seeded(seed)) for _ in range(2))
    assert torch.equal(once, again)
    assert once.isfinite().all()
    assert torch.equal(images, kept)


def test_another_seed_gives_another_batch():
    images = noise(4, 3, 8, 8)
    transform = TrainTransform(EVERYTHING, to_input((8, 8)))
    assert not torch.allclose(transform(images, seeded(0)), transform(images, seeded(1)))


# threads


@pytest.fixture
def set_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_a_batch_in_chunks_is_the_batch_at_once(monkeypatch, set_threads):
    images = noise(30, 3, 8, 8)
    transform = TrainTransform(EVERYTHING, to_input((12, 12)))
    at_once = transform(images, seeded())
    for few, chunk, threads in ((0, 1000, 1), (0, 2**20, 3), (0, 1, 2)):
        monkeypatch.setattr(threaded, "_FEW", few)
        monkeypatch.setattr(threaded, "_CHUNK", chunk)
        set_threads(threads)
        torch.testing.assert_close(transform(images, seeded()), at_once)


def test_chunks_cover_the_batch_once_and_what_goes_wrong_in_a_thread_is_raised(monkeypatch, set_threads):
    monkeypatch.setattr(threaded, "_FEW", 0)
    set_threads(2)
    seen = []

    def change(images, positions):
        seen.append((positions.start, positions.stop))
        return images.float()

    images = noise(7, 1, 2, 2)
    assert torch.equal(change_threaded(change, images, (1, 2, 2)), images.float())
    assert sorted(seen) == [(0, 3), (3, 7)]
    with pytest.raises(ZeroDivisionError):
        change_threaded(lambda images, _part: images / (1 // 0), images, (1, 2, 2))


def test_threads_of_a_batch_compute_alone_and_leave_the_others_as_they_were(set_threads):
    set_threads(2)
    threaded._pool.cache_clear()
    assert list(threaded._pool(2).map(lambda _: torch.get_num_threads(), range(4))) == [1] * 4
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as later:
        assert later.submit(torch.get_num_threads).result() == 2


# what is asked for


@pytest.mark.parametrize(
    "changes",
    [
        {"shear": -1},
        {"shear": 90},
        {"grey": 1.5},
        {"grey": -0.1},
        {"policy_ops": 0},
        {"policy_magnitude": 31},
        {"policy_magnitude": -1},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(UsageError):
        AugmentConfig(**changes)
