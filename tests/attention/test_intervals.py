import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vitcli.attention import intervals
from vitcli.attention.intervals import bootstrap


@given(
    arrays(
        np.float64,
        array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.floats(-1e3, 1e3, allow_subnormal=False),
    )
)
def test_intervals_hold_the_mean(values):
    for interval, column in zip(bootstrap(values), values.T, strict=True):
        assert interval.low <= interval.mean <= interval.high
        assert interval.mean == pytest.approx(column.mean())
        assert column.min() - 1e-9 <= interval.low
        assert interval.high <= column.max() + 1e-9


def test_of_many_samples_95_percent_of_the_intervals_hold_the_truth():
    samples = np.random.default_rng(0).normal(0.3, 2.0, size=(60, 1000))
    found = bootstrap(samples)
    covered = np.mean([interval.low <= 0.3 <= interval.high for interval in found])
    assert 0.91 < covered < 0.97
    width = np.mean([interval.high - interval.low for interval in found])
    assert width == pytest.approx(2 * 1.96 * 2.0 / 60**0.5, rel=0.05)


def test_many_images_are_drawn_in_pieces_with_the_same_result(monkeypatch):
    values = np.random.default_rng(0).normal(size=(30, 3))
    whole = bootstrap(values)
    monkeypatch.setattr(intervals, "_AT_ONCE", 30 * 7)
    for one, other in zip(whole, bootstrap(values), strict=True):
        assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_a_higher_level_is_a_wider_interval():
    values = np.random.default_rng(0).normal(size=(50, 1))
    (usual,), (wide,) = bootstrap(values), bootstrap(values, level=0.995)
    assert wide.low < usual.low
    assert usual.high < wide.high


def test_a_seed_gives_the_same_intervals_and_columns_see_the_same_images():
    values = np.random.default_rng(0).normal(size=(30, 2))
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=1)
    first, second = bootstrap(np.stack([values[:, 0], values[:, 0] + 5], axis=1))
    assert second.high - second.low == pytest.approx(first.high - first.low)
    (difference,) = bootstrap(np.full((30, 1), 5.0))
    assert (difference.low, difference.high) == (5, 5)
