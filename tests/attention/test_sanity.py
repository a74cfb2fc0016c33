import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import spearmanr

from vitcli.attention.sanity import completeness_error, rank_correlation

SOME_MAPS = arrays(np.float32, (2, 2, 3), elements=st.integers(-3, 3).map(float))


@given(SOME_MAPS)
def test_rank_correlation_is_that_of_scipy_with_ties(maps):
    first, second = maps
    assume(np.ptp(first) > 0)
    assume(np.ptp(second) > 0)
    found = rank_correlation(torch.from_numpy(first)[None], torch.from_numpy(second)[None])
    assert found.item() == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic, abs=1e-5)


def test_rank_correlation_of_many_large_maps():
    first, second = torch.randn(2, 5, 14, 16, generator=torch.Generator().manual_seed(0))
    second += first
    expected = [spearmanr(a.ravel(), b.ravel()).statistic for a, b in zip(first, second, strict=True)]
    assert rank_correlation(first, second).tolist() == pytest.approx(expected, abs=1e-5)


def test_a_constant_map_is_like_itself_alone():
    flat, other = torch.full((1, 2, 3), 0.5), torch.arange(6.0).view(1, 2, 3)
    assert rank_correlation(flat, flat).item() == 1
    assert rank_correlation(flat, other).item() == 0
    assert rank_correlation(other, flat).item() == 0
    assert rank_correlation(other, -other).item() == pytest.approx(-1)


def test_completeness_error_is_the_missing_share_of_all_change():
    assert completeness_error(torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0])) == 0
    assert completeness_error(torch.tensor([0.9, -2.0]), torch.tensor([1.0, -1.0])) == pytest.approx(0.55)
    assert completeness_error(torch.zeros(2), torch.zeros(2)) == 0
    assert completeness_error(torch.ones(2), torch.zeros(2)) == 1
