"""Nearest neighbours, near-duplicates and outliers: against all distances computed at once, and on planted images."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitcli.judging.neighbours import directions, find_outliers, groups_within, near_distance, nearest


def clusters(images: int, kinds: int = 8, width: int = 24, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(kinds, width, generator=generator)
    noise = 0.4 * torch.randn(images, width, generator=generator)
    return directions(centres[torch.arange(images) % kinds] + noise)


def all_distances(features: Tensor) -> NDArray[np.float64]:
    exact = features.double().numpy()
    distances = 1 - exact @ exact.T
    np.fill_diagonal(distances, np.inf)
    return distances


def test_directions_have_no_mean_and_length_one() -> None:
    features = directions(torch.rand(50, 8) + 3)
    assert features.norm(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    assert (directions(torch.ones(3, 8)) == 0).all(), "equal images have no direction, and no NaN"


@pytest.mark.parametrize("images", [2, 7, 300, 1500])
def test_neighbours_are_the_nearest(images: int) -> None:
    features = clusters(images)
    found, distances = nearest(features, count=5), all_distances(features)
    assert found.found == 1
    assert found.images.shape == (images, min(5, images - 1))
    expected = np.sort(distances, axis=1)[:, : found.images.shape[1]]
    assert found.distances == pytest.approx(expected, abs=1e-5)
    assert np.take_along_axis(distances, found.images, 1) == pytest.approx(expected, abs=1e-5)


def test_cells_find_nearly_all_neighbours_and_every_copy() -> None:
    features = clusters(3000, kinds=40)
    features[:20] = directions(torch.cat([features[20:40] + 1e-3 * features[40:60], features]))[:20]
    found = nearest(features, all_pairs=1000)
    true = np.argsort(all_distances(features), axis=1)[:, :10]
    share = np.mean(
        [len({*one} & {*other}) / 10 for one, other in zip(found.images.tolist(), true.tolist(), strict=True)]
    )
    assert share > 0.9
    assert found.found == pytest.approx(share, abs=0.05), "as it says"
    assert (found.images != np.arange(3000)[:, None]).all()
    pairs = {tuple(each) for each in groups_within(found, near_distance(found))}
    assert pairs == {(at, at + 20) for at in range(20)}


def test_groups_join_chains_and_come_nearest_first() -> None:
    angles = torch.tensor([0.0, 0.02, 0.04, 1.0, 1.01, 2.0, 3.0])
    found = nearest(torch.stack([angles.cos(), angles.sin()], dim=1), count=2)
    groups = groups_within(found, 1 - float(np.cos(0.025)))
    assert [each.tolist() for each in groups] == [[3, 4], [0, 1, 2]]
    assert groups_within(found, -1.0) == []


def test_equal_images_are_near_even_if_most_have_a_copy() -> None:
    features = clusters(30).repeat(2, 1)
    found = nearest(features)
    assert len(groups_within(found, near_distance(found))) == 30


def test_what_is_far_from_all_is_an_outlier() -> None:
    features = clusters(400)
    strange = directions(torch.randn(3, 24, generator=torch.Generator().manual_seed(5)))
    images, distances = find_outliers(nearest(torch.cat([features, strange])))
    assert {400, 401, 402} <= {*images.tolist()}
    assert len(images) < 10
    assert (np.diff(distances) <= 0).all()
    assert len(find_outliers(nearest(features))[0]) <= 4
