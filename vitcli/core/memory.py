"""The free memory of the machine, out-of-memory errors of libraries, and messages for them."""

import re
from contextlib import suppress
from pathlib import Path

from vitcli.core.errors import VitError
from vitcli.core.files import bytes_in_words

_MEMORY, _CONTAINER = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
_CONTAINERS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)
"""Files about a container's limit, its use and the parts of this, and the part that is free (versions 2 and 1 of cgroups)."""
_WORDS = (
    *("can't allocate memory", "not enough memory", "out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "could not create a primitive"),
)
"""Words in RuntimeErrors that mean out of memory: from the CPU allocator on Linux and Windows, MPS, CUDA and oneDNN."""


def free_memory() -> int | None:
    """Return the bytes of memory that this process may still take; None: it is not known, as outside of Linux.

    Linux may grant more memory than exists and end the process later, without an error that could be caught.
    """
    try:
        facts = dict(line.split(":") for line in _MEMORY.read_text(encoding="ascii").splitlines())
        free = 1024 * int(facts["MemAvailable"].split()[0])
    except (OSError, ValueError, LookupError):
        return None
    for limit_file, used_file, stat_file, unused in _CONTAINERS:
        with suppress(OSError, ValueError, LookupError):  # a container may have less; files in memory can be read again
            limit, used = (int((_CONTAINER / name).read_text()) for name in (limit_file, used_file))
            parts = dict(line.split() for line in (_CONTAINER / stat_file).read_text().splitlines())
            free = min(free, max(limit - used + int(parts[unused]), 0))
    return free


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means out of memory; torch has a type for it on GPUs, and only a message elsewhere."""
    if isinstance(error, MemoryError):
        return True
    has_words = type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in _WORDS)
    return isinstance(error, RuntimeError) and has_words


def out_of_memory(error: BaseException) -> VitError:
    """Turn an out-of-memory error into an error for the user, with the missing amount if the original names it."""
    found = re.search(r"allocate ([\d.]+) (\w+)", str(error))
    much = ""
    if found:
        much = bytes_in_words(int(found[1])) if found[2] == "bytes" else f"{found[1]} {found[2]}"
    elsewhere = "--device cpu, " if re.search("CUDA|MPS", str(error)) else ""
    return VitError(
        f"there is not enough memory{f' for {much} more' if much else ''}",
        hint=f"{elsewhere}fewer or smaller images at once, a smaller model, or end other programs that use memory;"
        " VIT_DEBUG=1 shows where",
    )
