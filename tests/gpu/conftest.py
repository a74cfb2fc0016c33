"""The device of the tests that need a GPU: these tests are skipped on a machine without a CUDA device.

``VIT_TEST_DEVICE=cpu uv run pytest tests/gpu`` rehearses on a CPU all that a CPU can do.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import torch

from tests.builders.trainers import device_of

DEVICE = torch.device(os.environ.get("VIT_TEST_DEVICE", "cuda"))
MemoryFor = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def device() -> torch.device:
    """A CUDA device, without an index, as ``--device cuda`` names it."""
    if DEVICE.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return DEVICE


@pytest.fixture
def gpu(device: torch.device) -> torch.device:
    """The device of a test that a CPU cannot rehearse."""
    if device.type == "cpu":
        pytest.skip("a CPU cannot do this")
    return device


@pytest.fixture(autouse=True)
def _nondeterministic() -> Iterator[None]:
    """``--deterministic`` holds for a process; here it holds for a test."""
    yield
    torch.use_deterministic_algorithms(mode=False)


@pytest.fixture
def memory_for(device: torch.device) -> MemoryFor:
    """``with memory_for(MEBIBYTES):`` has a GPU lack memory; a CPU pretends to have memory for two images."""

    @contextmanager
    def limited(mebibytes: int) -> Iterator[None]:
        torch.cuda.empty_cache()
        allowed = torch.cuda.memory_reserved() + mebibytes * 2**20
        torch.cuda.set_per_process_memory_fraction(allowed / torch.cuda.mem_get_info()[1])
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    return limited if device.type == "cuda" else lambda _mebibytes: device_of(2, judging=False)
