import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitcli.engine.class_weights import balanced, effective, scaled

COUNTS = st.lists(st.integers(1, 100_000), min_size=2, max_size=12)


@given(counts=COUNTS)
def test_balanced_weights_give_every_class_the_same_total(counts):
    weights = balanced(counts).numpy()
    np.testing.assert_allclose(weights * counts, np.ones(len(counts)))


@given(counts=COUNTS)
def test_effective_weights_are_those_of_cui_et_al(counts):
    """Formula (2) of "Class-balanced loss based on effective number of samples", 2019, by its sum."""
    beta = 0.999
    numbers = [(1 - beta**count) / (1 - beta) for count in counts]
    np.testing.assert_allclose(effective(counts).numpy(), [1 / number for number in numbers], rtol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 10, 3000])
def test_the_effective_number_counts_each_further_image_for_less(count):
    assert 1 / effective([count]).item() == pytest.approx(sum(0.999**before for before in range(count)))


def test_effective_weights_lie_between_equal_and_balanced_ones():
    counts = [10, 100, 10_000]
    ratios = [weigh(counts)[0] / weigh(counts)[2] for weigh in (effective, balanced)]
    assert 1 < ratios[0] < ratios[1] == pytest.approx(1000)


@given(counts=COUNTS, weights=st.lists(st.floats(0.01, 100), min_size=12, max_size=12))
def test_scaled_weights_have_a_mean_of_1_over_the_images(counts, weights):
    ours = scaled(torch.tensor(weights[: len(counts)]), counts)
    assert ours.dtype == torch.float32
    assert np.average(ours.numpy(), weights=counts) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(ours / ours[0], np.array(weights[: len(counts)]) / weights[0], rtol=1e-4)


@pytest.mark.parametrize("weigh", [balanced, effective])
def test_a_class_without_images_leaves_the_weights_of_the_others_as_they_are(weigh):
    weights = scaled(weigh([4, 0, 12]), [4, 0, 12])
    assert weights.isfinite().all()
    assert torch.equal(weights[[0, 2]], scaled(weigh([4, 12]), [4, 12]))
