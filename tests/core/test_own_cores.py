"""The number of cores that one thread uses."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vitcli.core.own_cores import set_own_cores


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not search the libraries of a library")
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
