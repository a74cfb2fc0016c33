from pathlib import Path

import pytest
import torch

from vitcli.core import memory
from vitcli.core.memory import free_memory, is_out_of_memory, out_of_memory


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError(), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_means_that_memory_does_not_suffice(error: Exception, *, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


@pytest.mark.parametrize(
    ("said", "much"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of", " for 20.00 MiB more"),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1500000000 bytes.", " for 1.5 GB more"),
        ("Unable to allocate 3.64 TiB for an array with shape (1000000, 1000000)", " for 3.64 TiB more"),
        ("", ""),
    ],
)
def test_the_message_says_for_how_much(said: str, much: str) -> None:
    error = out_of_memory(MemoryError(said))
    assert error.message == f"there is not enough memory{much}"
    assert ("--device cpu" in error.hint) == ("CUDA" in said)


def test_what_torch_says_on_this_processor_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50)
    assert is_out_of_memory(caught.value)
    assert out_of_memory(caught.value).message == f"there is not enough memory for {2**52 / 1e9:.1f} GB more"


@pytest.mark.parametrize(
    ("system", "container", "free"),
    [
        ("MemTotal: 9 kB\nMemAvailable:    8 kB\n", {}, 8192),
        (
            "MemAvailable: 8 kB\n",
            {"memory.max": "max\n", "memory.current": "5", "memory.stat": "inactive_file 1"},
            8192,
        ),
        ("MemAvailable: 8 kB\n", {"memory.max": "90", "memory.current": "50", "memory.stat": "inactive_file 7"}, 47),
        ("MemAvailable: 8 kB\n", {"memory.max": "9", "memory.current": "50", "memory.stat": "inactive_file 7"}, 0),
        (
            "MemAvailable: 8 kB\n",
            {
                "memory/memory.limit_in_bytes": "90",
                "memory/memory.usage_in_bytes": "50",
                "memory/memory.stat": "total_inactive_file 3",
            },
            43,
        ),
        ("MemTotal: 9 kB\n", {}, None),
        ("other words", {}, None),
        (None, {}, None),
    ],
)
def test_free_memory_is_that_of_the_system_or_the_container(
    system: str | None, container: dict[str, str], free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (container | ({"meminfo": system} if system else {})).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(memory, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    assert free_memory() == free
