from itertools import count

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitcli.engine.mixing import Mixing

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 12), st.integers(1, 12))
SEEDS = st.integers(0, 2**63 - 1)


def numbered(shape):
    """Image i holds the value i everywhere."""
    return torch.arange(shape[0]).float()[:, None, None, None].expand(shape).clone()


def build_mixing(*, seed, **alphas):
    return Mixing(**{"mixup": 0, "cutmix": 0, **alphas}, seed=seed)


def started(*, seed, epoch=1, **alphas):
    """One step of an epoch after the other."""
    mixing, steps = build_mixing(seed=seed, **alphas), count()
    return lambda images: mixing(images, epoch=epoch, step=next(steps))


@given(shape=SHAPES, seed=SEEDS, alpha=st.floats(0.1, 10))
def test_mixup_is_the_weighted_mean_with_the_image_at_the_other_end(shape, seed, alpha):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    mixed, share = started(mixup=alpha, seed=seed)(images)
    assert 0 <= share <= 1
    for index in range(shape[0]):
        expected = share * images[index] + (1 - share) * images[shape[0] - 1 - index]
        torch.testing.assert_close(mixed[index], expected, atol=1e-5, rtol=1e-5)


@given(shape=SHAPES, seed=SEEDS, alpha=st.floats(0.1, 10))
def test_cutmix_takes_each_pixel_from_one_of_both_images_and_the_share_counts_them(shape, seed, alpha):
    images = numbered(shape)
    mixed, share = started(cutmix=alpha, seed=seed)(images)
    assert 0 <= share <= 1
    for index in range(shape[0]):
        own, partner = mixed[index] == index, mixed[index] == shape[0] - 1 - index
        assert (own | partner).all()
        if index != shape[0] - 1 - index:
            assert own.double().mean().item() == pytest.approx(share)


@given(height=st.integers(1, 12), width=st.integers(1, 12), seed=SEEDS)
def test_cutmix_pastes_one_rectangle_at_the_same_place_in_all_images_and_channels(height, width, seed):
    mixed, share = started(cutmix=1, seed=seed)(numbered((2, 3, height, width)))
    pasted = mixed[0] == 1
    assert torch.equal(pasted, mixed[1] == 0)
    assert torch.equal(pasted, pasted[:1].expand_as(pasted))
    rows, columns = pasted[0].any(dim=1), pasted[0].any(dim=0)
    assert torch.equal(pasted[0], rows[:, None] & columns)
    assert all(line.int().diff().clamp(min=0).sum() + line[0].int() <= 1 for line in (rows, columns))
    assert (share == 1) == (not pasted.any())


@pytest.mark.parametrize("alphas", [{"mixup": 1}, {"cutmix": 1}, {"mixup": 1, "cutmix": 1}])
def test_images_that_go_in_stay_as_they_are(alphas):
    images = torch.randn(4, 3, 8, 8)
    before = images.clone()
    mixing = started(seed=0, **alphas)
    for _ in range(4):
        mixing(images)
    assert torch.equal(images, before)


def draws(mixing, times=5):
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return [mixing(images) for _ in range(times)]


def assert_same(these, those):
    for (images, share), (other_images, other_share) in zip(these, those, strict=True):
        assert share == other_share
        assert torch.equal(images, other_images)


@pytest.mark.parametrize("alphas", [{"mixup": 0.8}, {"cutmix": 1}, {"mixup": 0.8, "cutmix": 1}])
def test_a_step_draws_the_same_whatever_came_before(alphas):
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    fresh, used = build_mixing(seed=3, **alphas), build_mixing(seed=3, **alphas)
    for step in range(5):
        used(images, epoch=2, step=step)
    assert_same([fresh(images, epoch=2, step=4)], [used(images, epoch=2, step=4)])


def test_seeds_epochs_and_steps_draw_differently():
    shares = [
        [share for _, share in draws(started(mixup=1, seed=seed, epoch=epoch))]
        for seed, epoch in [(3, 1), (3, 2), (4, 1)]
    ]
    assert shares[0] != shares[1] != shares[2] != shares[0]
    assert len(set(shares[0])) == len(shares[0])


def test_with_both_on_each_batch_draws_one_of_them():
    mixing = started(mixup=1, cutmix=1, seed=0)
    images = numbered((2, 1, 16, 16))
    kinds = {"cutmix" if set(mixing(images)[0].unique().tolist()) <= {0.0, 1.0} else "mixup" for _ in range(40)}
    assert kinds == {"mixup", "cutmix"}


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_shares_follow_the_beta_distribution(name):
    def spread(alpha):
        mixing = started(seed=0, **{name: alpha})
        images = numbered((2, 1, 32, 32))
        shares = torch.tensor([mixing(images)[1] for _ in range(400)], dtype=torch.float64)
        return shares.mean().item(), shares.var().item()

    for alpha in (0.2, 1, 5):
        mean, variance = spread(alpha)
        assert mean == pytest.approx(0.5, abs=0.06)
        assert variance == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.25)


@pytest.mark.parametrize(("alphas", "is_on"), [({}, False), ({"mixup": 0.1}, True), ({"cutmix": 1}, True)])
def test_mixing_is_on_when_an_alpha_is_not_0(alphas, is_on):
    assert bool(build_mixing(seed=0, **alphas)) is is_on
