"""Colours against torchvision's and Python's own arithmetic, one image at a time."""

import colorsys
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.errors import UsageError
from vitcli.data.colour import _turned, changes_colours, random_colours, random_factors

SEEDS = st.integers(0, 2**63 - 1)
KINDS = ["brightness", "contrast", "saturation", "hue"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=1):
    return torch.randint(256, shape, dtype=torch.uint8, generator=seeded(seed))


def coloured(images, config, seed=0):
    """Pixels, 0..255."""
    values, gain, offset = random_colours(len(images), config, seeded(seed))(images, slice(0, len(images)))
    return gain * values + offset


def drawn(batch, config, seed):
    """The order of the changes and their factors."""
    generator = seeded(seed)
    order = torch.randperm(4, generator=generator).tolist()
    return order, random_factors(batch, config, generator)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, strength=st.sampled_from([0.4, 1.5]))
def test_each_change_is_torchvisions(kind, channels, seed, strength):
    if kind == "hue":
        strength = 0.4
    images = noise(4, channels, 6, 7, seed=seed % 1000)
    config = AugmentConfig(**{kind: strength})
    changed = coloured(images, config, seed)
    factors = drawn(4, config, seed)[1][KINDS.index(kind)].tolist()
    adjust = getattr(tv, f"adjust_{kind}")
    for image, result, factor in zip(images.float() / 255, changed, factors, strict=True):
        torch.testing.assert_close(result / 255, adjust(image, factor), rtol=0, atol=2e-3)


@given(seed=SEEDS)
def test_all_together_are_torchvisions_in_the_order_drawn(seed):
    images = noise(4, 3, 6, 7, seed=seed % 1000)
    config = AugmentConfig(brightness=0.6, contrast=0.6, saturation=0.6, hue=0.2)
    changed = coloured(images, config, seed)
    order, factors = drawn(4, config, seed)
    for index, (image, result) in enumerate(zip(images.float() / 255, changed, strict=True)):
        for change in order:
            image = getattr(tv, f"adjust_{KINDS[change]}")(image, float(factors[change, index]))  # noqa: PLW2901
        torch.testing.assert_close(result / 255, image, rtol=0, atol=4e-3)


def test_every_order_comes_equally_often():
    orders = [tuple(drawn(1, AugmentConfig(), seed)[0]) for seed in range(2400)]
    counts = [orders.count(order) for order in itertools.permutations(range(4))]
    assert sum(counts) == 2400
    assert min(counts) > 60
    assert max(counts) < 140


def test_strengths_above_1_do_not_make_factors_negative():
    factors = random_factors(1000, AugmentConfig(brightness=2, contrast=2, saturation=2), seeded())
    assert factors[:3].min() >= 0
    assert factors[:3].amin(dim=1).max() < 0.02
    assert factors[:3].amax(dim=1).min() > 2.98


@given(red=st.integers(0, 255), green=st.integers(0, 255), blue=st.integers(0, 255), turn=st.floats(-0.5, 0.5))
def test_hues_turn_as_in_pythons_colorsys(red, green, blue, turn):
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    wanted = torch.tensor(colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)) * 255
    pixel = torch.tensor([red, green, blue], dtype=torch.float32).view(1, 3, 1, 1)
    result = _turned(pixel, torch.tensor(turn, dtype=torch.float32).view(1, 1, 1))
    torch.testing.assert_close(result.flatten(), wanted, rtol=0, atol=0.05)


def test_colours_change_as_often_as_asked_and_pixels_stay_in_range():
    images = noise(400, 3, 4, 4)
    config = AugmentConfig(brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5, colour_probability=0.25)
    changed = coloured(images, config)
    share = ((changed - images).abs() > 0.01).flatten(1).any(dim=1).float().mean().item()
    assert 0.18 < share < 0.32
    assert changed.min() >= -1e-3
    assert changed.max() <= 255 + 1e-3


@pytest.mark.parametrize("colour_probability", [0, 1])
def test_images_turn_grey_as_torchvisions_do_and_as_often_as_asked(colour_probability):
    images = noise(1000, 3, 4, 4)
    changed = coloured(images, AugmentConfig(grey=0.3, colour_probability=colour_probability))
    is_grey = (changed == changed[:, :1]).flatten(1).all(dim=1)
    assert 0.26 < is_grey.float().mean().item() < 0.34
    expected = tv.rgb_to_grayscale(images.float() / 255, num_output_channels=3)
    torch.testing.assert_close(changed[is_grey] / 255, expected[is_grey], rtol=0, atol=1e-3)
    assert torch.equal(changed[~is_grey], images[~is_grey].float())


def test_grey_images_stay_as_they_are():
    images = noise(5, 1, 4, 4)
    assert torch.equal(coloured(images, AugmentConfig(grey=1, saturation=0.5, hue=0.5)), images.float())


def test_nothing_asked_is_nothing_changed():
    images = noise(5, 3, 4, 4)
    assert not changes_colours(AugmentConfig(flip=0.5))
    assert all(changes_colours(AugmentConfig(**{name: 0.1})) for name in (*KINDS, "grey"))
    assert torch.equal(coloured(images, AugmentConfig()), images.float())


def test_parts_of_a_batch_are_changed_as_in_the_batch():
    images = noise(7, 3, 4, 4)
    config = AugmentConfig(brightness=0.6, contrast=0.6, saturation=0.6, hue=0.2, grey=0.3)
    change = random_colours(7, config, seeded())
    for part in (slice(0, 3), slice(3, 4), slice(4, 7)):
        for piece, all_of_it in zip(change(images[part], part), change(images, slice(0, 7)), strict=True):
            torch.testing.assert_close(piece, all_of_it[part], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("changes", [{"hue": 0.6}, {"brightness": -0.1}, {"erase": 1.5}, {"colour_probability": 2}])
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(UsageError):
        AugmentConfig(**changes)
