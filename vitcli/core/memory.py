"""Recognise errors of libraries that mean a lack of memory, and explain them to the user."""

import re

from vitcli.core.errors import VitError
from vitcli.core.files import bytes_in_words

_WORDS = (
    *("can't allocate memory", "not enough memory", "out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "could not create a primitive"),
)
"""Of RuntimeErrors that mean it: those of the CPU's allocator here and on Windows, of MPS, of CUDA's libraries, of oneDNN."""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means a lack of memory; torch's is a type on GPUs, elsewhere some words."""
    if isinstance(error, MemoryError):
        return True
    has_words = type(error).__name__ == "OutOfMemoryError" or any(words in str(error) for words in _WORDS)
    return isinstance(error, RuntimeError) and has_words


def out_of_memory(error: BaseException) -> VitError:
    """A message in place of an error that says that memory did not suffice; most say for how much."""
    found = re.search(r"allocate ([\d.]+) (\w+)", str(error))
    much = ""
    if found:
        much = bytes_in_words(int(found[1])) if found[2] == "bytes" else f"{found[1]} {found[2]}"
    elsewhere = "--device cpu, " if re.search("CUDA|MPS", str(error)) else ""
    return VitError(
        f"there is not enough memory{f' for {much} more' if much else ''}",
        hint=f"{elsewhere}fewer or smaller images at once, a smaller model, or end what else takes memory;"
        " VIT_DEBUG=1 shows where",
    )
