import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitcli.data.erase import random_erase, random_rectangles

SEEDS = st.integers(0, 2**63 - 1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@given(seed=SEEDS, height=st.integers(1, 40), width=st.integers(1, 40))
def test_erasing_fills_one_rectangle_of_a_fair_size(seed, height, width):
    images = random_erase(torch.full((6, 3, height, width), 1000.0), 1.0, seeded(seed))
    for image in images:
        places = (image != 1000).all(dim=0)
        assert torch.equal(places, (image != 1000).any(dim=0))
        if not places.any():
            continue  # in so small an image no rectangle may fit
        rows, columns = places.any(dim=1).nonzero(), places.any(dim=0).nonzero()
        tall, wide = (int(each.max() - each.min()) + 1 for each in (rows, columns))
        assert places.sum() == tall * wide
        assert tall * wide <= 0.5 * height * width + 8


@given(seed=SEEDS, height=st.integers(1, 40), width=st.integers(1, 40))
def test_rectangles_lie_inside_and_leave_a_row_and_a_column(seed, height, width):
    top, left, tall, wide = random_rectangles(20, height, width, seeded(seed))
    assert min(top.min(), left.min(), tall.min(), wide.min()) >= 0
    assert (top + tall <= height).all()
    assert (left + wide <= width).all()
    assert (tall < height).all()
    assert (wide < width).all()


def test_erasing_comes_as_often_as_asked_and_everywhere():
    images = random_erase(torch.full((2000, 1, 16, 16), 1000.0), 0.2, seeded())
    places = (images != 1000).flatten(1)
    assert 0.17 < places.any(dim=1).float().mean().item() < 0.23
    assert places.any(dim=0).all()
    area = places[places.any(dim=1)].float().mean().item()
    assert 0.13 < area < 0.21


def test_noise_is_normal_and_differs_between_channels_and_images():
    images = random_erase(torch.full((200, 3, 32, 32), 1000.0), 1.0, seeded())
    noise = images[images != 1000]
    assert noise.mean().item() == pytest.approx(0, abs=0.02)
    assert noise.std().item() == pytest.approx(1, abs=0.02)
    assert noise.unique().numel() > 0.99 * noise.numel()


@pytest.mark.parametrize("probability", [0.0, 1e-9])
def test_no_image_chosen_is_nothing_changed(probability):
    assert (random_erase(torch.ones(5, 3, 8, 8), probability, seeded()) == 1).all()
