"""The number of cores that one thread uses."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vitcli.core.own_cores import set_own_cores

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not search the libraries of a library")


def test_a_thread_has_a_number_of_its_own() -> None:
    before = torch.get_num_threads()

    def within(count: int) -> int:
        torch.get_num_threads()
        assert set_own_cores(count)
        torch.ones(100, 100) @ torch.ones(100, 100)
        return torch.get_num_threads()

    with ThreadPoolExecutor(1) as pool:
        assert [pool.submit(within, count).result() for count in (1, 3, 2)] == [1, 3, 2]
    assert torch.get_num_threads() == before


def test_products_have_the_same_bits_in_every_thread_whenever_it_started() -> None:
    before = torch.get_num_threads()
    left, right = torch.randn(10, 32), torch.randn(48, 32)

    def product() -> torch.Tensor:
        torch.get_num_threads()
        assert set_own_cores(1)
        return torch.nn.functional.linear(left, right)

    try:
        torch.set_num_threads(1)
        with ThreadPoolExecutor(1) as early:
            first = early.submit(product).result()
            torch.set_num_threads(2)
            with ThreadPoolExecutor(1) as late:
                assert torch.equal(late.submit(product).result(), first)
    finally:
        torch.set_num_threads(before)
