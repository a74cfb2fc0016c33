"""Scores of maps, against models of which it is known what they look at."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter

from vitcli.attention import faithfulness
from vitcli.attention.faithfulness import (
    HIGHER_IS_BETTER,
    area,
    blurred,
    energy_inside,
    points_at,
    removal_curves,
    removal_order,
    score_maps,
    step_counts,
)

GRID, PATCH = (2, 3), 4
SIZE = (GRID[0] * PATCH, GRID[1] * PATCH)
WEIGHTS = torch.tensor([[0.5, 3.0, 1.0], [2.0, 0.2, 1.5]])
"""How much each patch's brightness adds to the logit of class 0."""


def patch_means(images):
    return images.unflatten(3, (GRID[1], PATCH)).unflatten(2, (GRID[0], PATCH)).mean(dim=(1, 3, 5))


def additive(images):
    """Two logits: the weighted brightness of the patches, and a threshold."""
    own = (patch_means(images) * WEIGHTS).sum(dim=(1, 2))
    return torch.stack([own, torch.full_like(own, 4.0)], dim=1)


def first_patch_alone(images):
    """A probability that is a linear function of one patch: 0.1 where it is dark, 0.9 where it is bright."""
    probability = 0.1 + 0.8 * patch_means(images)[:, 0, 0]
    return torch.stack([probability, 1 - probability], dim=1).log()


def random_image(seed=0):
    return torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(seed))


def random_maps(count, seed=1, grid=GRID):
    return torch.randn(count, *grid, generator=torch.Generator().manual_seed(seed))


def scored(maps, image=None, *, classify=additive, expected=0, seed=0):
    image = torch.ones(3, *SIZE) if image is None else image
    return score_maps(classify, image, maps, target=0, expected=expected, seed=seed)


@given(st.integers(1, 2000))
def test_steps_go_from_none_to_all_in_tenths_and_are_the_same_backwards(patches):
    counts = step_counts(patches)
    assert counts[0] == 0
    assert counts[-1] == patches
    assert counts == sorted(set(counts))
    assert [patches - count for count in reversed(counts)] == counts
    assert len(counts) <= 12
    assert max(after - before for before, after in itertools.pairwise(counts)) <= math.ceil(patches / 10)


def test_steps_of_usual_grids():
    assert step_counts(6) == [0, 1, 2, 3, 4, 5, 6]
    assert step_counts(196) == [0, 20, 39, 59, 78, 98, 118, 137, 157, 176, 196]


def test_of_all_orders_none_is_better_than_the_truth_and_none_worse_than_its_reverse():
    orders = torch.tensor(list(itertools.permutations(range(6)))).view(-1, *GRID).float()
    every, truth, reverse = scored(orders), scored(WEIGHTS[None]), scored(-WEIGHTS[None])
    for name, is_higher in HIGHER_IS_BETTER.items():
        if name.endswith("blur"):
            continue  # an even image looks the same blurred
        best, worst = (every[name].max(), every[name].min()) if is_higher else (every[name].min(), every[name].max())
        assert truth[name] == pytest.approx(best.item(), abs=1e-6)
        assert reverse[name] == pytest.approx(worst.item(), abs=1e-6)
        assert (best - every[name].mean()) * (every[name].mean() - worst) > 0


def test_areas_by_hand():
    oracle = torch.zeros(1, *GRID)
    oracle[0, 0, 0] = 1
    best, worst = scored(oracle, classify=first_patch_alone), scored(-oracle, classify=first_patch_alone)
    assert best["deletion"].item() == pytest.approx((0.5 + 5 * 0.1) / 6)
    assert best["insertion"].item() == pytest.approx((0.5 + 5 * 0.9) / 6)
    assert worst["deletion"].item() == pytest.approx((0.5 + 5 * 0.9) / 6)
    assert worst["insertion"].item() == pytest.approx((0.5 + 5 * 0.1) / 6)
    assert best["positive"].item() == pytest.approx(0.5 / 5)  # right, then wrong for good; the last step is left out
    assert best["negative"].item() == 1
    assert worst["positive"].item() == 1
    assert worst["negative"].item() == pytest.approx(0.5 / 5)


