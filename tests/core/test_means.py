"""Student's t distribution, against SciPy's."""

import pytest
from scipy import stats

from vitcli.core.means import interval_of_mean, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 30, 999])
def test_quantiles_are_those_of_scipy(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_the_interval_of_a_mean_is_that_of_scipy_within_0_and_1() -> None:
    values = [0.91, 0.93, 0.9, 0.94, 0.92]
    expected = stats.t.interval(0.95, 4, loc=0.92, scale=stats.sem(values))
    assert interval_of_mean(values) == pytest.approx(expected)
    assert interval_of_mean([0.1, 1.0]) == (0.0, 1.0)
    assert interval_of_mean([0.5, 0.5]) == (0.5, 0.5)
    assert interval_of_mean([0.5]) is None
