"""Memory that a layer's maps leave is kept for the next layer's, not given back to the system each time."""

import ctypes
import functools
import gc
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3)
_LARGEST = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Let the C library keep freed memory of this process for its next allocations; no result depends on it.

    `give_back_freed_memory` ends that for what is free by then.

    Maps of more than 32 MB come from the system as fresh pages and go back at once, layer for layer, and filling them
    with zeros can cost more than the convolutions: features of tiles were made in 7 s in place of 18. The process holds
    its peak; all threads share one store, or each that reads ahead would hold a peak of its own.

    Returns
    -------
    bool
        Whether the C library took the setting; only glibc has it.

    Examples
    --------
    >>> keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    True
    """
    if (library := _glibc()) is None:
        return False
    settings = ((_MMAP_THRESHOLD, 2**30), (_TRIM_THRESHOLD, _LARGEST), (_ARENA_MAX, 1))
    return all(library.mallopt(name, value) for name, value in settings)


def give_back_freed_memory() -> None:
    """Give free memory back to the system: what a training held is not that of the next one in the same process."""
    gc.collect()  # a trainer and its loops hold each other
    if (library := _glibc()) is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
