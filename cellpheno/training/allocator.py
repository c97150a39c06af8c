"""Memory that a layer's maps leave is kept for the next layer's, not given back to the system each time."""

import ctypes
import functools
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of mallopt(3)
_LARGEST = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Let the C library keep freed memory of this process for its next allocations; no result depends on it.

    Maps of more than 32 MB come from the system as fresh pages and go back at once, layer for layer, and filling them
    with zeros can cost more than the convolutions: features of tiles were made in 7 s in place of 18. The process holds
    its peak until it ends; all threads share one store, or each that reads ahead would hold a peak of its own.

    Returns
    -------
    bool
        Whether the C library took the setting; only glibc has it.

    Examples
    --------
    >>> keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    settings = ((_MMAP_THRESHOLD, 2**30), (_TRIM_THRESHOLD, _LARGEST), (_ARENA_MAX, 1))
    return all(library.mallopt(name, value) for name, value in settings)