def test_an_even_image_that_is_blurred_stays_and_so_do_its_scores():
    scores = scored(random_maps(5))
    assert scores["deletion_blur"].tolist() == pytest.approx(scores["insertion_blur"].tolist())


def slow_scores(image, weights, *, expected):
    """The definitions, word by word: a loop over steps and patches."""
    blur = np.stack([slow_blur(channel) for channel in image.numpy()])
    order = np.argsort(-weights.numpy().ravel())
    counts = step_counts(6)

    def answer(shown, fill):
        picture = fill.copy()
        for patch in shown:
            row, column = divmod(int(patch), GRID[1])
            here = np.s_[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            picture[here] = image.numpy()[here]
        logits = additive(torch.from_numpy(picture)[None])[0].numpy()
        return np.exp(logits[0]) / np.exp(logits).sum(), float(logits.argmax() == expected)

    scores = {}
    for suffix, fill in (("", np.zeros_like(image.numpy())), ("_blur", blur)):
        deletion = [answer(order[count:], fill)[0] for count in counts]
        insertion = [answer(order[:count], fill)[0] for count in counts]
        scores["deletion" + suffix] = trapezoid(deletion, dx=1 / 6)
        scores["insertion" + suffix] = trapezoid(insertion, dx=1 / 6)
    none = np.zeros_like(image.numpy())
    scores["positive"] = trapezoid([answer(order[count:], none)[1] for count in counts[:-1]], dx=1 / 5)
    scores["negative"] = trapezoid([answer(order[: 6 - count], none)[1] for count in counts[:-1]], dx=1 / 5)
    return scores


def slow_blur(channel):
    deviation = min(SIZE) / 4
    blur, ones = (
        gaussian_filter(each, deviation, mode="constant", truncate=10) for each in (channel, np.ones_like(channel))
    )
    return blur / ones


@pytest.mark.parametrize("expected", [0, 1])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_a_slow_loop(seed, expected):
    image, maps = 2 * random_image(seed) + 1, random_maps(4, seed)
    found = scored(maps, image, expected=expected)
    for index, weights in enumerate(maps):
        slow = slow_scores(image, weights, expected=expected)
        assert {name: values[index].item() for name, values in found.items()} == pytest.approx(slow, abs=1e-5)


def test_blur_is_that_of_scipy_with_nothing_beyond_the_border():
    image = random_image()
    expected = np.stack([slow_blur(channel) for channel in image.numpy()])
    np.testing.assert_allclose(blurred(image), expected, atol=1e-5)


@given(st.lists(st.integers(-3, 3), min_size=6, max_size=6), st.integers(0, 100))
def test_curves_of_a_model_that_adds_brightness_only_fall_or_rise(weights, seed):
    places = removal_order(torch.tensor(weights).view(1, *GRID).float(), seed=seed)
    image = torch.ones(3, *SIZE)
    curves = removal_curves(additive, image, torch.zeros_like(image), places, target=0, expected=0)
    assert (curves.deletion.diff() <= 0).all()
    assert (curves.insertion.diff() >= 0).all()
    assert (curves.positive.diff() <= 0).all()
    assert (curves.negative.diff() <= 0).all()
    torch.testing.assert_close(curves.deletion[:, 0], curves.insertion[:, -1])
    torch.testing.assert_close(curves.positive[:, 0], curves.negative[:, 0])


@given(st.integers(0, 1000))
def test_only_the_order_of_weights_counts(seed):
    image, maps = random_image(seed), random_maps(2, seed)
    plain, bent = scored(maps, image), scored(3 * maps.exp() - 7, image)
    assert {name: values.tolist() for name, values in plain.items()} == {
        name: values.tolist() for name, values in bent.items()
    }


def test_maps_do_not_see_each_other():
    image, maps = random_image(), random_maps(3)
    together = scored(maps, image)
    for index in range(3):
        alone = scored(maps[[index]], image)
        for name, values in together.items():
            assert values[index].item() == pytest.approx(alone[name].item(), abs=1e-6)


def test_signed_weights_are_ordered_by_their_value():
    order = removal_order(torch.tensor([[[-5.0, 0.0, 1.0], [-1.0, 2.0, 0.5]]]), seed=0)
    assert order.tolist() == [[[5, 3, 1], [4, 0, 2]]]


def test_equal_weights_favour_no_position():
    flat = torch.zeros(1, *GRID)
    orders = torch.cat([removal_order(flat, seed=seed) for seed in range(600)]).float()
    assert orders.mean(dim=0).flatten().tolist() == pytest.approx([2.5] * 6, abs=0.3)
    assert all(sorted(order.flatten().tolist()) == list(range(6)) for order in orders)


def test_ties_are_broken_within_equal_weights_alone_and_the_same_way_for_a_seed():
    weights = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 2.0]]])
    orders = [removal_order(weights, seed=seed) for seed in range(50)]
    assert {order[0, 1, 2].item() for order in orders} == {0}
    assert {order[0, 0, 0].item() for order in orders} == {1, 2}
    assert {order[0, 1, 1].item() for order in orders} == {3, 4, 5}
    assert torch.equal(removal_order(weights, seed=7), orders[7])


