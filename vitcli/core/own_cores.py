"""The number of cores that the operations of PyTorch use in one thread, whatever other threads use."""

import ctypes
import functools
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path


def set_own_cores(count: int) -> bool:
    """Set the number of cores for the calling thread alone; return False if this build of PyTorch does not allow it.

    A thread has to call ``torch.get_num_threads`` before, which sets the number of the process.
    ``torch.set_num_threads`` would also tell MKL, for good, that it may start threads within threads, and attention in
    float32 then takes twice the time in all threads. MKL gets the number here too: after a call of
    ``torch.set_num_threads``, it would use several cores in threads that start later, but one core in older ones, and the
    last bits of a product depend on that.
    """
    of_openmp, of_mkl = _of_torch("omp_set_num_threads"), _of_torch("MKL_Set_Num_Threads_Local")
    if of_openmp is None:
        return False
    of_openmp(count)
    if of_mkl is not None:
        of_mkl(count)
    return True


@functools.cache
def _of_torch(name: str) -> Callable[[int], object] | None:
    """Return a function of a library that PyTorch uses, OpenMP or MKL; None: PyTorch uses none, or it is not known."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    ending = "dylib" if sys.platform == "darwin" else "so"
    try:
        # A search for the function in a library includes the libraries that this one uses
        library = ctypes.CDLL(str(Path(spec.origin).parent / "lib" / f"libtorch_cpu.{ending}"))
        function: Callable[[int], object] = getattr(library, name)
    except (OSError, AttributeError):
        return None
    return function
