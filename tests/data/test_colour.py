"""Colours against torchvision's and Python's own arithmetic, one image at a time."""

import colorsys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tv

from vitcli.core.config import AugmentConfig
from vitcli.core.errors import UsageError
from vitcli.data.colour import _turned, changes_colours, random_colours, random_erase

SEEDS = st.integers(0, 2**63 - 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=1):
    return torch.randint(256, shape, dtype=torch.uint8, generator=seeded(seed))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation", "hue"])
@given(seed=SEEDS)
def test_each_change_is_torchvisions(kind, channels, seed):
    if channels == 1 and kind in {"saturation", "hue"}:
        return
    images = noise(4, channels, 6, 7, seed=seed % 1000)
    strength = 0.4
    changed = random_colours(images, AugmentConfig(**{kind: strength}), seeded(seed))
    draws = 2 * torch.rand(5, 4, generator=seeded(seed)) - 1
    adjust = getattr(tv, f"adjust_{kind}")
    row = ["brightness", "contrast", "saturation", "hue"].index(kind)
    for image, result, draw in zip(images.float() / 255, changed, draws[row].tolist(), strict=True):
        factor = strength * draw if kind == "hue" else 1 + strength * draw
        torch.testing.assert_close(result / 255, adjust(image, factor), rtol=0, atol=2e-3)


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
    changed = random_colours(images, config, seeded())
    share = (changed != images).flatten(1).any(dim=1).float().mean().item()
    assert 0.18 < share < 0.32
    assert changed.min() >= 0
    assert changed.max() <= 255 + 1e-3


def test_nothing_asked_is_nothing_changed():
    images = noise(5, 3, 4, 4)
    assert not changes_colours(AugmentConfig(flip=0.5))
    assert torch.equal(random_colours(images, AugmentConfig(), seeded()), images.float())


@given(seed=SEEDS, height=st.integers(4, 40), width=st.integers(4, 40))
def test_erasing_fills_one_rectangle_of_a_fair_size(seed, height, width):
    images = torch.full((6, 3, height, width), 1000.0)
    erased = random_erase(images, 1.0, seeded(seed))
    for image in erased:
        places = (image != 1000).all(dim=0)
        assert torch.equal(places, (image != 1000).any(dim=0))
        if not places.any():
            continue  # in so small an image no rectangle may fit
        rows, columns = places.any(dim=1).nonzero(), places.any(dim=0).nonzero()
        tall, wide = (int(each.max() - each.min()) + 1 for each in (rows, columns))
        assert places.sum() == tall * wide
        assert tall * wide <= 0.5 * height * width + 8
    assert (images == 1000).all()


def test_erasing_comes_as_often_as_asked_and_everywhere():
    erased = random_erase(torch.full((2000, 1, 16, 16), 1000.0), 0.2, seeded())
    places = (erased != 1000).flatten(1)
    assert 0.17 < places.any(dim=1).float().mean().item() < 0.23
    assert places.any(dim=0).all()
    area = places[places.any(dim=1)].float().mean().item()
    assert 0.13 < area < 0.21


@pytest.mark.parametrize("changes", [{"hue": 0.6}, {"brightness": -0.1}, {"erase": 1.5}, {"colour_probability": 2}])
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(UsageError):
        AugmentConfig(**changes)
