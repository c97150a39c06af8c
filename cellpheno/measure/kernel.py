"""One way to compile the loops of this package."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile a loop with numba and keep the machine code for the next process.

    The code is kept beside the source or, where that is read-only, in numba's folder of the user. Where neither can be
    written each process compiles anew: slower to start, the same numbers.

    A kernel is called with one set of argument types only: processes that start together then write the same bytes
    into numba's cache, whichever comes last. It calls kernels of its own file only, because numba does not see an
    edit of another.

    Examples
    --------
    >>> @kernel
    ... def half(x):
    ...     return x / 2
    >>> half(3.0)
    1.5
    """
    compile_with = partial(njit, nogil=True, error_model="numpy")  # numpy: 0 / 0 is nan
    try:
        return cast(F, compile_with(cache=True)(function))
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
    return cast(F, compile_with()(function))
