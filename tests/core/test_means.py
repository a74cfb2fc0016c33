"""Student's t distribution, against SciPy's."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from vitcli.core.means import differences_from_first, interval_of_mean, t_quantile


def test_quantiles_are_those_of_scipy() -> None:
    for freedom in [1, 2, 3, 4, 5, 9, 30, 999]:
        assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9), freedom


def test_the_interval_of_a_mean_is_that_of_scipy_within_0_and_1() -> None:
    values = [0.91, 0.93, 0.9, 0.94, 0.92]
    expected = stats.t.interval(0.95, 4, loc=0.92, scale=stats.sem(values))
    assert interval_of_mean(values) == pytest.approx(expected)
    assert interval_of_mean([0.1, 1.0]) == (0.0, 1.0)
    assert interval_of_mean([0.5, 0.5]) is None
    assert interval_of_mean([0.5]) is None


def test_a_difference_of_two_rows_is_that_of_a_paired_t_test() -> None:
    rows = [[0.90, 0.93, 0.88, 0.91], [0.95, 0.94, 0.92, 0.97]]
    (found,) = differences_from_first(rows, images=10**9)
    test = stats.ttest_rel(rows[1], rows[0])
    assert found.mean == pytest.approx(0.04)
    assert found.interval == pytest.approx(tuple(test.confidence_interval(0.95)))


def test_several_rows_share_their_noise_and_the_error() -> None:
    rows = [[0.90, 0.93, 0.88], [0.95, 0.94, 0.92], [0.90, 0.95, 0.89]]
    first, second = differences_from_first(rows, images=10**9)
    values = np.array(rows)
    left = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    half = stats.t.ppf(1 - 0.025 / 2, 4) * np.sqrt(2 * (left**2).sum() / 4 / 3)
    for found, mean in ((first, values[1].mean()), (second, values[2].mean())):
        difference = mean - values[0].mean()
        assert found.mean == pytest.approx(difference)
        assert found.interval == pytest.approx((difference - half, difference + half))


def test_seeds_that_agree_by_chance_do_not_hide_that_there_are_few_images() -> None:
    """Each of three seeds got one image of 100 more: that is luck; 30 more are not."""
    (few,) = differences_from_first([[0.90] * 3, [0.91] * 3], images=300)
    assert few.interval[0] < 0 < few.interval[1]
    (many,) = differences_from_first([[0.60] * 3, [0.90] * 3], images=300)
    assert 0.2 < many.interval[0] < 0.3 < many.interval[1] < 0.4
    (none,) = differences_from_first([[0.9] * 3, [0.9] * 3], images=300)
    assert none.interval[0] < 0 < none.interval[1]
    (wide,) = differences_from_first([[0.0, 0.9], [1.0, 0.9]], images=10)
    assert wide.interval == (-1.0, 1.0)


def test_quantiles_of_other_errors_are_those_of_scipy() -> None:
    for error, freedom in product([0.05, 0.025, 0.005], [1, 2, 4, 30]):
        expected = pytest.approx(stats.t.ppf(1 - error / 2, freedom), rel=1e-9)
        assert t_quantile(freedom, error=error) == expected, (freedom, error)