def test_a_map_of_zeros_scores_as_noise_does():
    zeros, noise = [], []
    for seed in range(100):
        zeros.append(torch.stack(list(scored(torch.zeros(1, *GRID), seed=seed).values())))
        noise.append(torch.stack(list(scored(random_maps(1, seed + 1000), seed=seed).values())))
    difference = torch.cat(zeros, dim=1) - torch.cat(noise, dim=1)
    error = difference.std(dim=1) / math.sqrt(100)
    assert (difference.mean(dim=1).abs() <= 3 * error + 1e-6).all()
    assert (torch.cat(zeros, dim=1)[0].std() > 0.01).item()


def test_pictures_that_maps_share_are_looked_at_once_and_batches_are_bounded(monkeypatch):
    seen = []

    def classify(images):
        seen.append(len(images))
        return additive(images)

    image, maps = random_image(), random_maps(4)
    whole = scored(torch.cat([maps, maps, -maps]), image, classify=classify)
    distinct = len({tuple(kept) for kept in _shown(torch.cat([maps, -maps]))})
    assert seen == [distinct, distinct]  # one batch for each fill
    seen.clear()
    monkeypatch.setattr(faithfulness, "_PIXELS", 5 * image.numel())
    pieces = scored(torch.cat([maps, maps, -maps]), image, classify=classify)
    assert max(seen) == 5
    for name, values in whole.items():
        torch.testing.assert_close(pieces[name], values)


def _shown(maps):
    for weights in maps:
        order = weights.flatten().argsort(descending=True).tolist()
        for count in range(7):
            yield sorted(order[:count])
            yield sorted(order[count:])


def test_area_is_the_mean_height():
    assert area(torch.tensor([[1.0, 0.0]]), torch.tensor([0.0, 0.9])).tolist() == pytest.approx([0.5])
    assert area(torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([0.0, 0.2, 1.0])).tolist() == pytest.approx([0.1])


MASK = torch.zeros(1, *SIZE, dtype=torch.bool)
MASK[0, 2:4, 4:8] = True  # the lower half of the middle patch above


def test_the_strongest_patch_points_at_the_object_or_not():
    maps = torch.zeros(3, *GRID)
    maps[0, 0, 1] = 1
    maps[1, 1, 1] = 1
    maps[2, 0, 1] = maps[2, 0, 0] = 1
    assert points_at(maps, MASK.expand(3, -1, -1)).tolist() == [1, 0, 0.5]


def test_a_map_of_zeros_points_at_an_object_as_often_as_chance_does():
    assert points_at(torch.zeros(1, *GRID), MASK).item() == pytest.approx(1 / 6)
    assert energy_inside(torch.zeros(1, *GRID), MASK).item() == pytest.approx(1 / 12)
    assert energy_inside(-torch.ones(1, *GRID), MASK).item() == pytest.approx(1 / 12)


def test_energy_inside_is_that_of_pixels():
    maps = random_maps(3)
    pixels = maps.relu().repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    expected = (pixels * MASK).sum(dim=(1, 2)) / pixels.sum(dim=(1, 2))
    torch.testing.assert_close(energy_inside(maps, MASK.expand(3, -1, -1)), expected)
